"""`load`: from the name of a data set to its examples."""

import math
import numbers
import os

import numpy as np
import tensorflow as tf

from bn_keras.choices.ranges import RANGES
from bn_keras.experiments.data.arrays import ArraySplit
from bn_keras.experiments.data.dataset import MEMORY_LIMIT, Data, DataError, check_size, described, mebibytes
from bn_keras.experiments.data.download import DIGITS
from bn_keras.experiments.data.folder import load_folder
from bn_keras.experiments.data.images import resized
from bn_keras.experiments.data.records import load_tfds
from bn_keras.experiments.data.text import load_text
from bn_keras.lab.extras import packages_of

SOURCES = f"{DIGITS!r}, 'folder:PATH', 'text:PATH' or the name of a set of tensorflow-datasets"


def load(
    name: str,
    data_dir: str | os.PathLike | None = None,
    *,
    image_size: int | tuple[int, int] | None = None,
    memory_limit: int = MEMORY_LIMIT,
    length: int = 64,
) -> Data:
    """Loads a data set by its name.

    Args:
        name: Str, one of
            `"digits"`: 1,797 real 8×8 digits inside scikit-learn; it needs no network.
            `"folder:PATH"`: images in class folders, `PATH/train/CLASS/*` and `PATH/test/CLASS/*` or `PATH/CLASS/*`.
            `"text:PATH"`: a UTF-8 text file; its characters are the tokens.
            The name of an image classification set of tensorflow-datasets, such as `"mnist"` or `"cifar10"`, or
            `"tiny_shakespeare"`.
        data_dir: Where tensorflow-datasets keeps its prepared sets; a str or `os.PathLike`, or `None` for its
            own directory. `load` downloads a set that is not there yet. Defaults to `None`.
        image_size: The height and width that all images are resized to, in pixels; an int for squares, or a pair.
            `None` keeps their size, which must be the same for all. Defaults to `None`.
        memory_limit: Int, the largest data set that is held in memory, in bytes of its raw images or tokens. Larger
            sets of images are streamed. Defaults to `2147483648`.
        length: Int, the length of the sequences of a text, in tokens. Defaults to `64`.

    Returns:
        A `Data`. The test images are the split `test`, or else `validation`, or else a fifth: the last fifth of
        `train` for tensorflow-datasets, a fixed stratified fifth for the digits and for folders. The test of a text
        file is its last tenth.

    Raises:
        DataError: A `ValueError`, when the name is unknown or the data cannot be used.
        FileNotFoundError: When a set of tensorflow-datasets is not prepared and cannot be downloaded.

    >>> digits = load("digits")
    >>> digits.train.inputs.shape
    (1437, 8, 8, 1)
    >>> print(digits.summary)
    digits: 1,437 training and 360 test examples, each an image of 8×8×1 in 10 classes;
    0.1 MiB, held in memory, within the limit of 2,048.0 MiB.
    """
    size = size_of(image_size)
    if name == DIGITS:
        return load_digits(size, memory_limit)
    kind, colon, path = name.partition(":")
    if not colon:
        return load_tfds(name, data_dir, size, memory_limit, length)
    if kind not in ("folder", "text") or not path:
        raise DataError(f"Unknown data set {name!r}. Expected {SOURCES}.")
    if kind == "folder":
        return load_folder(name, path, size, memory_limit)
    if size is not None:
        raise DataError(f"`image_size` is for images, and {name!r} is text. Received: {image_size}. Leave it out.")
    return load_text(name, path, length, memory_limit)


def size_of(image_size):
    """The argument `image_size` as a pair, or `None`."""
    if image_size is None:
        return None
    pair = (image_size, image_size) if isinstance(image_size, numbers.Integral) else tuple(image_size)
    sides = RANGES["image_size"]
    if len(pair) != 2 or not all(side in sides for side in pair):
        raise DataError(
            f"`image_size` must be {sides.words} or a pair (height, width) of them, in pixels. "
            f"Received: {image_size!r}."
        )
    return int(pair[0]), int(pair[1])


def resized_in_portions(images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resized images, of which few are in float32 at once."""
    return np.concatenate([resized(tf.constant(portion), size).numpy() for portion in np.array_split(images, 100)])


def load_digits(size, memory_limit):
    """The digits of scikit-learn; they always fit into memory."""
    with packages_of("lab"):
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

    digits = load_digits()
    images = digits.images.astype(np.uint8)[..., np.newaxis]
    labels = digits.target.astype(np.int32)
    train_images, test_images, train_labels, test_labels = train_test_split(
        images, labels, test_size=360, random_state=0, stratify=labels
    )
    shape = (*(size or images.shape[1:3]), 1)
    bytes_of_all = len(images) * math.prod(shape)
    if not check_size(DIGITS, bytes_of_all, memory_limit):
        raise DataError(
            f"{DIGITS!r} is not streamed: images of {'×'.join(map(str, shape))} take {mebibytes(bytes_of_all)}, more "
            f"than `memory_limit`, {mebibytes(memory_limit)}. Choose a smaller `image_size` or a larger limit."
        )
    if size is not None:
        train_images, test_images = (resized_in_portions(each, size) for each in (train_images, test_images))
    inputs = f"an image of {'×'.join(map(str, shape))} in 10 classes"
    return Data(
        DIGITS,
        10,
        shape,
        ArraySplit(train_images, train_labels),
        ArraySplit(test_images, test_labels),
        described(DIGITS, (len(train_labels), len(test_labels)), inputs, bytes_of_all, memory_limit),
        tuple("0123456789"),
        largest=16,
    )
