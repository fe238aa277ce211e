"""Batch norm whose outputs shift at every step."""

import keras

from bn_keras.layers import BatchNorm

# The ranges of Santurkar et al. 2018: of a channel's mean and scale, and of an example's deviations from them.
MEAN, SCALE, SPREAD = 0.5, 1.25, 0.1
NOISE = {"noise of the mean": MEAN, "noise of the scale": SCALE, "noise of an example": SPREAD}


@keras.saving.register_keras_serializable("bn_keras")
class ShiftingBatchNorm(BatchNorm):
    """Batch norm and then, in training, noise whose mean and scale are drawn anew at every call.

    Each channel gets a mean from U(−0.5, 0.5) and a scale from U(1, 1.25), each example of it its own within 0.1 of
    them. Inference multiplies by the mean scale. Source: Santurkar et al. 2018, https://arxiv.org/abs/1805.11604.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.generator = keras.random.SeedGenerator()

    def call(self, inputs, training=None, mask=None):
        outputs = super().call(inputs, training=training, mask=mask)
        if not self.learns(training):
            return outputs * (1 + SCALE) / 2
        shape = (1,) * (len(inputs.shape) - 1) + (inputs.shape[-1],)
        own = (keras.ops.shape(inputs)[0], *shape[1:])
        mean = self.uniform(shape, -MEAN, MEAN) + self.uniform(own, -SPREAD, SPREAD)
        scale = self.uniform(shape, 1, SCALE) + keras.random.normal(own, 0, SPREAD, seed=self.generator)
        return scale * outputs + mean

    def uniform(self, shape, low, high):
        """Numbers between two limits."""
        return keras.random.uniform(shape, low, high, seed=self.generator)
