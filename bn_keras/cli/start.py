"""Loads Keras when a command begins to work: help, completion and most usage errors do without."""

import importlib

import click

from bn_keras.lab.quiet import import_tensorflow


def load_keras() -> None:
    """Imports TensorFlow, Keras and bn_keras; `bn-keras --verbose` shows what TensorFlow logs."""
    verbose = click.get_current_context().find_root().params.get("verbose", False)
    try:
        import_tensorflow(verbose)
        importlib.import_module("bn_keras.exports")
    except ImportError as error:
        raise click.ClickException(str(error)) from None
