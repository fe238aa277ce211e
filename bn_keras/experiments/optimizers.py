"""Optimizers and learning-rate schedules by name, all of them Keras' own."""

import keras
import tensorflow as tf

from bn_keras.surgery import exclude_from_weight_decay

OPTIMIZERS = {
    "sgd": lambda **options: keras.optimizers.SGD(**options),
    "momentum": lambda **options: keras.optimizers.SGD(momentum=0.9, **options),
    "adam": lambda **options: keras.optimizers.Adam(**options),
    "adamw": lambda **options: keras.optimizers.AdamW(**options),
}


def cosine(steps: int):
    """Half a cosine from the peak to zero: `keras.optimizers.schedules.CosineDecay`."""
    return keras.optimizers.schedules.CosineDecay(1.0, steps)


def linear(steps: int):
    """A straight line from the peak to zero: `keras.optimizers.schedules.PolynomialDecay`."""
    return keras.optimizers.schedules.PolynomialDecay(1.0, steps, end_learning_rate=0.0)


def exponential(steps: int):
    """From the peak to a hundredth of it: `keras.optimizers.schedules.ExponentialDecay`."""
    return keras.optimizers.schedules.ExponentialDecay(1.0, steps, decay_rate=0.01)


def piecewise(steps: int):
    """A tenth after half and a hundredth after three quarters of the steps, as for ResNets on CIFAR-10:
    `keras.optimizers.schedules.PiecewiseConstantDecay`."""
    return keras.optimizers.schedules.PiecewiseConstantDecay([steps // 2, 3 * steps // 4], [1.0, 0.1, 0.01])


SCHEDULES = {
    "constant": lambda steps: None,
    "cosine": cosine,
    "linear": linear,
    "exponential": exponential,
    "piecewise": piecewise,
}


class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """A peak that can be assigned, times a linear warm-up, times a schedule of peak 1.

    Args:
        shape: A schedule of Keras over the steps after the warm-up, or `None` for a constant one.
        warmup: The number of steps over which the rate rises to its peak; step k has the share (k + 1) / warmup.
    """

    def __init__(self, shape, warmup: int):
        self.peak = tf.Variable(1.0, trainable=False, dtype=tf.float32, name="peak_learning_rate")
        self.shape = shape
        self.warmup = warmup

    def __call__(self, step):
        rate = tf.convert_to_tensor(self.peak)
        step = tf.cast(step, tf.float32)
        if self.shape is not None:
            rate *= tf.cast(self.shape(tf.maximum(step - self.warmup, 0.0)), tf.float32)
        if self.warmup:
            rate *= tf.minimum(1.0, (step + 1.0) / self.warmup)
        return rate


def make_schedule(name: str, steps: int, warmup: int) -> Schedule:
    """A schedule over `steps` steps, of which the first `warmup` rise to the peak."""
    return Schedule(SCHEDULES[name](steps - warmup), warmup)


def make_optimizer(
    name: str, schedule: Schedule, model: keras.Model, weight_decay: float, scale_loss: bool = False
) -> keras.Optimizer:
    """A new optimizer, built for a model. Weight decay spares biases, and scales and offsets of normalization layers.

    Args:
        name: One of `OPTIMIZERS`.
        schedule: The learning rate.
        model: The model, built.
        weight_decay: Decoupled weight decay, as Keras' argument of that name; 0 for none.
        scale_loss: Whether the loss is scaled, which gradients in float16 need.
    """
    decay = weight_decay if weight_decay or name == "adamw" else None  # AdamW refuses None
    optimizer = OPTIMIZERS[name](learning_rate=schedule, weight_decay=decay)
    if weight_decay and any(weight.name in ("gamma", "beta", "bias") for weight in model.trainable_weights):
        exclude_from_weight_decay(optimizer, model, biases=True)
    if scale_loss:
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    optimizer.build(model.trainable_variables)
    return optimizer
