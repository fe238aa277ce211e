"""The card of a preset: what it is, how large it is, and what it can be built with."""

import dataclasses
import math
from collections.abc import Mapping

from bn_keras.models.cost import multiply_adds
from bn_keras.models.features import stages_of
from bn_keras.models.registry import build, preset
from bn_keras.models.weights import Card, cards


@dataclasses.dataclass(frozen=True)
class Description:
    """The facts about a preset; `print` shows them as a table.

    Args:
        name, summary, source: Those of the preset.
        input_shape: `(height, width, channels)` of images, `(length,)` of tokens.
        classes: The number of classes it is built for by default.
        options: The further arguments of `build`, with their defaults.
        trainable: The number of trainable parameters with batch norm.
        moving: The number of other parameters with batch norm: the running statistics.
        multiply_adds: The multiply-adds of dense layers, convolutions and attention for one example.
        not_counted: The names of layers with a kernel that `multiply_adds` leaves out.
        stages: The shape `(height, width, channels)` of each output of `features`, by its stride.
        weights: A line for each set of trained weights that `build` loads.
    """

    name: str
    summary: str
    source: str
    input_shape: tuple[int, ...]
    classes: int
    options: Mapping[str, object]
    trainable: int
    moving: int
    multiply_adds: int
    not_counted: tuple[str, ...]
    stages: Mapping[float, tuple[int, ...]]
    weights: tuple[str, ...]

    def __str__(self) -> str:
        is_image = len(self.input_shape) == 3
        kind = "an image" if is_image else "tokens"
        rows = [
            ("source", [self.source]),
            ("input", [f"{kind}, {sizes(self.input_shape)}"]),
            ("preprocessing", ["a keras layer, none by default" if is_image else "none"]),
            ("classes", [str(self.classes)]),
            ("options", [f"{option}={value!r}" for option, value in self.options.items()]),
            ("parameters", [f"{self.trainable:,} trainable, {self.moving:,} moving statistics (norm='batch')"]),
            ("multiply-adds", [f"{self.multiply_adds:,} ({rounded(self.multiply_adds)})", *self.lines_not_counted()]),
            ("stages", [f"stride {stride:<4g} {sizes(shape)}" for stride, shape in self.stages.items()]),
            ("weights", list(self.weights)),
        ]
        lines = [f"{self.name}: {self.summary}", ""]
        for title, values in rows:
            first, *others = values or ["none"]
            lines += [f"{title:<13}  {first}", *(f"{'':<13}  {value}" for value in others)]
        return "\n".join(lines)

    def lines_not_counted(self) -> list[str]:
        """The line that names the layers without a count, if there are some."""
        return [f"without {', '.join(self.not_counted)}"] if self.not_counted else []


def describe(name: str) -> Description:
    """Describes a preset: its source, input, options, parameters, multiply-adds, stages and trained weights.

    Args:
        name: Str, one of `list_presets()`.

    Returns:
        A `Description`. It builds the preset with its defaults and batch norm, without trained weights.

    Raises:
        ValueError: For an unknown name; the message holds the nearest.

    >>> describe("resnet20").multiply_adds
    40551040
    >>> print(describe("linear_deep"))
    linear_deep: fifty hidden layers of 100 linear units, to watch gradients grow with depth
    <BLANKLINE>
    source         Yang et al. 2019, A Mean Field Theory of Batch Normalization, arXiv 1902.08129; sizes of our own
    input          an image, 28×28×1
    preprocessing  a keras layer, none by default
    classes        10
    options        depth=50
                   units=100
    parameters     579,410 trainable, 10,000 moving statistics (norm='batch')
    multiply-adds  569,400 (0.57 M)
    stages         none
    weights        none
    """
    entry = preset(name)
    model = build(name)
    total, unknown = multiply_adds(model)
    stages = stages_of(model) if len(entry.input_shape) == 3 else {}
    return Description(
        name=name,
        summary=entry.summary,
        source=entry.source,
        input_shape=entry.input_shape,
        classes=entry.classes,
        options=dict(entry.options),
        trainable=size_of(model.trainable_weights),
        moving=size_of(model.non_trainable_weights),
        multiply_adds=total,
        not_counted=unknown,
        stages={stride: tuple(output.shape[1:]) for stride, output in stages.items()},
        weights=(
            *(line_of(card) for card in cards() if card.preset == name),
            *(f"{weights!r}, which Keras downloads" for weights in entry.pretrained),
        ),
    )


def line_of(card: Card) -> str:
    """A set of trained weights in one line."""
    first = card.preprocessing_layer["class_name"] if card.preprocessing_layer else "none"
    return (
        f"{card.data!r} with norm={card.norm!r}: {100 * card.accuracy:.1f} % of {card.test_examples:,} test examples, "
        f"input {sizes(card.input_shape)}, preprocessing {first}"
    )


def size_of(weights) -> int:
    """The number of values in some weights."""
    return sum(math.prod(weight.shape) for weight in weights)


def sizes(shape: tuple[int, ...]) -> str:
    """A shape as it is read."""
    return "×".join(map(str, shape))


def rounded(count: int) -> str:
    """A count in millions or thousand millions."""
    return f"{count / 1e9:.2f} G" if count >= 1e9 else f"{count / 1e6:.2f} M"
