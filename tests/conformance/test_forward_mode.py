"""Forward mode: `tf.autodiff.ForwardAccumulator`, by itself and over a gradient."""

import contextlib

import numpy as np
import pytest
import tensorflow as tf

from tests.conformance.cases import CASES, DISTINCT, FIRST, MAIN
from tests.conformance.steps import ready
from tests.conformance.test_second_derivatives import DELTA, DIFFERENTIABLE
from tests.exhaustive import marked
from tests.layers.test_batch_norm import close

MODES = [(case, training) for case in CASES for training in (True, False) if training or case.statistics]
DISTINCT_MODES = [(case, training) for case, training in MODES if case in DISTINCT and case in DIFFERENTIABLE]
# TensorFlow traces every function several times for the eager derivative of a gradient: only the user's function then
# meets what differs from another case in its axes alone, or has the options of two.
LONG = ("batch_channels_first", "batch_two_axes", "sync_renorm")
REPEATED = ("sync", "instance")  # in one process the ops of batch norm, and those of group norm


@contextlib.contextmanager
def eagerly(wanted):
    tf.config.run_functions_eagerly(wanted)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(False)


def jvp(function, x, direction):
    """What a function gives, and its derivative along a direction, by forward mode."""
    with tf.autodiff.ForwardAccumulator(x, direction) as accumulator:
        y = function(x)
    return y, accumulator.jvp(y)


def vjp(function, x, dy):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = function(x)
    return tape.gradient(y, x, dy)


def gradient_of_loss(function):
    """The gradient of a loss of third order."""
    return lambda x: vjp(lambda x: tf.reduce_mean(function(x) ** 3), x, None)


def setting(case, training, random, dtype="float64"):
    """The layer as a function whose statistics stay, an input and a direction."""
    layer = ready(case.exact() if dtype == "float64" else case.make(dtype=dtype), case, random)
    weights = [tf.constant(each) for each in layer.get_weights()]

    def function(x):
        for variable, value in zip(layer.weights, weights, strict=True):
            variable.assign(value)
        return layer(x, training=training)

    return function, *(tf.constant(random.normal(mean, 2, case.shape), dtype) for mean in (1, 0))


@pytest.mark.slow
@pytest.mark.sample(20)
@pytest.mark.parametrize(
    ("case", "training", "op_by_op"),
    marked(
        [(*mode, False) for mode in MODES] + [(*mode, True) for mode in DISTINCT_MODES],
        lambda case, training, op_by_op: case in (FIRST if op_by_op else MAIN),
    ),
    ids=str,
)
def test_it_is_the_transpose_of_reverse_mode(random, case, training, op_by_op):
    function, x, direction = setting(case, training, random)
    with eagerly(op_by_op):
        y, derivative = jvp(function, x, direction)
        dy = tf.constant(random.normal(size=y.shape))
        reverse = tf.reduce_sum(vjp(function, x, dy) * direction)
        close(tf.reduce_sum(derivative * dy) / reverse, 1, 1e-9)
        if not (training and case.arguments.get("renorm")):  # its corrections count as constants
            difference = (function(x + DELTA * direction) - function(x - DELTA * direction)) / (2 * DELTA)
            close(derivative, difference, 1e-6)


@pytest.mark.sample(4)
@pytest.mark.slow
@pytest.mark.parametrize(
    ("traced", "case", "training"),
    marked(
        [(traced, *mode) for traced in (False, True) for mode in DISTINCT_MODES if traced or mode[0].name not in LONG],
        lambda traced, case, training: case in FIRST and (traced or case.name not in REPEATED),
    ),
    ids=str,
)
def test_over_a_gradient(random, case, training, traced):
    """Hessian-vector products: forward over backward is backward over backward."""
    function, x, direction = setting(case, training, random)
    gradient = gradient_of_loss(function)

    def product(x, direction):
        return jvp(gradient, x, direction)[1]

    forward = (tf.function(product) if traced else product)(x, direction)
    with eagerly(True):  # `test_second_derivatives.py` has the functions'
        # Of a function that treats a part of itself as constant, the second derivatives are not symmetric.
        symmetric = not (training and case.arguments.get("renorm"))
        backward = (vjp if symmetric else transposed)(gradient, x, direction)
    close(1e3 * forward, 1e3 * backward, 1e-8)


def transposed(function, x, direction):
    """The derivative along a direction, by the derivative of the reverse mode."""
    with tf.GradientTape() as outer:
        dy = tf.zeros_like(x)
        outer.watch(dy)
        with tf.GradientTape() as inner:
            inner.watch(x)
            y = function(x)
        back = inner.gradient(y, x, dy)
    return outer.gradient(back, dy, direction)


def derivatives(function, x, direction):
    """Those along a direction, of the function and of the gradient of a loss."""
    return jvp(function, x, direction)[1], jvp(gradient_of_loss(function), x, direction)[1]


@pytest.fixture(scope="module")
def float64(request):
    """A case, an input, a direction and the derivatives in float64, op by op."""
    function, x, direction = setting(request.param, True, np.random.default_rng(1))
    with eagerly(True):
        return request.param, x, direction, derivatives(function, x, direction)


def check_float32(float64, wrap):
    case, x, direction, truth = float64
    function, _, _ = setting(case, True, np.random.default_rng(1), "float32")

    def narrow(x, direction):
        return derivatives(function, x, direction)

    found = wrap(narrow)(*(tf.cast(each, tf.float32) for each in (x, direction)))
    close(found[0], truth[0], 1e-5)
    ours, truth = found[1], truth[1]
    close(ours / np.abs(truth).max(), truth / np.abs(truth).max(), 1e-4)


def itself(function):
    return function


BY_NAME = {case.name: case for case in CASES}
EXPLICIT = [case for case, training in DISTINCT_MODES if training and not case.synchronized]
# By the kernel: what can take it. By XLA: sums with the weights in them and without, in groups, and over all channels.
KERNEL = [BY_NAME[name] for name in ("batch", "batch_channels_first", "batch_renorm", "batch_fused")]
XLA = [BY_NAME[name] for name in ("batch", "layer", "group")]


def both(cases, implementation):
    return [(case, implementation) for case in cases]


def is_main_implementation(case, implementation):
    """The derivatives of the other cases are those of single ops, whatever compiles them, and of each layer's first."""
    names = {"kernel": ("batch", "batch_channels_first", "batch_fused"), "xla": ("batch",)}
    return case in FIRST if implementation == "single ops" else case.name in names[implementation]


@pytest.mark.sample(3)
@pytest.mark.slow
@pytest.mark.parametrize(
    ("float64", "implementation"),
    marked(
        both([case for case in EXPLICIT if not case.needs_the_kernel], "single ops")
        + both(KERNEL, "kernel")
        + both(XLA, "xla"),
        is_main_implementation,
    ),
    indirect=True,
    ids=str,
)
def test_every_implementation_in_float32(float64, implementation):
    """XLA within a function of the user, as it compiles six times as long for eager calls; the others eagerly. Of the
    single ops each op counts, as `test_over_a_gradient` has their functions.
    """
    with eagerly(implementation == "single ops"):
        check_float32(float64, tf.function if implementation == "xla" else itself)


@pytest.mark.slow
@pytest.mark.parametrize("float64", [BY_NAME["rms"]], ids=str, indirect=True)
@pytest.mark.parametrize(
    "implementation", ["single ops", pytest.param("xla", marks=pytest.mark.exhaustive)], indirect=True
)
def test_every_implementation_in_float32_the_other_way(float64, implementation):
    """XLA eagerly, the others within a function of the user."""
    check_float32(float64, itself if implementation == "xla" else tf.function)
