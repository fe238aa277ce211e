"""Image files: decoding, resizing, and the scan that finds the corrupt ones."""

import concurrent.futures
import dataclasses
import os
import pathlib
from collections.abc import Sequence

import tensorflow as tf

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png")
BITMAP = b"BM"


@dataclasses.dataclass(frozen=True)
class Picture:
    """The shape of a decoded image file."""

    height: int
    width: int
    channels: int


def decoded(contents: tf.Tensor, channels: int) -> tf.Tensor:
    """An encoded image as uint8 `(height, width, channels)`: of an animation the first frame, without transparency."""

    def bitmap():
        # `decode_image` refuses gray bitmaps where it is asked for three channels.
        image = tf.io.decode_bmp(contents)[..., :3]
        return tf.repeat(image, channels // tf.shape(image)[-1], axis=-1)

    def other():
        return tf.io.decode_image(contents, channels, expand_animations=False)

    return tf.cond(tf.strings.substr(contents, 0, 2) == BITMAP, bitmap, other)


def resized(image: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    """A uint8 image stretched to `(height, width)`, bilinear with antialiasing."""
    floats = tf.image.resize(image, size, antialias=True)
    return tf.saturate_cast(tf.round(floats), tf.uint8)


def scan(paths: Sequence[pathlib.Path]) -> list[Picture | None]:
    """Decodes every file once, in threads; `None` for a file that cannot be read or decoded."""
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as threads:
        return list(threads.map(picture, paths))


def picture(path: pathlib.Path) -> Picture | None:
    """The shape of one image file, or `None` if it is corrupt."""
    try:
        contents = path.read_bytes()
        if not contents or has_colour_palette(contents):
            return None
        return Picture(*stored_shape(contents))
    except (OSError, tf.errors.InvalidArgumentError, tf.errors.UnimplementedError):
        return None


def stored_shape(contents):
    if contents.startswith(BITMAP):
        height, width, channels = tf.io.decode_bmp(contents).shape
        return height, width, 1 if channels == 1 else 3
    try:
        height, width, channels = tf.io.decode_image(contents, expand_animations=False).shape
    except tf.errors.InvalidArgumentError:  # a CMYK JPEG decodes to three channels only
        height, width, channels = tf.io.decode_image(contents, 3, expand_animations=False).shape
    return height, width, 1 if channels <= 2 else 3  # two channels are gray and transparency


def has_colour_palette(contents):
    """Whether a file is a bitmap with a palette of colours, which TensorFlow would take for shades of gray."""
    if not contents.startswith(BITMAP) or int.from_bytes(contents[28:30], "little") > 8:
        return False
    start = 14 + int.from_bytes(contents[14:18], "little")
    palette = contents[start : int.from_bytes(contents[10:14], "little")]
    shades = bytes(value for shade in range(len(palette) // 4) for value in (shade, shade, shade))
    return bytes(value for place, value in enumerate(palette) if place % 4 < 3) != shades
