"""What a preset is."""

import dataclasses
from collections.abc import Callable, Mapping


@dataclasses.dataclass(frozen=True)
class Preset:
    """A named network: a builder and the values that it is called with.

    Args:
        name: `family_variant`, or the name of a function of `keras.applications` in lower case.
        summary: One line that says what the network is.
        source: The paper or project, and the part of it, that the network is taken from.
        builder: `builder(*, norm, classes, input_shape, width, preprocessing, name, **options)`, which returns a
            functional `keras.Model` with logits; `preprocessing` is a layer, `False` or `None`.
        classes: The number of classes it is built for by default.
        input_shape: `(height, width, channels)` it is built for by default; `(length,)` for a sequence of tokens.
        options: The further arguments of the builder, with their defaults.
        pretrained: The names of the weights that the builder itself can load; a builder that has some takes
            `weights`, one of these names or `None`.
    """

    name: str
    summary: str
    source: str
    builder: Callable
    classes: int
    input_shape: tuple[int, ...]
    options: Mapping[str, object] = dataclasses.field(default_factory=dict)
    pretrained: tuple[str, ...] = ()
