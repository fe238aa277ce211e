"""Calibration data: the examples that the ranges of int8 are taken from."""

import keras
import numpy as np
import tensorflow as tf

from bn_keras.export.signature import Signature
from bn_keras.surgery.batches import Batches, is_endless

LEAST_EXAMPLES = 32
ADVICE = "Pass some hundred examples of the training data: an array, a tf.data.Dataset or a list of batches."


def input_of(model, signature: Signature) -> tf.TensorSpec:
    """The only input of a model that int8 can be calibrated for.

    Raises:
        ValueError: For several inputs, an unknown size other than the batch, and an input that is not numeric.
    """
    if len(signature.specs) != 1:
        names = ", ".join(spec.name for spec in signature.specs)
        raise ValueError(
            f"`quantize` takes a model with one input. Received: {model.name!r} with the inputs {names}. Concatenate "
            "them into one in the model, or export it in float32 with `export`."
        )
    (spec,) = signature.specs
    if spec.shape.rank is None or None in spec.shape[1:]:
        raise ValueError(
            f"int8 needs every size of an input but the batch's. Received: {model.name!r} with an input of shape "
            f"{spec.shape}. Pass input_signature=, such as tf.TensorSpec([None, 224, 224, 3], 'float32')."
        )
    if not (spec.dtype.is_floating or spec.dtype.is_integer):
        raise ValueError(f"int8 needs an input of numbers. Received: {model.name!r} with one of {spec.dtype.name}.")
    return spec


def examples_of(data, spec: tf.TensorSpec, pixels: bool) -> np.ndarray:
    """All examples in one array, in the dtype of the input.

    Args:
        data: As in `bn_keras.export.quantize`.
        spec: The input of the model.
        pixels: Whether the exported model scales pixels from 0 to 255.

    Raises:
        TypeError: For data of another kind.
        ValueError: For no data or too few; for another shape; for NaN, infinity, or examples that are all the same.

    >>> examples_of(np.eye(40), tf.TensorSpec([None, 40], "float32", "x"), pixels=False).shape
    (40, 40)
    """
    if data is None:
        raise ValueError(f"int8 needs calibration data. Received: data=None. {ADVICE}")
    if is_endless(data):
        raise ValueError("The calibration data have no end. Take some of them, such as data.take(16).")
    batches = [batch_of(batch, spec) for batch in Batches(data, None, tf.distribute.get_strategy(), again=False)]
    values, least = np.concatenate(batches), max(LEAST_EXAMPLES, spec.shape[0] or 0)
    if len(values) < least:
        raise ValueError(f"`data` must have at least {least} examples. Received: {len(values)}. {ADVICE}")
    if not np.isfinite(values.astype(np.float64)).all():
        raise ValueError("`data` must be finite numbers. Received: NaN or infinity. Leave out these examples.")
    if (values == values[0]).all():
        raise ValueError(f"`data` must be different examples. Received: {len(values)} that are all the same. {ADVICE}")
    if pixels and not (values.min() >= 0 and 1 < values.max() <= 255):
        raise ValueError(
            "With `preprocessing` the calibration data are pixels from 0 to 255, as the exported model takes them. "
            f"Received: values from {values.min():g} to {values.max():g}. Pass the pixels as they are stored."
        )
    return values


def batch_of(batch, spec):
    """A batch as an array of the input's dtype."""
    arrays = [np.asarray(each) for each in keras.tree.flatten(batch)]
    shapes = ", ".join(str(each.shape) for each in arrays)
    if len(arrays) != 1 or not tf.TensorShape([None, *spec.shape[1:]]).is_compatible_with(arrays[0].shape):
        raise ValueError(f"`data` of the input {spec.name!r} must have shape {spec.shape}. Received: {shapes}.")
    values = arrays[0].astype(spec.dtype.as_numpy_dtype)
    if spec.dtype.is_integer and not np.array_equal(values, arrays[0]):
        raise ValueError(
            f"`data` of the input {spec.name!r} must be of {spec.dtype.name}. Received: {arrays[0].dtype} that is not "
            "whole numbers of this range."
        )
    return values
