"""Images in class folders: every file is an example that any worker can read by its index."""

import dataclasses
import hashlib
import itertools
import os
import pathlib

import numpy as np
import tensorflow as tf

from bn_keras.experiments.data.dataset import Data, DataError, check_size, described
from bn_keras.experiments.data.images import decoded, resized, scan
from bn_keras.experiments.data.layout import Part, parts_of
from bn_keras.experiments.data.order import example_order
from bn_keras.experiments.data.stream import StreamSplit, held_in_memory


@dataclasses.dataclass(frozen=True, eq=False)
class Files:
    """The source of a `StreamSplit`: image files and their labels."""

    paths: tf.Tensor
    labels: tf.Tensor
    input_shape: tuple[int, int, int]
    resize: bool

    def shuffled(self, batch_size: int, seed: int, first_step: int) -> tf.data.Dataset:
        """Endless batches of indices in the order of `example_order`."""

        def batches():
            order = example_order(len(self.labels), batch_size, seed)
            return ((batch,) for batch in itertools.islice(order, first_step, None))

        return tf.data.Dataset.from_generator(batches, output_signature=(tf.TensorSpec([batch_size], tf.int32),))

    def stored(self) -> tf.data.Dataset:
        """All indices, in the order of `paths`."""
        return tf.data.Dataset.range(len(self.labels), output_type=tf.int32)

    def identity(self) -> str:
        """The names of the files and their classes' folders, and the labels."""
        names = [b"/".join(path.split(b"/")[-2:]) for path in self.paths.numpy()]
        return hashlib.sha256(b"\0".join([*names, self.labels.numpy().tobytes()])).hexdigest()[:16]

    def decode(self, index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The image and the label at an index."""
        contents = tf.io.read_file(tf.gather(self.paths, index))
        image = decoded(contents, self.input_shape[-1])
        image = resized(image, self.input_shape[:2]) if self.resize else image
        return tf.ensure_shape(image, self.input_shape), tf.gather(self.labels, index)


def load_folder(name: str, path: str, image_size: tuple[int, int] | None, memory_limit: int) -> Data:
    """The images below a folder as `Data`.

    Raises:
        DataError: When the folder's layout is unknown, a class has no image that can be decoded, or the images
            differ in size and no `image_size` is given.
    """
    root = pathlib.Path(path).expanduser()
    found = [part for part in parts_of(root) if part]
    parts, pictures, skipped = [], {}, []
    for part in found:
        part, shapes, corrupt = readable(part)
        parts.append(part)
        pictures |= shapes
        skipped += [file.relative_to(root).as_posix() for file in (*corrupt, *part.other)]
    train, test = parts if len(parts) == 2 else held_out(parts[0])
    test = mixed(test)
    size = image_size or common_size(pictures)
    channels = max(picture.channels for picture in pictures.values())
    shape = (*size, channels)
    resize = any((picture.height, picture.width) != size for picture in pictures.values())
    splits = [stream_of(part, shape, resize) for part in (train, test)]
    counts = train_count, test_count = tuple(split.examples for split in splits)
    bytes_of_all = (train_count + test_count) * int(np.prod(shape))
    if check_size(name, bytes_of_all, memory_limit):
        splits = [held_in_memory(split, shape) for split in splits]
    inputs = f"an image of {'×'.join(map(str, shape))} in {len(train.classes)} classes"
    summary = described(name, counts, inputs, bytes_of_all, memory_limit, tuple(skipped))
    return Data(name, len(train.classes), shape, *splits, summary, train.classes, tuple(skipped))


def readable(part):
    """The part without its corrupt files, the shapes of the others, and the corrupt files."""
    pictures = dict(zip(part.paths, scan(part.paths), strict=True))
    kept = rows_of(part, [row for row, path in enumerate(part.paths) if pictures[path]])
    empty = sorted(set(part.labels) - set(kept.labels))
    if empty:
        folder = part.paths[part.labels.index(empty[0])].parent
        raise DataError(
            f"None of the images in the class folder {str(folder)!r} can be decoded. Replace its files, or remove "
            "the folder."
        )
    corrupt = [path for path in part.paths if not pictures[path]]
    return kept, {path: pictures[path] for path in kept.paths}, corrupt


def held_out(part):
    """A part as two: a fixed random fifth of every class for the test, the rest for training."""
    generator, labels, chosen = np.random.default_rng(0), np.array(part.labels), []
    for label, name in enumerate(part.classes):
        of_class = np.flatnonzero(labels == label)
        if len(of_class) < 2:
            raise DataError(
                f"The class {name!r} has one image, {str(part.paths[of_class[0]])!r}; with one held out for the "
                "test, two are the least. Add images, or make the folders 'train' and 'test' yourself."
            )
        chosen += generator.permutation(of_class)[: max(1, round(len(of_class) / 5))].tolist()
    rest = np.setdiff1d(np.arange(len(labels)), chosen)
    return rows_of(part, rest), rows_of(part, sorted(chosen))


def mixed(part):
    """A part in a fixed random order: an evaluation on its first examples sees all classes."""
    return rows_of(part, np.random.default_rng(0).permutation(len(part.labels)))


def rows_of(part: Part, rows) -> Part:
    """Some of the files of a part."""
    paths, labels = (tuple(each[row] for row in rows) for each in (part.paths, part.labels))
    return dataclasses.replace(part, paths=paths, labels=labels)


def common_size(pictures):
    """The height and width that all images have."""
    (first, size), *others = ((path, (each.height, each.width)) for path, each in pictures.items())
    for path, other in others:
        if other != size:
            raise DataError(
                f"The images have different sizes: {str(first)!r} has {size[0]}×{size[1]} (height×width), "
                f"{str(path)!r} has {other[0]}×{other[1]}. Pass image_size=… (--image-size) to resize all of them."
            )
    return size


def stream_of(part, shape, resize):
    with tf.device("CPU:0"):  # where tf.data gathers them
        paths, labels = tf.constant([os.fsencode(path) for path in part.paths]), tf.constant(part.labels, tf.int32)
    return StreamSplit(len(part.paths), Files(paths, labels, shape, resize))
