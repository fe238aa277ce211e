"""How far activations shift while a network trains, and how far gradients change."""

import functools
import math
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from bn_keras.experiments.claims.training import rounded
from bn_keras.experiments.steps import mean_loss

CHANGES = ("earlier_layers", "along_gradient", "loss_range")
# Steps along the gradient, in learning rates.
STRIDES = (0.5, 1.0, 2.0, 4.0)
# The kernels at these shares of the depth are looked at when the layers before them are updated.
DEPTHS = (0.25, 0.5, 1.0)
FIXED = {"strides": STRIDES, "depths": DEPTHS}


def observer(every: int) -> Callable:
    """Observes the shift of one batch since the evaluation before, and every so many steps how gradients change."""
    before = None

    def observe(trainer, evaluation) -> dict:
        nonlocal before
        size, rate = trainer.recipe.batch_size, float(trainer.schedule.peak)
        images, labels = trainer.data.validation.inputs[:size], trainer.data.validation.labels[:size]
        moments = channel_moments(trainer.model, images)
        shift = mean_shift(moments, before) if before else None
        before = moments
        changes = gradient_changes(trainer.model, images, labels, rate) if evaluation.step % every == 0 else [None] * 3
        return dict(zip(("shift", *CHANGES), (shift, *map(finite_or_infinite, changes)), strict=True))

    return observe


def finite_or_infinite(value: float | None) -> float | None:
    """A change; ∞ for one that could not be computed, since a step led to infinite numbers."""
    return math.inf if value is not None and math.isnan(value) else value


def gradient_changes(model: keras.Model, images, labels, rate: float) -> tuple[float, float, float]:
    """How far gradients change around the current weights, which stay as they are.

    Random numbers are the same in all evaluations, so that nothing but the weights makes a difference.

    Args:
        model: The network.
        images: A batch of examples.
        labels: Their labels.
        rate: The learning rate of plain gradient descent.

    Returns:
        The change of a kernel's gradient when all layers before it are updated, mean over three kernels; the largest
        change of the whole gradient over steps along it; both relative to the gradient's norm. The range of the loss
        over those steps.
    """
    evaluate = Evaluator(model, images, labels)
    weights = [variable.numpy() for variable in model.trainable_variables]
    loss, gradients = evaluate(weights)
    updated = [weight - rate * gradient for weight, gradient in zip(weights, gradients, strict=True)]
    kernels = [place for place, variable in enumerate(model.trainable_variables) if variable.name == "kernel"]
    changes = []
    for place in sorted({kernels[round(depth * (len(kernels) - 1))] for depth in DEPTHS} - {kernels[0]}):
        _, other = evaluate(updated[:place] + weights[place:])
        changes.append(relative_change(gradients[place : place + 1], other[place : place + 1]))
    losses, along = [loss], []
    for stride in STRIDES:
        moved = [weight - stride * rate * gradient for weight, gradient in zip(weights, gradients, strict=True)]
        other_loss, other = evaluate(moved)
        losses.append(other_loss)
        along.append(relative_change(gradients, other))
    evaluate.restore()
    return rounded(float(np.mean(changes))), rounded(max(along)), rounded(max(losses) - min(losses))


def relative_change(gradients, others) -> float:
    """The norm of the difference over the norm of the first."""
    difference = sum(float(np.sum((a - b) ** 2)) for a, b in zip(gradients, others, strict=True))
    return float(np.sqrt(difference / sum(float(np.sum(each**2)) for each in gradients)))


class Evaluator:
    """Loss and gradients of a batch at any weights, always from the same state of all other variables."""

    def __init__(self, model: keras.Model, images, labels):
        self.model, self.compute = model, compiled_gradients(model)
        self.own = [(variable, variable.numpy()) for variable in model.variables]
        self.batch = tf.cast(images, tf.float32), tf.constant(labels)

    def __call__(self, weights) -> tuple[float, list[np.ndarray]]:
        self.restore()
        for variable, value in zip(self.model.trainable_variables, weights, strict=True):
            variable.assign(value)
        loss, gradients = self.compute(*self.batch)
        return float(loss), [gradient.numpy() for gradient in gradients]

    def restore(self) -> None:
        """Gives all variables their first values."""
        for variable, value in self.own:
            variable.assign(value)


@functools.lru_cache(maxsize=1)
def compiled_gradients(model: keras.Model) -> Callable:
    """A function from a batch to the training loss and its gradients."""

    @tf.function(reduce_retracing=True)
    def compute(images, labels):
        with tf.GradientTape() as tape:
            loss = mean_loss(model, images, labels)
        return loss, tape.gradient(loss, model.trainable_variables)

    return compute


@functools.lru_cache(maxsize=1)
def compiled_moments(model: keras.Model) -> Callable:
    """A function from a batch to the mean and the variance of each channel before a ReLU, in training."""
    before = [layer.input for layer in model.layers if isinstance(layer, (keras.layers.ReLU, keras.layers.Activation))]
    probe = keras.Model(model.input, before)

    @tf.function(reduce_retracing=True)
    def compute(images):
        features = keras.tree.flatten(probe(images, training=True))
        return [tf.nn.moments(each, list(range(len(each.shape) - 1))) for each in features]

    return compute


def channel_moments(model: keras.Model, images) -> tuple[np.ndarray, np.ndarray]:
    """The means and variances of all channels before a ReLU in training; the network stays as it was."""
    own = [(variable, variable.numpy()) for variable in model.variables]
    means, variances = zip(*compiled_moments(model)(tf.cast(images, tf.float32)), strict=True)
    for variable, value in own:
        variable.assign(value)
    return np.concatenate(means), np.concatenate(variances)


def mean_shift(moments, others) -> float:
    """How far the means of channels are from others: the root mean square, in standard deviations."""
    (mean, variance), (other, other_variance) = moments, others
    return rounded(float(np.sqrt(np.mean((mean - other) ** 2 / ((variance + other_variance) / 2 + 1e-12)))))
