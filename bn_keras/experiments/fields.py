"""Checks of a recipe's fields."""

import dataclasses
import math
import numbers

import numpy as np


class RecipeError(ValueError):
    """A value that a recipe cannot have: `field`, what was `expected`, what was `received`."""

    def __init__(self, field: str, expected: str, received: object):
        self.field, self.expected, self.received = field, expected, received
        super().__init__(f"`{field}` must be {expected}. Received: {field}={received!r}.")


def make_plain(recipe: object) -> None:
    """Replaces the NumPy numbers in a recipe by Python's, so that the recipe can be stored."""
    for field in dataclasses.fields(recipe):
        value = getattr(recipe, field.name)
        if isinstance(value, (tuple, list)):
            object.__setattr__(recipe, field.name, tuple(plain(each) for each in value))
        else:
            object.__setattr__(recipe, field.name, plain(value))


def plain(value: object) -> object:
    """A number of NumPy as a number of Python; other values as they are."""
    return value.item() if isinstance(value, np.generic) else value


def require(field: str, holds: bool, expected: str, received: object) -> None:
    """Raises a `RecipeError` unless a condition holds."""
    if not holds:
        raise RecipeError(field, expected, received)


def require_int(recipe: object, field: str, least: int) -> None:
    """Requires a field of a recipe to be an int of `least` or more."""
    value = getattr(recipe, field)
    require(field, is_int(value) and value >= least, f"an int ≥ {least}", value)


def require_rate(field: str, value: object) -> None:
    """Requires a learning rate."""
    require(field, is_real(value) and 0 < value <= 1e6, "a number in (0, 1000000]", value)


def require_seed(field: str, value: object) -> None:
    """Requires a seed of 32 bits."""
    require(field, is_int(value) and 0 <= value < 2**32, "an int in [0, 4294967295]", value)


def is_int(value: object) -> bool:
    """Whether a value is a whole number, and no bool."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def is_real(value: object) -> bool:
    """Whether a value is a finite number, and no bool."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
