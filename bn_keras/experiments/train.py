"""One training loop, compiled: a whole evaluation interval is one call."""

import dataclasses
import time

import keras
import numpy as np
import tensorflow as tf

from bn_keras.experiments.data import DataError, example_order

EVALUATION_BATCH = 500


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Where a run stands after `step` steps.

    `seconds` is the time spent in training steps so far, without evaluations and tracing;
    `loss` the mean training loss since the evaluation before (`None` before the first step);
    `accuracy` that on the test images, in inference mode.
    """

    step: int
    seconds: float
    loss: float | None
    accuracy: float


def check_held_in_memory(data):
    """Raises a `DataError` for what the compiled interval cannot gather from: streamed images, and text."""
    if data.is_text:
        raise DataError(f"A comparison trains on images, and {data.name!r} is text. Choose a data set of images.")
    if data.train.inputs is None:
        raise DataError(
            f"A comparison needs its images in memory. Received: {data.summary} Choose a smaller data set, or smaller "
            "images."
        )


def make_optimizer(name):
    """A new optimizer of a recipe; its learning rate is assigned before each run."""
    if name == "adam":
        return keras.optimizers.Adam()
    return keras.optimizers.SGD(momentum=0.9 if name == "momentum" else 0.0)


class Trainer:
    """Trains one network again and again, each time from the start, with one compiled step."""

    def __init__(self, build, data, recipe):
        """`build()` returns a new model; `data` and `recipe` say what it is trained on and how."""
        check_held_in_memory(data)
        self.build = build
        self.recipe = recipe
        self.examples = data.train.examples
        self.model = build()
        self.optimizer = make_optimizer(recipe.optimizer)
        self.optimizer.build(self.model.trainable_variables)
        count = recipe.evaluation_examples or data.test.examples
        self._train, self._accuracy = compiled_steps(self.model, self.optimizer, data, recipe.batch_size, count)

    def run(self, learning_rate, seed):
        """Yields an `Evaluation` before the first step and after each interval.

        It ends early when the loss is no longer finite; the last evaluation tells by its loss.
        """
        recipe = self.recipe
        batches = example_order(self.examples, recipe.batch_size, seed)
        self._start(learning_rate, seed)
        yield Evaluation(0, 0.0, None, float(self._accuracy()))
        seconds = 0.0
        for step in range(recipe.evaluate_every, recipe.steps + 1, recipe.evaluate_every):
            indices = tf.constant(np.stack([next(batches) for _ in range(recipe.evaluate_every)]))
            started = time.perf_counter()
            loss = float(self._train(indices))
            seconds += time.perf_counter() - started
            yield Evaluation(step, seconds, loss, float(self._accuracy()))
            if not np.isfinite(loss):
                return

    def _start(self, learning_rate, seed):
        """First weights, and an optimizer that knows nothing."""
        keras.utils.set_random_seed(seed)
        weights = self.build().get_weights()
        # Steps for nothing, as no run shall be charged for compilation: the first call traces,
        # and setting a seed makes TensorFlow forget what it had compiled.
        self._train(tf.zeros([2, self.recipe.batch_size], tf.int32))
        self.model.set_weights(weights)
        for variable in self.optimizer.variables:
            variable.assign(tf.zeros_like(variable))
        self.optimizer.learning_rate.assign(learning_rate)


def compiled_steps(model, optimizer, data, batch_size, evaluation_examples):
    """The training interval and the accuracy, as two compiled functions."""
    mean, deviation = data.moments()
    train_images, train_labels = tf.constant(data.train.inputs), tf.constant(data.train.labels)
    test_images = tf.constant(data.test.inputs[:evaluation_examples])
    test_labels = tf.constant(data.test.labels[:evaluation_examples])

    def standardized(images):
        return (tf.cast(images, tf.float32) - mean) / deviation

    @tf.function(input_signature=[tf.TensorSpec([None, batch_size], tf.int32)])
    def train(indices):
        total = tf.constant(0.0)
        for batch in indices:
            images = standardized(tf.gather(train_images, batch))
            with tf.GradientTape() as tape:
                logits = model(images, training=True)
                losses = keras.losses.sparse_categorical_crossentropy(
                    tf.gather(train_labels, batch), logits, from_logits=True
                )
                loss = tf.reduce_mean(losses)
            optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
            total += loss
        return total / tf.cast(tf.shape(indices)[0], tf.float32)

    @tf.function(input_signature=[])
    def accuracy():
        right = tf.constant(0, tf.int64)
        for start in tf.range(0, tf.shape(test_labels)[0], EVALUATION_BATCH):
            images = standardized(test_images[start : start + EVALUATION_BATCH])
            guesses = tf.argmax(model(images, training=False), axis=-1, output_type=tf.int32)
            right += tf.math.count_nonzero(guesses == test_labels[start : start + EVALUATION_BATCH])
        return tf.cast(right, tf.float32) / tf.cast(tf.shape(test_labels)[0], tf.float32)

    return train, accuracy
