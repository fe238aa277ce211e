"""The batches that a model is examined on, held in memory so that every pass reads the same ones."""

import dataclasses
import itertools
import typing

import keras
import numpy as np
import tensorflow as tf

from bn_keras.layers.checks import checked_count
from bn_keras.surgery.batches import from_the_first, is_array

EXPECTED = (
    "an array of inputs, a pair (inputs, labels) of arrays, a dict or list of arrays for several inputs, or batches: "
    "a tf.data.Dataset, a keras.utils.PyDataset or another iterable of x, (x, y) or (x, y, sample_weight)"
)


@dataclasses.dataclass(frozen=True)
class Batch:
    """Inputs, and labels and weights or `None`."""

    x: typing.Any
    y: typing.Any = None
    weight: typing.Any = None

    @property
    def size(self) -> int:
        return int(keras.tree.flatten(self.x)[0].shape[0])


def batches_of(data, batch_size: int, steps: int) -> list[Batch]:
    """The first `steps` batches of data; arrays are shuffled and cut first, as `fit` does.

    Raises:
        TypeError, ValueError: For data of another kind, arrays of different lengths, or no batch.
    """
    checked_count("batch_size", batch_size)
    checked_count("steps", steps)
    if isinstance(data, str) or data is None or not (is_array(data) or hasattr(data, "__iter__") or is_sequence(data)):
        raise TypeError(f"`data` must be {EXPECTED}. Received: data={data!r:.80}.")
    if isinstance(data, tf.distribute.DistributedDataset):
        raise TypeError("`data` is distributed, and `examine` runs on one device. Pass the tf.data.Dataset itself.")
    if isinstance(data, tuple):
        data = tuple(map(as_array, data))
    batches: typing.Iterable = slices(data, batch_size) if in_memory(data) else from_the_first(data)
    found = []
    for batch in itertools.islice(batches, steps):
        x, y, weight = keras.utils.unpack_x_y_sample_weight(batch)
        found.append(Batch(*(keras.tree.map_structure(as_tensor, each) for each in (x, y, weight))))
    if not found or not found[0].size:
        raise ValueError("`data` must have at least one batch with an example. Received: none.")
    return found


def refuse_list_for_one_input(model, data) -> None:
    """Refuses a list of several arrays, which are several inputs, for a model that is known to have one input.

    Raises:
        ValueError: With the ways to pass batches.
    """
    inputs = getattr(model, "inputs", None)
    if isinstance(data, list) and len(data) > 1 and all(map(is_array, data)) and inputs and len(inputs) == 1:
        raise ValueError(
            f"`data` is a list of {len(data)} arrays, which stands for {len(data)} inputs of each example. The model "
            f"{model.name!r} has one input. Of one array of examples pass np.concatenate(data); of batches pass "
            "iter(data)."
        )


def as_array(part):
    """A list of numbers as an array: labels often are one."""
    return np.asarray(part) if isinstance(part, list) and all(map(np.isscalar, part)) else part


def is_sequence(data) -> bool:
    return isinstance(data, keras.utils.PyDataset)


def in_memory(data) -> bool:
    """Whether data are arrays, rather than batches."""
    leaves = keras.tree.flatten(data) if isinstance(data, (tuple, list, dict)) else [data]
    if isinstance(data, list) and any(isinstance(each, (tuple, dict)) for each in data):
        return False  # a list of batches
    return bool(leaves) and all(each is None or is_array(each) or isinstance(each, list) for each in leaves)


def slices(data, batch_size):
    """Batches of arrays in a random order. What is left over joins the last batch: alone it may be one example."""
    whole = data if isinstance(data, tuple) else (data,)
    sizes = {len(each) for each in keras.tree.flatten(whole) if each is not None}
    if len(sizes) != 1:
        raise ValueError(f"`data` must have arrays of one length. Received: lengths {sorted(sizes)}.")
    (size,) = sizes
    order = np.random.default_rng(0).permutation(size)
    count = max(1, size // batch_size)
    for i in range(count):
        rows = order[i * batch_size : (i + 1) * batch_size if i < count - 1 else size]
        yield keras.tree.map_structure(lambda each, rows=rows: None if each is None else np.asarray(each)[rows], whole)


def as_tensor(value):
    return value if value is None or tf.is_tensor(value) else tf.convert_to_tensor(value)
