"""Layers that stand in for batch norm in a copy of a model while the moments of what they are given are taken."""

import contextlib
import contextvars
import dataclasses
import math
import typing

import keras
import numpy as np
import tensorflow as tf

from bn_keras.layers import BatchNorm, DecorrelatedBatchNorm
from bn_keras.layers.base import mask_along
from bn_keras.layers.checks import groups_of
from bn_keras.ops.dispatch import kernel_for, settings_for
from bn_keras.ops.kernels.ghost import in_virtual_batches
from bn_keras.ops.moments import moments, other_axes, shifted_moments
from bn_keras.ops.normalize import scale_and_offset
from bn_keras.ops.whitening import grouped, inverse_root, whiten_batch
from bn_keras.surgery.population import Population

# Each replica is traced in a thread of its own, and threads have contexts of their own.
CALLS = contextvars.ContextVar("calls", default=None)


class Call(typing.NamedTuple):
    """One call of a probe: what it was called on and gave, and its row of moments for each batch."""

    probe: keras.layers.Layer
    inputs: tf.Tensor
    outputs: tf.Tensor
    moments: tf.Tensor


class Calls(list):
    """The calls of all probes, in their order, and the graph that they are made in."""

    def __init__(self):
        super().__init__()
        self.graph = tf.compat.v1.get_default_graph()


@contextlib.contextmanager
def recorded():
    """Within it, probes that are measuring put down their calls, in the list that is given.

    The moments are tensors of the function that is being traced, for the function to return.
    """
    calls = Calls()
    token = CALLS.set(calls)
    try:
        yield calls
    finally:
        CALLS.reset(token)


class Probe:
    """What the layers below have in common.

    While measuring, and within `recorded()`, a probe normalizes as training does and puts the moments down. Else
    it runs as in inference.

    Attributes:
        measuring: Whether this layer is being measured.
        shapes: Of count, mean and variance per batch.
    """

    measuring = True
    synchronized = False

    def call(self, inputs, training=None, mask=None):
        calls = CALLS.get()
        if calls is None or not self.measuring:
            return super().call(inputs, training=False, mask=mask)
        if calls.graph is not tf.compat.v1.get_default_graph():
            raise ValueError(
                f"The layer {self.name!r} is called within a loop or a function of its own, as in an RNN cell or "
                "TimeDistributed over a number of steps that is not known, which its moments cannot be taken out "
                "of. Give the number of steps, or set trainable = False on the layer to keep its statistics."
            )
        values, axes = self.prepared(inputs)
        outputs, moments = self.measure(values, *self.scale_and_offset(), mask_along(mask, values), axes)
        outputs = tf.cast(outputs, self.compute_dtype)
        calls.append(Call(self, inputs, outputs, packed(moments, self.shapes)))
        return outputs

    def batches(self, rows):
        """`(count, mean, variance)` of all that training normalizes at once, from a call's rows of all replicas."""
        ends = np.cumsum([math.prod(shape) for shape in self.shapes])
        size = (self.group_size or len(rows)) if self.synchronized else 1
        for first in range(0, len(rows), size):
            whole = Population()
            for row in rows[first : first + size]:
                parts = zip(np.split(row, ends[:-1]), self.shapes, strict=True)
                whole.add(*(part.reshape(shape) for part, shape in parts))
            yield whole.result()


def packed(moments, shapes):
    """`(batches, numbers)`: one tensor for all that leaves a replica."""
    parts = zip(moments, shapes, strict=True)
    return tf.concat([tf.reshape(double(each), [-1, math.prod(shape)]) for each, shape in parts], 1)


def double(x):
    return tf.cast(x, tf.float64)


class BatchNormProbe(Probe, BatchNorm):
    """In the place of batch norm, ours or Keras'."""

    @property
    def shapes(self):
        return [self.sizes] * 3

    def measure(self, x, scale, offset, mask, axes):
        settings = dataclasses.replace(self.settings(axes), renorm=None, fused=None)
        kernel = kernel_for(x, mask, settings)
        scale, offset = scale_and_offset(scale, offset, x, axes)
        y, _ = kernel.normalize(x, scale, offset, mask, settings_for(kernel, settings))
        return self.activation(tf.cast(y, self.compute_dtype)), exact_moments(x, mask, settings)

    def statistics_of(self, mean, variance, batches):
        """The values of the layer's variables, by name, for a population's mean and variance."""
        deviation = np.sqrt(variance + self.epsilon)
        values = {"moving_mean": mean, "moving_variance": variance, "steps": np.array(batches)}
        values |= {"moving_stddev": deviation, "renorm_mean": mean, "renorm_stddev": deviation}
        # What accumulates belongs to batches before the recalibration, and starts anew.
        return {name: values.get(name, np.zeros(weight.shape)) for name, weight in self.statistics.items()}


def exact_moments(x, mask, settings):
    """Count, mean and variance of what training normalizes at once: the batch, or each of its virtual batches."""
    axes, first = settings.axes, 0
    if settings.virtual_batch_size:
        (x, mask, axes), first = in_virtual_batches(x, mask, settings), 1
    reduced = [axis for axis in other_axes(x.shape.rank, axes) if axis >= first]
    count, pivot, correction, variance = shifted_moments(x, reduced, mask)
    return tf.broadcast_to(count, tf.shape(pivot)), double(pivot) + double(correction), variance


class DecorrelatedProbe(Probe, DecorrelatedBatchNorm):
    """In the place of decorrelated batch norm: its variance is a covariance per group."""

    @property
    def shapes(self):
        (channels,) = self.sizes
        groups = groups_of(self.groups, channels)
        size = channels // groups
        return [(groups, size), (groups, size), (groups, size, size)]

    def measure(self, x, scale, offset, mask, axes):
        (axis,), groups = axes, self.shapes[0][0]
        if mask is not None and mask.shape[axis] != 1:
            raise ValueError(
                f"A covariance can be pooled over batches if all channels of {self.name!r} have the same mask. "
                f"Received: a mask of shape {mask.shape} for channels at axis {axis}. Leave that axis out of it."
            )
        y, *_ = whiten_batch(x, scale, offset, mask, self.settings(axes))
        x = double(x)
        mask = tf.ones([1] * x.shape.rank, x.dtype) if mask is None else double(mask)
        count, mean, _ = moments(x, other_axes(x.shape.rank, [axis]), mask)
        vectors = grouped(tf.sqrt(mask) * (x - mean), axis, groups)
        covariance = tf.math.divide_no_nan(tf.matmul(vectors, vectors, transpose_a=True), tf.reshape(count, [1, 1, 1]))
        return y, (tf.broadcast_to(count, tf.shape(mean)), mean, covariance)

    def statistics_of(self, mean, variance, batches):
        spread = tf.constant(variance + self.epsilon * np.eye(variance.shape[-1]))
        return {"moving_mean": mean.ravel(), "moving_whitening": inverse_root(spread, self.iterations).numpy()}


def probe_of(layer):
    """The probe for a layer, of the same config."""
    kind = DecorrelatedProbe if isinstance(layer, DecorrelatedBatchNorm) else BatchNormProbe
    return kind.from_config(layer.get_config())


def levels(calls):
    """The probes that were called, in levels: each probe after all that its input is made from.

    Of two probes that are each before the other, one being called again, the one that was called first is.

    Args:
        calls: A `Calls`, of one trace.

    Returns:
        A list of lists of probes.
    """
    order, before = order_of(calls), sources(calls)
    level = {}
    for probe, place in order.items():
        level[probe] = 1 + max((level[each] for each in before[probe] if order[each] < place), default=-1)
    return [[probe for probe in order if level[probe] == i] for i in range(1 + max(level.values(), default=-1))]


def ancestors(calls) -> dict:
    """By probe, all probes that its input is made from, however far before it."""
    order, before = order_of(calls), sources(calls)
    found: dict = {}
    for probe, place in order.items():
        direct = {each for each in before[probe] if order[each] < place}
        found[probe] = direct.union(*(found[each] for each in direct))
    return found


def order_of(calls) -> dict:
    """The probes by the place of their first call."""
    return {probe: i for i, probe in enumerate(dict.fromkeys(call.probe for call in calls))}


def sources(calls) -> dict:
    """By probe, the probes that its input is made from, with none of them in between."""
    before: dict = {call.probe: set() for call in calls}
    for call in calls:
        before[call.probe] |= made_from(call.inputs, calls)
    return before


def made_from(tensor, calls):
    """The probes whose outputs a tensor is made from, with none of them in between."""
    sources = {call.outputs.name: call.probe for call in calls}
    found, seen, waiting = set(), set(), [tensor]
    while waiting:
        tensor = waiting.pop()
        if tensor.name in sources:
            found.add(sources[tensor.name])
        elif tensor.op.name not in seen:
            seen.add(tensor.op.name)
            waiting += tensor.op.inputs
    return found
