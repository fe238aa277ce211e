"""The command line, `bn-keras`: one module per command, each of which imports what it needs when it runs."""

import sys

try:
    import click
except ImportError as error:
    sys.exit(f"bn-keras needs click ({error}). Install an extra that has it: pip install 'bn_keras[lab]' or [export]")

from bn_keras import __version__
from bn_keras.cli.bench import bench
from bn_keras.cli.claims import claims
from bn_keras.cli.compare import compare
from bn_keras.cli.export import export
from bn_keras.cli.page import page
from bn_keras.cli.presets import presets
from bn_keras.cli.train import train


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, package_name="bn_keras")
def cli():
    """Normalization for Keras: train with it, measure it, export it."""


for command in (bench, claims, compare, export, page, presets, train):
    cli.add_command(command)

main = cli
