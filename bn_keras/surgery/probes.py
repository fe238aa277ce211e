"""Layers that stand in for batch norm in a copy of a model while the moments of what they are given are taken."""

import contextlib
import contextvars
import math
import typing

import keras
import numpy as np
import tensorflow as tf

from bn_keras.layers import BatchNorm, DecorrelatedBatchNorm
from bn_keras.layers.base import axes_of, float_tensor, tensor_or_none, weights_of, with_known_sizes
from bn_keras.layers.checks import groups_of
from bn_keras.ops.cross_replica import normalize_across_replicas, replica_context
from bn_keras.ops.moments import broadcastable, moments, other_axes, shifted_moments, statistics_dtype
from bn_keras.ops.normalize import affine, scale_and_offset
from bn_keras.ops.virtual_batch import batch_norm_in_groups
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
        values = with_known_sizes(float_tensor(inputs), self.axis, self.sizes)
        weights = None if mask is None else weights_of(mask, values)
        outputs, measured = self.measure(values, tensor_or_none(self.gamma), tensor_or_none(self.beta), weights)
        outputs = tf.cast(outputs, self.compute_dtype)
        calls.append(Call(self, inputs, outputs, packed(measured, self.shapes)))
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


def packed(measured, shapes):
    """`(batches, numbers)`: one tensor for all that leaves a replica."""
    parts = zip(measured, shapes, strict=True)
    return tf.concat([tf.reshape(double(each), [-1, math.prod(shape)]) for each, shape in parts], 1)


def double(x):
    return tf.cast(x, tf.float64)


class BatchNormProbe(Probe, BatchNorm):
    """In the place of batch norm, ours or Keras'."""

    @property
    def shapes(self):
        return [self.sizes] * 3

    def measure(self, x, gamma, beta, weights):
        axes, rank, dtype = axes_of(self.axis, x.shape), x.shape.rank, statistics_dtype(x.dtype)
        weights = None if weights is None else tf.cast(weights, dtype)
        gamma, beta = scale_and_offset(gamma, beta, x, axes)
        count, pivot, correction, variance = shifted_moments(x, other_axes(rank, axes), weights)
        measured = tf.broadcast_to(count, tf.shape(pivot)), double(pivot) + double(correction), variance
        if self.synchronized and replica_context():
            y, *_ = normalize_across_replicas(x, gamma, beta, axes, self.epsilon, weights, self.group_size)
        elif self.virtual_batch_size:
            y, *measured = batch_norm_in_groups(x, gamma, beta, weights, axes, self.epsilon, self.virtual_batch_size)
        else:
            gamma, beta = (broadcastable(values, rank, axes) for values in (gamma, beta))
            inverse = tf.math.rsqrt(variance + self.epsilon)
            y = tf.cast(affine(tf.cast(x, dtype) - pivot, correction, inverse, gamma, beta), x.dtype)
        return self.activation(tf.cast(y, self.compute_dtype)), measured

    def statistics_of(self, mean, variance, batches):
        """The values of the layer's variables, by name, for a population's mean and variance."""
        deviation = np.sqrt(variance + self.epsilon)
        values = {"moving_mean": mean, "moving_variance": variance, "steps": np.array(batches)}
        values |= {"moving_stddev": deviation, "renorm_mean": mean, "renorm_stddev": deviation}
        return {name: values[name] for name in self.statistics}


class DecorrelatedProbe(Probe, DecorrelatedBatchNorm):
    """In the place of decorrelated batch norm: its variance is a covariance per group."""

    @property
    def shapes(self):
        (channels,) = self.sizes
        groups = groups_of(self.groups, channels)
        size = channels // groups
        return [(groups, size), (groups, size), (groups, size, size)]

    def measure(self, x, gamma, beta, weights):
        (axis,), groups = axes_of(self.axis, x.shape), self.shapes[0][0]
        if weights is not None and weights.shape[axis] != 1:
            raise ValueError(
                f"A covariance can be pooled over batches if all channels of {self.name!r} have the same mask. "
                f"Received: a mask of shape {weights.shape} for channels at axis {axis}. Leave that axis out of it."
            )
        settings = {"axis": axis, "groups": groups, "iterations": self.iterations, "epsilon": self.epsilon}
        y, *_ = whiten_batch(x, gamma, beta, weights, **settings)
        x = double(x)
        weights = tf.ones([1] * x.shape.rank, x.dtype) if weights is None else double(weights)
        count, mean, _ = moments(x, other_axes(x.shape.rank, [axis]), weights)
        vectors = grouped(tf.sqrt(weights) * (x - mean), axis, groups)
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
    order, before, found = order_of(calls), sources(calls), {}
    for probe, place in order.items():
        direct = {each for each in before[probe] if order[each] < place}
        found[probe] = direct.union(*(found[each] for each in direct))
    return found


def order_of(calls) -> dict:
    """The probes by the place of their first call."""
    return {probe: i for i, probe in enumerate(dict.fromkeys(call.probe for call in calls))}


def sources(calls) -> dict:
    """By probe, the probes that its input is made from, with none of them in between."""
    before = {call.probe: set() for call in calls}
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
