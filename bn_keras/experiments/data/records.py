"""Prepared sets of tensorflow-datasets: undecoded records in stored order, shuffled in a buffer."""

import dataclasses
import math
import os

import numpy as np
import tensorflow as tf

from bn_keras.experiments.data.dataset import Data, DataError, check_size, described
from bn_keras.experiments.data.download import prepared_builder
from bn_keras.experiments.data.images import resized
from bn_keras.experiments.data.stream import StreamSplit, held_in_memory
from bn_keras.experiments.data.text import tokens_of
from bn_keras.lab.extras import packages_of

SHUFFLE_BUFFER = 10_000


@dataclasses.dataclass(frozen=True, eq=False)
class Records:
    """The source of a `StreamSplit`: the records of one split of a builder, `split` in its notation."""

    builder: object
    split: str
    examples: int
    input_shape: tuple[int, int, int]

    def shuffled(self, batch_size: int, seed: int, first_step: int) -> tf.data.Dataset:
        """Endless batches of records: one shuffled pass after the other."""
        records = self.stored()
        buffer = min(self.examples, SHUFFLE_BUFFER)
        first_epoch, first_record = divmod(first_step * batch_size, self.examples)

        def shuffled_pass(epoch):
            # The global seed of the program would change the order; here it is that of this function's graph alone.
            tf.random.set_seed(1)
            of_pass = tf.random.stateless_uniform([], [seed, epoch], maxval=2**31 - 1, dtype=tf.int64)
            return records.shuffle(buffer, seed=of_pass, reshuffle_each_iteration=False)

        passes = tf.data.Dataset.counter(first_epoch).flat_map(shuffled_pass)
        return passes.skip(first_record).batch(batch_size, drop_remainder=True)

    def stored(self) -> tf.data.Dataset:
        """The undecoded records in stored order, which is the same on every machine."""
        with packages_of("lab"):
            import tensorflow_datasets as tfds

        return self.builder.as_dataset(
            split=self.split,
            as_supervised=True,
            shuffle_files=False,
            decoders={self.builder.info.supervised_keys[0]: tfds.decode.SkipDecoding()},
            read_config=tfds.ReadConfig(try_autocache=False),
        )

    def identity(self) -> str:
        """The name, configuration and version of the set."""
        return f"{self.builder.info.full_name} {self.split}"

    def decode(self, contents: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The image and the label of a record."""
        feature = self.builder.info.features[self.builder.info.supervised_keys[0]]
        image = feature.decode_example(contents)
        image = image if feature.shape == self.input_shape else resized(image, self.input_shape[:2])
        return tf.ensure_shape(image, self.input_shape), tf.cast(label, tf.int32)


def load_tfds(
    name: str,
    data_dir: str | os.PathLike | None,
    image_size: tuple[int, int] | None,
    memory_limit: int,
    length: int,
) -> Data:
    """A set of tensorflow-datasets as `Data`.

    Raises:
        DataError: When the name is unknown, or the set is neither an image classification nor text.
        FileNotFoundError: When the set is not prepared and cannot be downloaded.
    """
    builder = prepared_builder(name, data_dir)
    if is_text(builder.info):
        return load_prepared_text(name, builder, image_size, memory_limit, length)
    check_images(builder.info, name, image_size)
    image, label = (builder.info.features[key] for key in builder.info.supervised_keys)
    shape = (*(image_size or image.shape[:2]), image.shape[-1])
    streams = []
    for split in splits(builder.info.splits):
        examples = builder.info.splits[split].num_examples
        streams.append(StreamSplit(examples, Records(builder, split, examples, shape)))
    counts = train_count, test_count = tuple(stream.examples for stream in streams)
    size = (train_count + test_count) * math.prod(shape)
    if check_size(name, size, memory_limit):
        streams = [held_in_memory(stream, shape) for stream in streams]
    inputs = f"an image of {'×'.join(map(str, shape))} in {label.num_classes} classes"
    summary = described(name, counts, inputs, size, memory_limit)
    return Data(name, label.num_classes, shape, *streams, summary, tuple(label.names))


def is_text(info):
    return hasattr(info.features, "keys") and set(info.features.keys()) == {"text"}


def load_prepared_text(name, builder, image_size, memory_limit, length):
    if image_size is not None:
        raise DataError(f"`image_size` is for images, and {name!r} is text. Received: {image_size}. Leave it out.")
    parts = splits(builder.info.splits)
    texts = ["".join(read_texts(builder, part)) for part in parts]
    return tokens_of(name, *texts, length, memory_limit)


def read_texts(builder, split):
    for example in builder.as_dataset(split=split, shuffle_files=False):
        yield example["text"].numpy().decode("utf-8")


def check_images(info, name, image_size):
    keys = info.supervised_keys
    features = dict(info.features) if hasattr(info.features, "keys") else {}
    image, label = (features.get(key) for key in keys) if keys and len(keys) == 2 else (None, None)
    if not hasattr(label, "num_classes") or image is None or len(image.shape) != 3:
        raise DataError(
            f"The data set {name!r} is no image classification: it needs an image and a class label "
            f"as its supervised keys. It has: {info.features!r}."
        )
    if None in image.shape[:2] and image_size is None:
        raise DataError(
            f"The images of {name!r} have no fixed size: {image.shape}. Pass image_size=… (--image-size) to resize "
            "all of them, or choose a set whose images are all of one size, such as cifar10."
        )
    if image.shape[-1] is None or np.dtype(image.np_dtype) != np.uint8:
        raise DataError(
            f"The images of {name!r} must be uint8 with a fixed number of channels. Received: "
            f"{np.dtype(image.np_dtype)} with shape {image.shape}. Choose another set, or a folder of images."
        )


def splits(available):
    for test in ("test", "validation"):
        if test in available:
            return "train", test
    return "train[:80%]", "train[80%:]"
