"""What a preset is."""

import dataclasses
from collections.abc import Callable


@dataclasses.dataclass(frozen=True)
class Preset:
    """A named network: a builder and the values that it is called with.

    Args:
        name: `family_variant`.
        summary: One line that says what the network is.
        source: The paper or project, and the part of it, that the network is taken from.
        builder: `builder(*, norm, classes, input_shape, width, name)`, which returns a
            functional `keras.Model` with logits.
        classes: The number of classes it is built for by default.
        input_shape: `(height, width, channels)` it is built for by default.
    """

    name: str
    summary: str
    source: str
    builder: Callable
    classes: int
    input_shape: tuple[int, int, int]
