"""Trained weights that the wheel holds: a file and a card for each, checked by hash."""

import dataclasses
import functools
import hashlib
import json
import pathlib

import keras

from bn_keras.models.norms import Norm, named_and_options
from bn_keras.models.preset import Preset

FOLDER = pathlib.Path(__file__).parent / "shipped"
SUFFIX = ".weights.h5"


@dataclasses.dataclass(frozen=True)
class Card:
    """What is known of a file of weights.

    Args:
        preset: The network.
        data: The data set that it was trained on.
        norm: The name of the norm, `None` for none.
        norm_options: The options of the norm.
        classes: The number of classes.
        input_shape: The shape of an example.
        width: The width multiplier.
        options: All further arguments of the builder.
        preprocessing_layer: The serialized keras layer that the training images went through; `None` for none.
        recipe: The recipe of the training.
        accuracy: The accuracy on the whole test set, in [0, 1].
        test_examples: The size of the test set.
        parameters: The number of parameters.
        sha256: The hash of the file.
        bytes: The size of the file.
        license: The licence of the data.
        command: The command that trains the network again.
    """

    preset: str
    data: str
    norm: str | None
    norm_options: dict
    classes: int
    input_shape: tuple[int, ...]
    width: float
    options: dict
    preprocessing_layer: dict | None
    recipe: dict
    accuracy: float
    test_examples: int
    parameters: int
    sha256: str
    bytes: int
    license: str
    command: str

    @property
    def file(self) -> pathlib.Path:
        """Where the weights are."""
        return FOLDER / f"{stem(self.preset, self.data, self.norm)}{SUFFIX}"

    def preprocessing(self) -> keras.layers.Layer | None:
        """A new layer that the images go through first."""
        if self.preprocessing_layer is None:
            return None
        return keras.layers.deserialize(self.preprocessing_layer)

    def agree(self, **asked):
        """The classes, the input shape and the width of the weights; refuses others."""
        for name, value in asked.items():
            own = getattr(self, name)
            if value is not None and (tuple(value) if isinstance(value, list) else value) != own:
                raise ValueError(
                    f"The weights {self.data!r} of {self.preset!r} have {name}={own!r}. Received: {name}={value!r}. "
                    f"Drop the argument `{name}`, or build with weights=None."
                )
        return tuple(getattr(self, name) for name in asked)

    def agree_on_options(self, asked: dict) -> dict:
        """The options that the weights were trained with; refuses others."""
        for name, value in asked.items():
            if self.options[name] != value:
                raise ValueError(
                    f"The weights {self.data!r} of {self.preset!r} have {name}={self.options[name]!r}. "
                    f"Received: {name}={value!r}. Drop the argument `{name}`, or build with weights=None."
                )
        return self.options | asked


def stem(preset: str, data: str, norm: str | None) -> str:
    """The name of a file of weights, without its suffix."""
    return f"{preset}-{data}-{norm or 'none'}"


@functools.cache
def cards() -> tuple[Card, ...]:
    """The cards of all weights in the wheel."""
    return tuple(read_card(path) for path in sorted(FOLDER.glob("*.json")))


def read_card(path: pathlib.Path) -> Card:
    """The card that a JSON file holds."""
    fields = json.loads(path.read_text())
    return Card(**fields | {"input_shape": tuple(fields["input_shape"])})


def shipped(entry: Preset, data: str, norm: Norm) -> Card:
    """The card of the weights of a preset, trained on `data` with `norm`.

    Raises:
        ValueError: When there are none; the message lists those that there are.
    """
    name, options = named_and_options(norm)
    own = [card for card in cards() if card.preset == entry.name]
    for card in own:
        if card.data == data and card.norm == name and (not options or options == card.norm_options):
            return card
    there = [f"weights={card.data!r} with norm={card.norm!r}" for card in own]
    there += [f"weights={name!r}" for name in entry.pretrained]
    raise ValueError(
        f"`weights` must be one that {entry.name!r} has: {'; '.join(there) or 'none'}. "
        f"Received: weights={data!r}, norm={norm!r}. Pass weights=None for new weights; "
        f"`bn-keras train {entry.name}` trains them."
    )


def load_weights(model: keras.Model, card: Card) -> None:
    """Loads a file into a model.

    Raises:
        ValueError: When the file is not the one that the card describes, byte by byte.
    """
    if not card.file.is_file():
        raise ValueError(f"The weights {card.file.name} are not in this installation. Install bn_keras again.")
    found = sha256(card.file)
    if found != card.sha256:
        raise ValueError(
            f"The weights {card.file.name} are damaged: their SHA-256 is {found}, and {card.sha256} was expected. "
            "Install bn_keras again."
        )
    model.load_weights(card.file)


def sha256(path: pathlib.Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
