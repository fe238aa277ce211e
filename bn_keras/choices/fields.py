"""Checks of a recipe's fields."""

import dataclasses

import numpy as np

from bn_keras.choices.ranges import RANGES


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


def require_in_range(field: str, value: object) -> None:
    """Requires a number in the range of its field."""
    require(field, value in RANGES[field], RANGES[field].words, value)


def require_in_ranges(recipe: object, *fields: str) -> None:
    """Requires fields of a recipe to be in their ranges; a field whose default is `None` may be `None`."""
    defaults = {field.name: field.default for field in dataclasses.fields(recipe)}
    for field in fields:
        value = getattr(recipe, field)
        if value is not None or defaults[field] is not None:
            require_in_range(field, value)


def check_lengths(
    *,
    steps: int | None = None,
    evaluate_every: int | None = None,
    warmup: int | None = None,
    batch_size: int | None = None,
    accumulate: int | None = None,
) -> None:
    """Requires lengths that fit each other; each is in its range already, and `None` is not known yet."""
    if batch_size is not None and accumulate is not None:
        require("batch_size", batch_size % accumulate == 0, f"a multiple of accumulate={accumulate}", batch_size)
    if steps is not None and evaluate_every is not None:
        require("steps", steps % evaluate_every == 0, f"a multiple of evaluate_every={evaluate_every}", steps)
    if steps is not None and warmup is not None:
        require("warmup", warmup < steps, f"less than steps={steps}", warmup)
