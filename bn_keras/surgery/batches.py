"""The inputs of a model out of all that Keras takes as data, batch by batch, for the replicas of a strategy."""

import itertools

import keras
import tensorflow as tf

BATCH = 32
ADVICE = "Pass an array, a tf.data.Dataset, a keras.utils.PyDataset or a list of batches."


class Batches:
    """Data that can be gone through, as often as it allows.

    Args:
        data: An array or a dict of arrays of the same length, taken 32 at a time; a `tf.data.Dataset`; a
            `tf.distribute.DistributedDataset`; a `keras.utils.PyDataset`; or any other iterable of batches. A
            batch is `x`, `(x, y)` or `(x, y, sample_weight)`.
        steps: The number of batches that are taken; `None` for all there are.
        strategy: Batches are split among its replicas: a `tf.data.Dataset` by the strategy, one that is distributed
            already is taken as it is, and of all else each replica takes its part of every batch.
        again: Whether the data has to be gone through more than once.

    Raises:
        TypeError: For data of another kind.
        ValueError: For data without end and no `steps`, or that can be gone through only once and must be again.

    Example:

    >>> batches = Batches(tf.zeros([70, 3]), None, tf.distribute.get_strategy(), again=True)
    >>> [len(x) for x in batches]
    [32, 32, 6]
    """

    def __init__(self, data, steps, strategy, again):
        self.data, self.steps, self.strategy = data, steps, strategy
        self.distributed = isinstance(data, tf.distribute.DistributedDataset)
        self.check_data(again)
        if is_array(data) or isinstance(data, dict):
            self.data = Slices(data)
        elif isinstance(data, tf.data.Dataset) and tf.distribute.has_strategy():
            self.data, self.distributed = strategy.experimental_distribute_dataset(data), True

    def check_data(self, again):
        data = self.data
        iterable = isinstance(data, keras.utils.PyDataset) or hasattr(data, "__iter__") or is_array(data)
        if isinstance(data, (tuple, str)) or not iterable:
            advice = "Of arrays (x, y) pass x alone." if isinstance(data, tuple) else ADVICE
            raise TypeError(f"Expected batches of the model's inputs. Received: data={data!r:.80}. {advice}")
        if self.distributed and not tf.distribute.has_strategy():
            raise ValueError("A distributed dataset belongs to a strategy. Make this call within strategy.scope().")
        if self.steps is None and is_endless(data):
            raise ValueError("The data has no end. Say how many batches to take: steps=….")
        if again and not isinstance(data, keras.utils.PyDataset) and iter(data) is data:
            raise ValueError(
                "With sequential=True the data is gone through several times. Received: an iterator "
                f"({type(data).__name__}), which can be gone through once. {ADVICE}"
            )

    def __iter__(self):
        """The inputs of each batch, as tensors or values per replica.

        Raises:
            ValueError: When there are fewer batches than `steps`, or none.
        """
        count = 0
        for count, batch in enumerate(itertools.islice(from_the_first(self.data), self.steps), 1):  # noqa: B007
            x, _, _ = keras.utils.unpack_x_y_sample_weight(batch)
            yield x if self.distributed else self.of_replicas(keras.tree.map_structure(tensor, x))
        if not count:
            raise ValueError("Expected at least one batch of data. Received: none.")
        if self.steps is not None and count < self.steps:
            raise ValueError(
                f"Expected steps={self.steps} batches. Received: {count}. Pass a smaller `steps`, or None for all "
                "batches, or data that repeats."
            )

    def of_replicas(self, x):
        replicas = self.strategy.num_replicas_in_sync
        if replicas == 1:
            return x

        def part(context):
            return keras.tree.map_structure(lambda each: shard(each, context.replica_id_in_sync_group, replicas), x)

        return self.strategy.experimental_distribute_values_from_function(part)


def shard(x, replica, replicas):
    """The rows of one replica: as many as of any other, or one less; none where there are more replicas than rows.

    >>> [shard(tf.range(5), replica, 4).numpy().tolist() for replica in range(4)]
    [[0, 1], [2], [3], [4]]
    """
    size, larger = divmod(int(x.shape[0]), replicas)
    start = replica * size + min(replica, larger)
    return x[start : start + size + (replica < larger)]


def tensor(value):
    return value if tf.is_tensor(value) else keras.ops.convert_to_tensor(value)


def is_array(data):
    return hasattr(data, "shape") and hasattr(data, "__getitem__")


class Slices:
    """Batches of an array, or of a dict of arrays."""

    def __init__(self, data):
        self.data, sizes = data, {len(each) for each in keras.tree.flatten(data)}
        if len(sizes) != 1:
            raise ValueError(f"Expected arrays of the same length. Received: lengths {sorted(sizes)}.")
        (self.size,) = sizes

    def __iter__(self):
        for start in range(0, self.size, BATCH):
            yield keras.tree.map_structure(lambda each, start=start: each[start : start + BATCH], self.data)


def from_the_first(data):
    if not isinstance(data, keras.utils.PyDataset):
        return iter(data)
    return (data[i] for i in (itertools.count() if is_endless(data) else range(data.num_batches)))


def is_endless(data):
    if isinstance(data, keras.utils.PyDataset):
        return data.num_batches is None
    return isinstance(data, tf.data.Dataset) and int(data.cardinality()) == tf.data.INFINITE_CARDINALITY
