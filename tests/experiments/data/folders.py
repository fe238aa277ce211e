"""Small folders of images for the tests."""

import tensorflow as tf


def picture(number, height=6, width=5, channels=3):
    """An image that differs for every number: rows of one colour each."""
    rows = tf.reshape(tf.range(height) * 20 + number, [height, 1, 1])
    return tf.cast(tf.broadcast_to(rows, [height, width, channels]), tf.uint8)


def write_picture(path, number, **shape):
    """One image file, in the format that its name ends in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    encode = tf.io.encode_png if path.suffix == ".png" else tf.io.encode_jpeg
    path.write_bytes(encode(picture(number, **shape)).numpy())


def write_folder(root, counts, **shape):
    """PNG files `CLASS/0.png`, …: `counts` says how many for every class; image values count up over all."""
    number = 0
    for name, count in counts.items():
        for index in range(count):
            write_picture(root / name / f"{index:03}.png", number, **shape)
            number += 1
    return root
