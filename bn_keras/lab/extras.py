"""The optional packages: a failing import names the extra to install."""

import contextlib
import importlib.util
from collections.abc import Iterator


class MissingPackageError(ImportError):
    """An optional package is not installed; `name` is its name."""


@contextlib.contextmanager
def packages_of(extra: str, *later: str) -> Iterator[None]:
    """Turns a failing import in the block into an error that names the extra.

    Args:
        extra: The extra of `setup.cfg` that has the packages which the block imports; a str.
        *later: Packages that are imported later only, and are looked for now; strs.

    Raises:
        MissingPackageError: When a package is missing, with its name.

    >>> with packages_of("lab"):  # doctest: +ELLIPSIS
    ...     import a_package_of_nobody
    Traceback (most recent call last):
        ...
    bn_keras.lab.extras.MissingPackageError: This part of bn_keras needs the package 'a_package_of_nobody', ...
    """
    for name in later:
        if importlib.util.find_spec(name) is None:
            raise missing(name, extra)
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in {"", "bn_keras"}:
            raise
        raise missing(package, extra) from None


def missing(package: str, extra: str) -> MissingPackageError:
    """The error for a package that is not installed."""
    return MissingPackageError(
        f"This part of bn_keras needs the package {package!r}, which is not installed. "
        f"Install the extra that has it: pip install 'bn_keras[{extra}]'",
        name=package,
    )
