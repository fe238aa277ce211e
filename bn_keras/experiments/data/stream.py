"""A split that is read and decoded while it is used."""

import dataclasses
from typing import Protocol

import numpy as np
import tensorflow as tf

from bn_keras.experiments.data.arrays import ArraySplit
from bn_keras.experiments.data.order import check_first_step, pieces_of


class Source(Protocol):
    """What a `StreamSplit` reads: undecoded examples, tuples of tensors with one row per example."""

    def shuffled(self, batch_size: int, seed: int, first_step: int) -> tf.data.Dataset:
        """Endless undecoded global batches from step `first_step` on; a function of the arguments alone."""

    def stored(self) -> tf.data.Dataset:
        """One pass over the undecoded examples in stored order."""

    def identity(self) -> str:
        """Text that differs where the examples do, as far as it can be told without reading them."""

    def decode(self, *example: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The uint8 image and the int32 label of one undecoded example."""


@dataclasses.dataclass(frozen=True, eq=False)
class StreamSplit:
    """Images that do not fit into memory: `tf.data` reads and decodes them in parallel, ahead of their use."""

    examples: int
    source: Source
    inputs: None = None
    labels: None = None

    def batches(
        self,
        batch_size: int,
        *,
        seed: int,
        first_step: int = 0,
        pieces: int = 1,
        first_piece: int = 0,
        own_pieces: int | None = None,
    ) -> tf.data.Dataset:
        """Endless training batches.

        The global batch of a step is a function of the split, `batch_size`, `seed` and the step alone, so that
        any number of workers trains on the same batches. Only the worker's own pieces are decoded.

        Args:
            batch_size: Examples in a global batch, over all replicas; an int.
            seed: Seed of the order of the examples; an int ≥ 0.
            first_step: The step to begin with; an int, 0 by default. A resumed run passes its number of finished steps.
            pieces: Equal pieces that each global batch is cut into, one per replica; an int, 1 by default.
            first_piece: The worker's first piece; an int, 0 by default.
            own_pieces: How many pieces the worker owns; an int, or `None` (the default) for all from `first_piece` on.

        Returns:
            A `tf.data.Dataset` of `(inputs, labels)`. An element is one piece with `batch_size / pieces` examples. For
            each step it yields the worker's pieces in order.

        Raises:
            ValueError: When `batch_size` is not a multiple of `pieces`, or a step or piece is out of range.
        """
        own = pieces_of(batch_size, pieces, first_piece, own_pieces)
        check_first_step(first_step)
        global_batches = self.source.shuffled(batch_size, seed, first_step)
        undecoded = global_batches.map(lambda *batch: tuple(part[own.rows] for part in batch)).unbatch()
        return self._decoded(undecoded).batch(own.size, drop_remainder=True).prefetch(tf.data.AUTOTUNE)

    def once(self, batch_size: int) -> tf.data.Dataset:
        """One pass in stored order, for evaluation; the last batch may be smaller."""
        return self._decoded(self.source.stored()).batch(batch_size).prefetch(tf.data.AUTOTUNE)

    def _decoded(self, undecoded):
        return undecoded.map(self.source.decode, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


def held_in_memory(split: StreamSplit, input_shape: tuple[int, ...]) -> ArraySplit:
    """The same examples, read and decoded once."""
    inputs = np.empty((split.examples, *input_shape), np.uint8)
    labels = np.empty(split.examples, np.int32)
    filled = 0
    for images, numbers in split.once(256):
        rows = slice(filled, filled + len(numbers))
        inputs[rows], labels[rows] = images.numpy(), numbers.numpy()
        filled = rows.stop
    if filled != split.examples:
        raise ValueError(f"The data set announced {split.examples} examples and has {filled}. Prepare it again.")
    return ArraySplit(inputs, labels)
