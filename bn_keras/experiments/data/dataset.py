"""A data set: its two splits, their shapes, and the standardization that fits them."""

import dataclasses
import functools
import math

import keras
import numpy as np

from bn_keras.experiments.data.arrays import ArraySplit
from bn_keras.experiments.data.stream import StreamSplit
from bn_keras.lab.extras import packages_of

MOMENT_EXAMPLES = 2_048
MOMENT_VALUES = 2**26  # that are squared at once, in float32
MEMORY_LIMIT = 2**31


class DataError(ValueError):
    """A data set has an unknown name, or its content cannot be used."""


@dataclasses.dataclass(frozen=True, eq=False)
class Data:
    """A data set for classification, or for the prediction of the next token.

    Attributes:
        name: The name that `load` was called with; a str.
        classes: The number of classes, or of different tokens; an int.
        input_shape: The shape of one input: `(height, width, channels)` of a uint8 image, or `(length,)` of a
            sequence of int32 tokens.
        train: The training examples: an `ArraySplit` or a `StreamSplit`.
        test: The test examples, in the same form.
        summary: One sentence: examples, shape, classes, size, and why they are in memory or streamed; a str. Defaults
            to `""`.
        class_names: The names of the classes, or the characters of the tokens; strs in the order of the labels.
            Defaults to `()`.
        skipped: The files that `load` left out because they could not be decoded; paths below the data set's
            folder. Defaults to `()`.
        largest: The largest value that a pixel can have; an int. Defaults to `255`.
        validation: The examples that `with_validation` held out of the training examples; an `ArraySplit` or `None`.
            Defaults to `None`.
    """

    name: str
    classes: int
    input_shape: tuple[int, ...]
    train: ArraySplit | StreamSplit
    test: ArraySplit | StreamSplit
    summary: str = ""
    class_names: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    largest: int = 255
    validation: ArraySplit | None = None

    @property
    def is_text(self) -> bool:
        """Whether the inputs are tokens rather than images."""
        return len(self.input_shape) == 1

    def with_validation(self, examples: int) -> "Data":
        """The same data with some training examples held out for validation, the same ones every time.

        Images are drawn with a fixed seed, in the same share from each class; of a text the last sequences are taken.

        Args:
            examples: The number of validation examples; an int ≥ 1.

        Raises:
            DataError: For streamed data, and when too few examples are left to train on.

        >>> from bn_keras.experiments import load
        >>> data = load("digits").with_validation(300)
        >>> data.train.examples, data.validation.examples, data.test.examples
        (1137, 300, 360)
        """
        if self.validation is not None:
            if self.validation.examples != examples:
                raise DataError(f"{self.name!r} has {self.validation.examples:,} validation examples already.")
            return self
        if self.train.inputs is None:
            raise DataError(
                f"{self.name!r} is streamed, and validation examples are held out of data in memory only. Use "
                "a smaller data set, images of a smaller size, or the test examples."
            )
        labels = self.train.labels
        fewest = 1 if self.is_text else self.classes
        if not fewest <= examples <= len(labels) - fewest:
            raise DataError(
                f"`validation_examples` must be between {fewest:,} and {len(labels) - fewest:,} for {self.name!r}, "
                f"which has {len(labels):,} training examples. Received: {examples:,}."
            )
        if self.is_text:
            kept, held = np.split(np.arange(len(labels)), [len(labels) - examples])
        else:
            kept, held = stratified(labels, examples)
        train, validation = (ArraySplit(self.train.inputs[rows], labels[rows]) for rows in (kept, held))
        return dataclasses.replace(self, train=train, validation=validation)

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of the training images per channel, in float32.

        Images in memory are all counted. Of streamed images the first 2,048 of a fixed order are, the same on all
        workers.

        Raises:
            DataError: For text.

        >>> from bn_keras.experiments import load
        >>> mean, deviation = load("digits").moments()
        >>> print(mean.round(2), deviation.round(2))
        [4.89] [6.02]
        """
        if self.is_text:
            raise DataError(f"Tokens have no mean and standard deviation, and {self.name!r} is text.")
        return self._moments

    @functools.cached_property
    def _moments(self):
        count, total, squares = 0, 0.0, 0.0
        for images in self._images_to_count():
            values = images.reshape(-1, self.input_shape[-1])
            count += len(values)
            total += values.sum(0, dtype=np.float64)  # sums of integers: exact, whatever the portions
            squares += np.square(values, dtype=np.float32).sum(0, dtype=np.float64)
        mean = total / count
        deviation = np.sqrt(np.maximum(squares / count - mean**2, 1e-6))  # a constant channel stays finite
        return mean.astype(np.float32), deviation.astype(np.float32)

    def _images_to_count(self):
        portion = max(1, MOMENT_VALUES // math.prod(self.input_shape))
        if self.train.inputs is not None:
            portion = min(MOMENT_EXAMPLES, portion)
            for start in range(0, self.train.examples, portion):
                yield self.train.inputs[start : start + portion]
            return
        left = min(MOMENT_EXAMPLES, self.train.examples)
        for images, _ in self.train.batches(min(64, left, portion), seed=0):
            yield images.numpy()[:left]
            left -= len(images)
            if left <= 0:
                return

    def preprocessing(self) -> keras.layers.Layer | None:
        """A layer that standardizes raw images by the `moments()` of the training images.

        Returns:
            A `keras.layers.Rescaling`, which a saved model can hold; `None` for text.

        >>> from bn_keras.experiments import load
        >>> digits = load("digits")
        >>> abs(float(digits.preprocessing()(digits.train.inputs).numpy().mean())) < 1e-4
        True
        """
        if self.is_text:
            return None
        mean, deviation = (each.astype(np.float64) for each in self.moments())
        return keras.layers.Rescaling(scale=(1 / deviation).tolist(), offset=(-mean / deviation).tolist())


def stratified(labels: np.ndarray, held: int) -> tuple[np.ndarray, np.ndarray]:
    """Sorted indices of the examples that stay, and of those that are held out: of each class its share.

    Where a class has a single example, no class has a fixed share.
    """
    with packages_of("lab"):
        from sklearn.model_selection import train_test_split

    classes = None if np.unique(labels, return_counts=True)[1].min() == 1 else labels  # one example is in one part
    kept, out = train_test_split(np.arange(len(labels)), test_size=held, random_state=0, stratify=classes)
    return np.sort(kept), np.sort(out)


def check_size(name: str, size: int, memory_limit: int) -> bool:
    """Whether a data set of `size` bytes is held in memory."""
    if memory_limit < 0:
        raise DataError(f"`memory_limit` must be a number of bytes ≥ 0 for {name!r}. Received: {memory_limit}.")
    return size <= memory_limit


def described(
    name: str, examples: tuple[int, int], inputs: str, size: int, memory_limit: int, skipped: tuple[str, ...] = ()
) -> str:
    """The sentence `summary`: `inputs` names what an example is, `size` counts the bytes of all."""
    limit = f"the limit of {mebibytes(memory_limit)}"
    place = f"held in memory, within {limit}" if size <= memory_limit else f"streamed, because it exceeds {limit}"
    omissions = f"; {len(skipped):,} skipped: {shortened(skipped)}" if skipped else ""
    return (
        f"{name}: {examples[0]:,} training and {examples[1]:,} test examples, each {inputs}; "
        f"{mebibytes(size)}, {place}{omissions}."
    )


def mebibytes(size: int) -> str:
    """A number of bytes for people."""
    return f"{size / 2**20:,.1f} MiB"


def shortened(names: tuple[str, ...], most: int = 3) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
