"""What a command says when an extra of the package is missing."""

import contextlib
from collections.abc import Iterator

import click


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
        raise click.ClickException(
            f"`{command}` needs packages of the extra {extra!r}: {error}. Install them: pip install 'bn_keras[{extra}]'"
        ) from None
