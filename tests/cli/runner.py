"""The command line as it is typed."""

import click.testing

from bn_keras.cli import cli


def typed(*arguments):
    """The exit code of `bn-keras` with these arguments, and what it printed."""
    result = click.testing.CliRunner().invoke(cli, [str(argument) for argument in arguments], prog_name="bn-keras")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output
