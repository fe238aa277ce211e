"""The compiled parts of training: an interval of steps over all replicas, and the count of right answers."""

import dataclasses
from collections.abc import Callable

import keras
import tensorflow as tf

from bn_keras.experiments.feed import ArrayFeed, StreamFeed
from bn_keras.experiments.training_recipe import TrainingRecipe


@dataclasses.dataclass(frozen=True)
class Parts:
    """What a step trains with."""

    model: keras.Model
    optimizer: keras.Optimizer
    augmentation: keras.Sequential | None
    strategy: tf.distribute.Strategy
    recipe: TrainingRecipe

    @property
    def replicas(self) -> int:
        """The replicas of all workers."""
        return self.strategy.num_replicas_in_sync


def mean_loss(model: keras.Model, inputs, labels):
    """The cross-entropy of a piece of a batch, mean over its examples and positions, with the model's own losses."""
    logits = model(inputs, training=True)
    logits = tf.cast(logits, tf.float64 if logits.dtype == tf.float64 else tf.float32)
    loss = tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True))
    return tf.add_n([loss, *(tf.cast(extra, loss.dtype) for extra in model.losses)])


def train_on_piece(parts: Parts, inputs, labels):
    """One step in one replica: gradients of its piece, summed over the replicas by the optimizer.

    Returns:
        The share of the piece in the loss of the batch, float32.
    """
    variables = parts.model.trainable_variables
    count = parts.recipe.accumulate
    total, gradients = 0.0, None
    for part in range(count):
        size = tf.shape(labels)[0] // count
        own = slice(part * size, (part + 1) * size)
        x = inputs[own]
        if parts.augmentation is not None:
            x = parts.augmentation(x, training=True)
        with tf.GradientTape() as tape:
            loss = mean_loss(parts.model, x, labels[own]) / (parts.replicas * count)
            scaled = parts.optimizer.scale_loss(loss)
        new = tape.gradient(scaled, variables)
        gradients = new if gradients is None else summed(gradients, new)
        total += loss
    parts.optimizer.apply(clipped(gradients, parts), variables)
    return tf.cast(total, tf.float32)


def summed(gradients: list, others: list) -> list:
    """Sums of gradients; those of embeddings are sparse, and TensorFlow has no sum for them."""
    pairs = zip(gradients, others, strict=True)
    return [tf.convert_to_tensor(one) + tf.convert_to_tensor(other) for one, other in pairs]


def clipped(gradients: list, parts: Parts) -> list:
    """Gradients whose sum over the replicas is clipped by its norm; Keras' own clipping sees one replica alone."""
    limit = parts.recipe.clip_norm
    if limit is None:
        return gradients
    gradients = [tf.convert_to_tensor(gradient) for gradient in gradients]
    if parts.replicas > 1:
        gradients = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, gradients)
    # The optimizer sums over the replicas once more, and unscales what `scale_loss` has scaled.
    limit = parts.optimizer.scale_loss(tf.constant(limit, gradients[0].dtype))
    gradients, _ = tf.clip_by_global_norm(gradients, limit)
    return [gradient / parts.replicas for gradient in gradients]


def compile_interval(parts: Parts, feed: ArrayFeed | StreamFeed) -> Callable:
    """A function that takes what `feed.draw` gives and a number of steps, trains, and returns the summed losses."""

    def sum_over_replicas(losses):
        return parts.strategy.reduce(tf.distribute.ReduceOp.SUM, losses, axis=None)

    def step_on_indices(indices):
        return train_on_piece(parts, *as_inputs(parts.model, *feed.piece_of(indices)))

    def step_on_examples(examples):
        return train_on_piece(parts, *as_inputs(parts.model, *examples))

    @tf.function(
        input_signature=[tf.TensorSpec([None, parts.recipe.batch_size], tf.int32), tf.TensorSpec([], tf.int32)]
    )
    def from_arrays(indices, steps):
        total = tf.constant(0.0)
        for step in tf.range(steps):
            total += sum_over_replicas(parts.strategy.run(step_on_indices, args=(indices[step],)))
        return total

    @tf.function
    def from_stream(batches, steps):
        total = tf.constant(0.0)
        for _ in tf.range(steps):
            total += sum_over_replicas(parts.strategy.run(step_on_examples, args=(next(batches),)))
        return total

    return from_arrays if isinstance(feed, ArrayFeed) else from_stream


def compile_count(model: keras.Model) -> Callable:
    """A function that counts the right answers of a batch in inference mode; of tokens it counts positions."""

    @tf.function(reduce_retracing=True)
    def count_right(inputs, labels):
        inputs, labels = as_inputs(model, inputs, labels)
        guesses = tf.argmax(model(inputs, training=False), axis=-1, output_type=labels.dtype)
        return tf.math.count_nonzero(guesses == labels)

    return count_right


def as_inputs(model: keras.Model, inputs, labels):
    """Raw examples in the dtype of the model's input."""
    return tf.cast(inputs, model.inputs[0].dtype), labels
