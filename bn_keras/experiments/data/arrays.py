"""A split that is held in memory."""

import dataclasses
import itertools

import numpy as np
import tensorflow as tf

from bn_keras.experiments.data.order import check_first_step, example_order, pieces_of


@dataclasses.dataclass(frozen=True, eq=False)
class ArraySplit:
    """Examples in memory: `inputs` (uint8 images or int32 tokens) and int32 `labels`, one row per example."""

    inputs: np.ndarray
    labels: np.ndarray

    @property
    def examples(self) -> int:
        """The number of examples."""
        return len(self.labels)

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
        """Endless training batches; see `StreamSplit.batches`, which has the same arguments.

        The global batches are those of `example_order(examples, batch_size, seed)`.
        """
        own = pieces_of(batch_size, pieces, first_piece, own_pieces)
        check_first_step(first_step)

        def elements():
            order = example_order(self.examples, batch_size, seed)
            for batch in itertools.islice(order, first_step, None):
                for piece in batch[own.rows].reshape(own.count, own.size):
                    yield self.inputs[piece], self.labels[piece]

        return self._dataset(elements, own.size)

    def once(self, batch_size: int) -> tf.data.Dataset:
        """One pass in stored order, for evaluation; the last batch may be smaller."""

        def elements():
            for start in range(0, self.examples, batch_size):
                rows = slice(start, start + batch_size)
                yield self.inputs[rows], self.labels[rows]

        return self._dataset(elements, None)

    def _dataset(self, elements, rows):
        arrays = (self.inputs, self.labels)
        signature = tuple(tf.TensorSpec((rows, *array.shape[1:]), array.dtype) for array in arrays)
        return tf.data.Dataset.from_generator(elements, output_signature=signature).prefetch(tf.data.AUTOTUNE)
