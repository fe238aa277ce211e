"""How commands fail: with a sentence and an exit code, 1 for a failure and 2 for a usage error."""

import contextlib
from collections.abc import Iterator

import click

from bn_keras.lab.extras import MissingPackageError
from bn_keras.lab.results import ResultsError


@contextlib.contextmanager
def needs(extra: str) -> Iterator[None]:
    """Turns an `ImportError` in the block into an error that names the extra to install.

    Args:
        extra: One or more extras, separated by commas, such as `"lab,export"`; `""` leaves errors as they are.
    """
    try:
        yield
    except ImportError as error:
        if not extra:
            raise
        command = click.get_current_context().command_path
        reason = f"{error.name!r} is not installed" if isinstance(error, MissingPackageError) else error
        raise click.ClickException(
            f"`{command}` needs packages of the extra {extra!r}: {reason}. "
            f"Install them: pip install 'bn_keras[{extra}]'"
        ) from None


def options_in(error: Exception) -> str:
    """The message of an error, with `--image-size` for `image_size` where the command has such an option."""
    text = str(error)
    if isinstance(error, OSError) and error.filename is not None:
        text = f"{str(error.filename)!r} cannot be read or written: {error.strerror}."
    for parameter in click.get_current_context().command.params:
        if isinstance(parameter, click.Option):
            text = text.replace(f"`{parameter.name}`", parameter.opts[-1])
    return text


@contextlib.contextmanager
def explained(usage: type[Exception] | tuple[type[Exception], ...], interrupted: str) -> Iterator[None]:
    """Turns errors in the block into errors of the command line.

    Args:
        usage: The exceptions that wrong arguments raise.
        interrupted: What is left after Ctrl-C, and how to continue.
    """
    try:
        yield
    except usage as error:
        raise click.UsageError(options_in(error)) from None
    except (ResultsError, OSError) as error:
        raise click.ClickException(options_in(error)) from None
    except KeyboardInterrupt:
        raise click.ClickException(f"Interrupted. {interrupted}") from None
