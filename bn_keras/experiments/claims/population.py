"""What a trained network does with moving averages, exact moments of the data, and moments of the batch."""

import keras
import numpy as np
import tensorflow as tf

from bn_keras.experiments.claims.training import rounded
from bn_keras.experiments.trainer import Trainer
from bn_keras.layers import BatchNorm
from bn_keras.surgery import recalibrate


def recalibrated(trainer: Trainer, samples: int) -> keras.Model:
    """The network with the statistics of the first training examples, by Algorithm 2."""
    images = trainer.data.train.inputs[:samples].astype("float32")
    batches = tf.data.Dataset.from_tensor_slices(images).batch(trainer.recipe.batch_size)
    return recalibrate(trainer.model, batches, method="algorithm2", verify=False, report=None)


def accuracy_with(trainer: Trainer, model: keras.Model) -> float:
    """The test accuracy with the weights of a copy; the trainer's network has compiled its evaluation."""
    own = trainer.model.get_weights()
    trainer.model.set_weights(model.get_weights())
    accuracy = trainer.evaluate()
    trainer.model.set_weights(own)
    return round(accuracy, 5)


def accuracy_by_batches(trainer: Trainer) -> float:
    """The test accuracy where each batch of the test examples is normalized by its own moments."""
    own, right = trainer.model.get_weights(), 0
    for images, labels in trainer.data.test.once(trainer.recipe.batch_size):
        logits = trainer.model(tf.cast(images, tf.float32), training=True)
        right += int(tf.math.count_nonzero(tf.argmax(logits, -1, labels.dtype) == labels))
    trainer.model.set_weights(own)
    return round(right / trainer.data.test.examples, 5)


def distance(model: keras.Model, exact: keras.Model) -> tuple[float, float]:
    """How far the moments of all channels are off: means in deviations, variances by their logarithm; root mean
    squares."""
    means, variances = [], []
    for name in [layer.name for layer in model.layers if isinstance(layer, BatchNorm)]:
        mine, truth = model.get_layer(name), exact.get_layer(name)
        means.append((mine.moving_mean - truth.moving_mean) / np.sqrt(truth.moving_variance + truth.epsilon))
        ratio = (mine.moving_variance + mine.epsilon) / (truth.moving_variance + truth.epsilon)
        variances.append(np.log(ratio))
    return tuple(rounded(float(np.sqrt(np.mean(np.square(off)))), 4) for off in (means, variances))


def change_of_output(trainer: Trainer, training: bool) -> float:
    """How much the outputs of ten test examples change when the rest of their batch is another one."""
    own = trainer.model.get_weights()
    images = tf.cast(trainer.data.test.inputs[: 2 * trainer.recipe.batch_size - 10], tf.float32)
    batches = (images[: trainer.recipe.batch_size], tf.concat([images[:10], images[trainer.recipe.batch_size :]], 0))
    first, other = (trainer.model(batch, training=training)[:10] for batch in batches)
    trainer.model.set_weights(own)
    return rounded(float(tf.reduce_max(tf.abs(first - other))), 4)
