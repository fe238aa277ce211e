"""One pass of a model over the batches: what each batch norm gets, what comes out, and how right it is."""

import dataclasses
import math
import typing

import keras
import numpy as np
import tensorflow as tf

from bn_keras.doctor.data import Batch
from bn_keras.doctor.watching import Seen, untouched, watched
from bn_keras.layers import DomainBatchNorm
from bn_keras.layers.base import axes_of, mask_along
from bn_keras.ops.moments import moments, other_axes
from bn_keras.surgery.freeze import WITH_STATISTICS
from bn_keras.surgery.population import Population
from bn_keras.surgery.tree import layers_of

# How the model is called: "inference" as `predict` does; "batch" likewise, but a batch norm that trains normalizes by
# the batch; "training" as `fit` does.
Mode = typing.Literal["inference", "batch", "training"]


@dataclasses.dataclass
class Pass:
    """What one pass over the batches has measured.

    Attributes:
        outputs: By batch, the outputs of the model, flat.
        sizes: By batch, the number of examples.
        losses: By batch, the loss; NaN without one.
        correct: By batch, the share of right classes; NaN without classes.
        moments: By batch norm and batch, `(count, mean, variance)` per channel.
        values: By batch norm, the least number of values per channel that a call normalizes together, for each batch.
        by_batch: The batch norms that normalize by the batch.
        single: By batch norm, the number of batches in which it would have had one value per channel.
        symbolic: The batch norms that are called within a loop or a graph, where nothing can be measured.
    """

    outputs: list = dataclasses.field(default_factory=list)
    sizes: list = dataclasses.field(default_factory=list)
    losses: list = dataclasses.field(default_factory=list)
    correct: list = dataclasses.field(default_factory=list)
    moments: dict = dataclasses.field(default_factory=dict)
    values: dict = dataclasses.field(default_factory=dict)
    by_batch: set = dataclasses.field(default_factory=set)
    single: dict = dataclasses.field(default_factory=dict)
    symbolic: set = dataclasses.field(default_factory=set)

    @property
    def loss(self) -> float | None:
        return mean_or_none(self.losses, self.sizes)

    @property
    def accuracy(self) -> float | None:
        return mean_or_none(self.correct, self.sizes)


def mean_or_none(values, sizes) -> float | None:
    """The mean over examples, of means by batch."""
    return float(np.average(values, weights=sizes)) if values and np.isfinite(values).all() else None


def norms_of(model) -> list[keras.layers.Layer]:
    """The batch norms of a model that have been built and have one set of statistics."""
    found = [layer for layer in layers_of(model) if isinstance(layer, WITH_STATISTICS) and layer.built]
    return [layer for layer in found if not isinstance(layer, DomainBatchNorm)]


def of_domains(model) -> list[DomainBatchNorm]:
    """The batch norms with statistics per domain, which are not examined."""
    return [layer for layer in layers_of(model) if isinstance(layer, DomainBatchNorm)]


def measure(
    model, batches: list[Batch], mode: Mode, criterion=None, trains: typing.Collection = (), with_moments: bool = True
) -> Pass:
    """One pass over the batches, which leaves the model as it is.

    Args:
        model: A built Keras model.
        batches: What it is called on.
        mode: How it is called.
        criterion: A `bn_keras.doctor.criterion.Criterion`, or `None` for no loss.
        trains: For "batch": the batch norms that normalize by the batch, as those of `Pass.by_batch`.
        with_moments: Whether to measure moments, which takes about as long as all layers of a network.
    """
    found, norms = Pass(), norms_of(model)
    for batch in batches:
        rows: dict = {}

        def around(seen, rows=rows):
            return of_batch_norm(seen, mode, trains, found, rows, with_moments)

        with untouched(model):
            with watched(norms, around):
                outputs = model(batch.x, training=mode == "training")
            loss, correct = criterion(model, batch, outputs) if criterion else (np.nan, np.nan)
        found.outputs.append([as_numpy(each) for each in keras.tree.flatten(outputs) if each is not None])
        found.sizes.append(batch.size)
        found.losses.append(loss)
        found.correct.append(correct)
        for layer, calls in rows.items():
            whole = Population()
            for call in calls:
                whole.add(*call)
            found.moments.setdefault(layer, []).append(whole.result())
            found.values.setdefault(layer, []).append(min(together(layer, call[0], batch.size) for call in calls))
    return found


def of_batch_norm(seen: Seen, mode: Mode, trains, found: Pass, rows: dict, with_moments: bool):
    """Measures a call of a batch norm and makes it, with β where it has one value per channel."""
    layer, x = seen.layer, seen.inputs
    if not hasattr(x, "numpy"):
        found.symbolic.add(layer)
        return seen.go()
    mask = seen.arguments.get("mask")
    if with_moments:
        rows.setdefault(layer, []).append(moments_of(layer, x, mask))
    training = layer in trains if mode == "batch" else seen.training
    if training and layer.trainable and not getattr(layer, "frozen", False):
        found.by_batch.add(layer)
        count = rows[layer][-1][0] if with_moments else count_of(layer, x, mask)
        if together(layer, count, int(x.shape[0])) <= 1:
            found.single[layer] = found.single.get(layer, 0) + 1
            # Training would give β, or an error in bn_keras: inference on the moving mean gives β too.
            seen.put(at_the_mean(layer, x))
            training = False
    seen.arguments["training"] = training
    return seen.go()


def at_the_mean(layer, x):
    """The moving mean of a layer, in the place of each of its inputs."""
    sizes = [size if i in axes_of(layer.axis, x.shape) else 1 for i, size in enumerate(x.shape)]
    return tf.zeros_like(x) + tf.cast(tf.reshape(tf.convert_to_tensor(layer.moving_mean), sizes), x.dtype)


def count_of(layer, x, mask):
    """The count of `moments_of` alone."""
    if mask is not None:
        return moments_of(layer, x, mask)[0]
    return float(math.prod(x.shape[i] for i in other_axes(x.shape.rank, axes_of(layer.axis, x.shape))))


def moments_of(layer, x, mask) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Count, mean and variance per channel, in float64."""
    x = tf.cast(x, tf.float64)
    axes = axes_of(layer.axis, x.shape)
    count, mean, variance = moments(x, other_axes(x.shape.rank, axes), mask_along(mask, x))
    count = tf.broadcast_to(count, tf.shape(mean))
    return tuple(each.numpy().ravel() for each in (count, mean, variance))  # type: ignore[return-value]


def together(layer, count, examples: int) -> float:
    """How many values per channel a layer normalizes together: of virtual batches, its share."""
    virtual = getattr(layer, "virtual_batch_size", None)
    share = min(1.0, virtual / examples) if virtual else 1.0
    return float(np.min(count, initial=np.inf)) * share


def as_numpy(value) -> np.ndarray:
    """An output in its own dtype, as all outputs of a pass stay in memory; NumPy has no arithmetic of bfloat16."""
    value = keras.ops.convert_to_numpy(value)
    return value.astype(np.float32) if value.dtype.kind == "V" else value


def output_change(before: Pass, after: Pass) -> list[float]:
    """How far each output is from that of another pass: in its own deviations over examples, root mean square.

    Of an output that is no float, such as classes, it is the share of values that differ.
    """
    changes = []
    for i, first in enumerate(before.outputs[0]):
        old, new = ([batch[i] for batch in each.outputs] for each in (before, after))
        if first.dtype.kind != "f":
            changes.append(float(np.mean([np.mean(one != other) for one, other in zip(old, new, strict=True)])))
            continue
        with np.errstate(invalid="ignore", over="ignore"):  # outputs may be NaN or infinity
            spread, size = deviation_and_size(old)
            unit = max(spread, 1e-6 * size, 1e-30)
            pairs = zip(in_float64(old), in_float64(new), strict=True)
            changes.append(root_of_mean_of((other - one for one, other in pairs), count_of_values(old)) / unit)
    return changes


def deviation_and_size(outputs: list[np.ndarray]) -> tuple[float, float]:
    """The standard deviation of an output over the examples of all batches, and its root mean square.

    Where lengths differ from batch to batch, all axes but the last merge, and all axes where the last one differs too.
    """
    shape, count = shape_of_example(outputs), count_of_values(outputs)
    rows = [each.reshape(-1, *shape) for each in outputs]
    mean = sum(each.sum(axis=0, dtype=np.float64) for each in rows) / sum(map(len, rows))
    return root_of_mean_of((each - mean for each in in_float64(rows)), count), root_of_mean_of(in_float64(rows), count)


def shape_of_example(outputs: list[np.ndarray]) -> tuple[int, ...]:
    """The part of the shape that all batches have in common, from the second axis or from the last one.

    >>> shape_of_example([np.zeros((4, 5, 3)), np.zeros((2, 7, 3))])
    (3,)
    """
    for start in (1, -1):
        shapes = {each.shape[start:] for each in outputs}
        if len(shapes) == 1:
            return next(iter(shapes))
    return ()


def count_of_values(outputs: list[np.ndarray]) -> int:
    return sum(each.size for each in outputs)


def in_float64(outputs: list[np.ndarray]) -> typing.Iterator[np.ndarray]:
    """One batch after the other in float64: together they would take a multiple of the memory."""
    return (each.astype(np.float64) for each in outputs)


def root_of_mean_of(values: typing.Iterable[np.ndarray], count: int) -> float:
    """The root mean square of the values of several arrays."""
    return float(np.sqrt(sum(np.sum(np.square(each)) for each in values) / count))
