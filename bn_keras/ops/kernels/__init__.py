"""The implementations of training: modules of one form, any of which gives the same numbers up to rounding.

Each has

- `obstacle(x, mask, settings)`: why it cannot be used, or why it does not pay, as a phrase; `None` if nothing
  speaks against it;
- `normalize(x, scale, offset, mask, settings)`: the output and the `Moments`, one per channel, that the moving
  statistics average;
- `APPLIES_RELU`: whether the output is max(y, 0) where the settings ask for it;
- `ATTRIBUTES`: the settings that it needs as Python numbers.

`bn_keras.ops.dispatch` picks one.
"""

import math

import tensorflow as tf

ASSUMED_BATCH = 32


def elements(shape: tf.TensorShape, otherwise: float = 0) -> float:
    """The number of elements, in a batch of 32 where its size is not known; `otherwise` where other sizes are not."""
    sizes = shape.as_list()
    sizes[0] = sizes[0] or ASSUMED_BATCH
    return otherwise if None in sizes else math.prod(sizes)
