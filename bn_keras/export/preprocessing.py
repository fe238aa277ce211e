"""Preprocessing of an image's pixels, as a part of the exported model."""

import keras
import numpy as np
import tensorflow as tf

from bn_keras.export.signature import Signature, declared

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's channels, of pixels from 0 to 1
MEAN_OF_PIXELS = (103.939, 116.779, 123.68)  # blue, green, red, as Caffe's networks were given them

# By name: whether red and blue change places, what pixels are multiplied by then, and what is taken off at last.
PREPROCESSING: dict[str, tuple] = {
    "unit": (False, 1 / 255, 0.0),
    "tf": (False, 1 / 127.5, 1.0),
    "torch": (False, [1 / (255 * each) for each in DEVIATION], [m / d for m, d in zip(MEAN, DEVIATION, strict=True)]),
    "caffe": (True, 1.0, MEAN_OF_PIXELS),
}
RED_GREEN_BLUE = {"torch", "caffe"}


def preprocessor(name: str | None, model, signature: Signature):
    """A Keras model of pixels from 0 to 255 to the images that a model takes, or `None` where `name` is.

    Args:
        name: One of `PREPROCESSING`, or `None`.
        model: The model, with one input of images: four axes, floats. `keras.config.image_data_format()` says which
            axis holds the channels.
        signature: The signature of the exported model. Its pixels can be integers.

    Raises:
        ValueError: For another name; for a model with other inputs.

    Example:

    >>> from bn_keras.export.signature import signature_of
    >>> network = keras.Sequential([keras.Input((1, 1, 1)), keras.layers.Flatten()])
    >>> front = preprocessor("tf", network, signature_of(network))
    >>> front(np.array([[[[255.0]]], [[[0.0]]]])).numpy().ravel().tolist()
    [1.0, -1.0]
    """
    if name is None:
        return None
    if name not in PREPROCESSING:
        raise ValueError(f"`preprocessing` must be one of {', '.join(PREPROCESSING)}, or None. Received: {name!r}.")
    shape, dtype = images_of(name, model, signature)
    axis = {"channels_last": -1, "channels_first": 1}[keras.config.image_data_format()]
    if name in RED_GREEN_BLUE and shape[axis] != len(MEAN):
        raise ValueError(
            f"preprocessing={name!r} is for images of three channels. Received: a model {model.name!r} with an input "
            f"of shape {shape}. Use preprocessing='unit' or 'tf', which are for any."
        )
    swapped, *affine = PREPROCESSING[name]
    images = keras.Input(shape[1:], dtype=dtype.name)  # it casts integers
    pixels = keras.ops.flip(images, axis) if swapped else images
    sizes = [-1 if i == axis % 4 else 1 for i in range(4)]
    scale, mean = (np.reshape(values, sizes).astype(dtype.as_numpy_dtype) for values in affine)
    # Not a sum: Keras takes a constant with one value for each channel for a bias, of the wrong axis if its size fits.
    return keras.Model(images, pixels * scale - mean, name="preprocessing")


def images_of(name, model, signature):
    """The shape of a model's images, and the dtype of the floats that it takes."""
    specs, own = signature.specs, tf.nest.flatten(declared(model) or [])
    dtype = (own or specs)[0].dtype
    if not own and dtype.is_integer:  # of the exported model: what a subclassed model takes is not declared
        dtype = tf.as_dtype(model.variable_dtype)
    numbers = specs[0].dtype.is_floating or specs[0].dtype.is_integer
    if len(specs) != 1 or specs[0].shape.rank != 4 or not dtype.is_floating or not numbers:
        raise ValueError(
            f"preprocessing={name!r} is for a model with one input of images, (batch, height, width, channels), of "
            f"floats. Received: a model {model.name!r} with inputs {[(spec.shape, spec.dtype.name) for spec in specs]}."
        )
    return specs[0].shape, dtype
