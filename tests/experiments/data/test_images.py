"""Decoding: every format, gray and colour, and files that are corrupt."""

import numpy as np
import pytest
import tensorflow as tf

from bn_keras.experiments.data.images import Picture, decoded, resized, scan
from tests.experiments.data.folders import picture, write_picture

GRAY_RAMP = bytes(value for shade in range(256) for value in (shade, shade, shade, 0))
COLOURS = bytes(value for shade in range(256) for value in (shade, 0, 255 - shade, 0))
BLANK_GIF = (  # 1×1, two colours
    b"GIF89a\x01\x00\x01\x00\x80\x00\x00\xff\x00\x00\xff\xff\xff,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;"
)


def bitmap(pixels, palette=b""):
    """A bitmap file of uint8 `(height, width, channels)`, whose rows are multiples of four bytes."""
    height, width, channels = pixels.shape
    start = 54 + len(palette)
    header = b"BM" + np.array([start + pixels.size, 0, start, 40, width, height], "<i4").tobytes()
    header += np.array([1, 8 * channels], "<i2").tobytes()
    header += np.array([0, pixels.size, 0, 0, 256 if palette else 0, 0], "<i4").tobytes()
    return header + palette + pixels[::-1, :, ::-1].tobytes()  # from the lowest row up, blue first


GRAY, COLOUR = (np.arange(8 * 4 * channels, dtype=np.uint8).reshape(8, 4, channels) for channels in (1, 3))


@pytest.mark.parametrize(
    ("contents", "image"),
    [
        (tf.io.encode_png(GRAY).numpy(), GRAY),
        (tf.io.encode_png(COLOUR).numpy(), COLOUR),
        (tf.io.encode_png(np.concatenate([COLOUR, COLOUR[..., :1]], -1)).numpy(), COLOUR),
        (tf.io.encode_png(GRAY.astype(np.uint16) * 257).numpy(), GRAY),
        (bitmap(GRAY, GRAY_RAMP), GRAY),
        (bitmap(COLOUR), COLOUR),
        (BLANK_GIF, np.array([[[255, 0, 0]]], np.uint8)),
    ],
    ids=["gray PNG", "colour PNG", "transparent PNG", "16-bit PNG", "gray BMP", "colour BMP", "GIF"],
)
def test_formats_decode_to_their_pixels(tmp_path, contents, image):
    (tmp_path / "file").write_bytes(contents)
    assert scan([tmp_path / "file"]) == [Picture(*image.shape)]
    for channels in {image.shape[-1], 3}:
        expected = np.broadcast_to(image, (*image.shape[:2], channels))
        np.testing.assert_array_equal(decoded(tf.constant(contents), channels), expected)


def test_corrupt_files_are_found_in_their_place(tmp_path):
    for suffix in ("png", "jpg"):
        write_picture(tmp_path / f"good.{suffix}", 1, height=40, width=40)
        contents = (tmp_path / f"good.{suffix}").read_bytes()
        (tmp_path / f"truncated.{suffix}").write_bytes(contents[: len(contents) * 2 // 3])
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "page.jpg").write_text("<html>404</html>")
    (tmp_path / "palette.bmp").write_bytes(bitmap(GRAY, COLOURS))
    (tmp_path / "truncated.bmp").write_bytes(bitmap(COLOUR)[:-5])
    corrupt = ["truncated.png", "truncated.jpg", "empty.png", "page.jpg", "palette.bmp", "truncated.bmp", "missing.png"]
    names = ["good.png", *corrupt, "good.jpg"]
    assert scan([tmp_path / name for name in names]) == [
        Picture(40, 40, 3),
        *[None] * len(corrupt),
        Picture(40, 40, 3),
    ]


def test_resizing_averages_what_it_shrinks():
    stripes = np.zeros((8, 8, 1), np.uint8)
    stripes[::2] = 200
    assert np.abs(resized(tf.constant(stripes), (2, 2)).numpy().astype(int) - 100).max() < 30
    image = picture(3, channels=1)
    np.testing.assert_array_equal(resized(image, image.shape[:2]), image)
    assert resized(image, (3, 9)).dtype == tf.uint8
