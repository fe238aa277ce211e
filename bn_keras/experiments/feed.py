"""How the examples of a step reach the replicas: gathered from arrays in memory, or read from a stream."""

import numpy as np
import tensorflow as tf

from bn_keras.experiments.data import example_order
from bn_keras.experiments.data.arrays import ArraySplit
from bn_keras.experiments.data.stream import StreamSplit


class ArrayFeed:
    """Batches of arrays in memory: the host sends indices, each replica gathers its own piece of the batch."""

    def __init__(self, split: ArraySplit, batch_size: int, strategy: tf.distribute.Strategy):
        self.split, self.batch_size = split, batch_size
        self.piece = batch_size // strategy.num_replicas_in_sync
        self.inputs, self.labels = tf.constant(split.inputs), tf.constant(split.labels)

    def start(self, seed: int, first_step: int) -> None:
        """The next batch is that of `first_step`."""
        self.order = example_order(self.split.examples, self.batch_size, seed)
        for _ in range(first_step):
            next(self.order)

    def draw(self, steps: int) -> tf.Tensor:
        """What the compiled interval takes: indices (steps, batch)."""
        return tf.constant(np.stack([next(self.order) for _ in range(steps)]))

    def piece_of(self, indices: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """In a replica: the inputs and labels of its piece."""
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        own = indices[replica * self.piece : (replica + 1) * self.piece]
        with tf.device("CPU:0"):  # the arrays stay on the host, and only the piece travels to the replica
            return tf.gather(self.inputs, own), tf.gather(self.labels, own)


class StreamFeed:
    """Batches of a stream: each worker reads the pieces of its own replicas."""

    def __init__(self, split: StreamSplit, batch_size: int, strategy: tf.distribute.Strategy):
        self.split, self.batch_size, self.strategy = split, batch_size, strategy

    def start(self, seed: int, first_step: int) -> None:
        """The next batch is that of `first_step`."""
        pieces = self.strategy.num_replicas_in_sync

        def dataset(context):
            own = pieces // context.num_input_pipelines
            return self.split.batches(
                self.batch_size,
                seed=seed,
                first_step=first_step,
                pieces=pieces,
                first_piece=context.input_pipeline_id * own,
                own_pieces=own,
            )

        self.batches = iter(self.strategy.distribute_datasets_from_function(dataset))

    def draw(self, steps: int):
        """What the compiled interval takes: the iterator itself."""
        return self.batches


def make_feed(
    split: ArraySplit | StreamSplit, batch_size: int, strategy: tf.distribute.Strategy
) -> ArrayFeed | StreamFeed:
    """The feed for a split, by where its examples are."""
    return (StreamFeed if split.inputs is None else ArrayFeed)(split, batch_size, strategy)
