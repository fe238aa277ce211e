"""The order of the examples, and the pieces that a global batch is cut into."""

import dataclasses
from collections.abc import Iterator

import numpy as np


def example_order(examples: int, batch_size: int, seed: int) -> Iterator[np.ndarray]:
    """Batches of indices without end: one random order of all examples after the other.

    Args:
        examples: Int, the number of examples.
        batch_size: Int, the number of indices per batch.
        seed: Int, the seed of the orders; the batches depend on the three arguments alone.

    Returns:
        An iterator over int32 arrays `(batch_size,)`.

    >>> order = example_order(4, 2, seed=0)
    >>> sorted([*next(order).tolist(), *next(order).tolist()])
    [0, 1, 2, 3]
    """
    generator = np.random.default_rng(seed)
    waiting = np.zeros(0, np.int32)
    while True:
        while len(waiting) < batch_size:
            waiting = np.concatenate([waiting, generator.permutation(examples).astype(np.int32)])
        yield waiting[:batch_size]
        waiting = waiting[batch_size:]


@dataclasses.dataclass(frozen=True)
class Pieces:
    """A global batch in equal pieces, one per replica; a worker owns `count` of them, from `first` on."""

    size: int
    first: int
    count: int

    @property
    def rows(self) -> slice:
        """The rows of the global batch that the worker owns."""
        return slice(self.first * self.size, (self.first + self.count) * self.size)


def pieces_of(batch_size: int, pieces: int, first_piece: int, own_pieces: int | None) -> Pieces:
    """The worker's pieces; `own_pieces=None` means all from `first_piece` on.

    Raises:
        ValueError: When the batch cannot be cut into equal pieces, or the worker's pieces are not among them.
    """
    if batch_size < 1 or pieces < 1 or batch_size % pieces:
        raise ValueError(
            f"`batch_size` must be a positive multiple of `pieces`, the number of replicas. Received: "
            f"batch_size={batch_size}, pieces={pieces}. Change batch_size to a multiple of {max(pieces, 1)}."
        )
    own = pieces - first_piece if own_pieces is None else own_pieces
    if first_piece < 0 or own < 1 or first_piece + own > pieces:
        raise ValueError(
            f"`first_piece` and `own_pieces` must name pieces from 0 to pieces - 1 = {pieces - 1}. Received: "
            f"first_piece={first_piece}, own_pieces={own_pieces}."
        )
    return Pieces(batch_size // pieces, first_piece, own)


def check_first_step(first_step: int) -> None:
    """Raises a `ValueError` for a step before the first one."""
    if first_step < 0:
        raise ValueError(f"`first_step` must be an int ≥ 0. Received: first_step={first_step}.")
