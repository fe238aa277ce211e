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
from bn_keras.cli.doctor import doctor
from bn_keras.cli.export import export
from bn_keras.cli.page import page
from bn_keras.cli.presets import presets
from bn_keras.cli.train import train


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, invoke_without_command=True)
@click.option(
    "--verbose",
    is_flag=True,
    envvar="BN_KERAS_VERBOSE",
    show_envvar=True,
    help="Show what TensorFlow logs while a command runs.",
)
@click.version_option(__version__, package_name="bn_keras")
@click.pass_context
def cli(context, verbose):
    """Normalization for Keras: train with it, measure it, export it.

    \b
    Start here:
      bn-keras train mlp_sigmoid             train a network on 8x8 digits: seconds, no network
      bn-keras compare mlp_sigmoid --quick   compare it with and without batch norm: two minutes
      bn-keras export run/model.keras served write the trained model for serving

    `bn-keras COMMAND --help` shows the options of a command.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


for command in (bench, claims, compare, doctor, export, page, presets, train):
    cli.add_command(command)

main = cli
