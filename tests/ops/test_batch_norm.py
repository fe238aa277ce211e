"""The branches: traces, kernels, gradients of every order, and XLA."""

import numpy as np
import pytest
import tensorflow as tf

from bn_keras.ops import batch_norm as ops
from bn_keras.ops import traces
from bn_keras.ops.kernels import fused
from bn_keras.ops.settings import Settings, State
from tests import reference

SETTINGS = {"momentum": 0.9, "epsilon": 1e-3}


def train(x, scale=None, offset=None, axis=-1, mask=None, **settings):
    axes = tuple(each % x.shape.rank for each in (axis if isinstance(axis, list) else [axis]))
    channels = [x.shape[each] for each in axes]
    dtype = tf.float64 if x.dtype == tf.float64 else tf.float32
    scale, offset = (None if each is None else tf.convert_to_tensor(each) for each in (scale, offset))
    state = State(moving_mean=tf.zeros(channels, dtype), moving_variance=tf.ones(channels, dtype))
    y, state = ops.train(x, scale, offset, state, Settings(axes, **SETTINGS | settings), mask)
    return y, state.moving_mean, state.moving_variance


def uses_fused_kernel(function, *arguments):
    graph = function.get_concrete_function(*arguments).graph
    names = {node.op for node in graph.as_graph_def().node}
    for inner in graph.as_graph_def().library.function:
        names |= {node.op for node in inner.node_def}
    return "FusedBatchNormV3" in names


def test_one_trace_per_shape_dtype_and_setting(random):
    traces.forget()
    x = tf.constant(random.normal(size=(9, 11)), tf.float32)
    for _ in range(3):
        train(x)
        train(x + 1)
    assert traces.count() == 1
    train(x, momentum=0.8)
    assert traces.count() == 1
    train(tf.cast(x, tf.bfloat16))
    train(x, unbiased=False)
    train(x[:5])
    assert traces.count() == 4


def uses_xla(function, *arguments):
    library = function.get_concrete_function(*arguments).graph.as_graph_def().library.function
    return any(each.attr["_XlaMustCompile"].b for each in library)


@pytest.mark.sample(1)
@pytest.mark.slow
@pytest.mark.parametrize("vectorized", [True, False])
def test_what_pays_on_a_large_input(monkeypatch, vectorized):
    monkeypatch.setattr(fused, "kernel_is_vectorized", lambda: vectorized)
    spec = tf.TensorSpec([None, 32, 32, 16])
    first = tf.TensorSpec([None, 16, 32, 32])
    assert uses_fused_kernel(tf.function(train), spec) == vectorized
    assert uses_xla(tf.function(train), spec) != vectorized
    assert not uses_fused_kernel(tf.function(lambda x: train(x, axis=1)), first)
    assert uses_xla(tf.function(lambda x: train(x, axis=1)), first)
    assert not uses_xla(tf.function(train), tf.TensorSpec([None, 32, 32, 4])), "too small"
    assert not uses_xla(tf.function(train), tf.TensorSpec([None, None, None, 64])), "each shape would be compiled anew"
    assert not uses_xla(tf.function(lambda x: train(x, mask=x[..., :1])), spec), "a mask"


def test_the_processor_is_told_by_its_flags(monkeypatch, tmp_path):
    known = fused.kernel_is_vectorized.__wrapped__
    monkeypatch.setattr(fused, "PROCESSORS", tmp_path / "cpuinfo")
    monkeypatch.setattr(fused.platform, "machine", lambda: "x86_64")
    assert known(), "it cannot be told"
    for flags, vectorized in (("sse avx2 fma", False), ("avx2 avx512f avx512dq", True)):
        fused.PROCESSORS.write_text(f"flags\t\t: {flags}\n")
        assert known() == vectorized
    monkeypatch.setattr(fused.platform, "machine", lambda: "arm64")
    fused.PROCESSORS.write_text("Features: neon")
    assert known()


@pytest.mark.slow
def test_the_fused_kernel_is_used_where_it_is_safe_and_pays(monkeypatch):
    monkeypatch.setattr(fused, "kernel_is_vectorized", lambda: True)
    big, small = tf.TensorSpec([64, 16, 16, 32]), tf.TensorSpec([8, 32])
    plain, xla = tf.function(train), tf.function(train, jit_compile=True)
    assert uses_fused_kernel(plain, big)
    assert uses_fused_kernel(plain, tf.TensorSpec([None, None, None, 8]))
    assert not uses_fused_kernel(plain, small)
    assert not uses_fused_kernel(plain, tf.TensorSpec([None, 32]))
    assert not uses_fused_kernel(plain, tf.TensorSpec(big.shape, tf.float64))
    assert not uses_fused_kernel(xla, big)


@pytest.mark.parametrize("shape", [(5, 3), (3, 2, 2, 3)])
@pytest.mark.parametrize("masked", [False, True])
def test_gradients_are_those_of_numerical_differences(random, shape, masked):
    x, dy = (tf.constant(random.normal(1, 2, shape)) for _ in range(2))
    gamma, beta = (tf.constant(random.uniform(0.5, 2, shape[-1])) for _ in range(2))
    weights = tf.constant(random.integers(0, 2, (*shape[:-1], 1)).astype(float)) if masked else None

    def loss(x, gamma, beta):
        return tf.reduce_sum(dy * train(x, gamma, beta, mask=weights)[0])

    theoretical, numerical = tf.test.compute_gradient(loss, [x, gamma, beta], delta=1e-5)
    for ours, truth in zip(theoretical, numerical, strict=True):
        np.testing.assert_allclose(ours, truth, rtol=1e-6, atol=1e-8)


def hessian_product(gradient, x, direction):
    with tf.GradientTape() as tape:
        tape.watch(x)
        product = tf.reduce_sum(gradient(x) * direction)
    return tape.gradient(product, x)


@pytest.mark.slow
@pytest.mark.parametrize("compile_caller", [False, True])
def test_second_derivatives_of_the_composed_path(random, compile_caller):
    x, direction = (tf.constant(random.normal(size=(4, 2, 2, 3))) for _ in range(2))

    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(train(x)[0] ** 3)
        return tape.gradient(loss, x)

    gradient = tf.function(gradient) if compile_caller else gradient
    delta = 1e-5
    numerical = (gradient(x + delta * direction) - gradient(x - delta * direction)) / (2 * delta)
    np.testing.assert_allclose(hessian_product(gradient, x, direction), numerical, rtol=1e-5, atol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("offset", [0, 100], ids=["near", "far"])
def test_second_derivatives_of_the_fused_path(random, offset):
    values, direction = random.normal(size=(2, 64, 8, 8, 32))
    values += offset

    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(train(x)[0] ** 3)
        return tape.gradient(loss, x)

    ours = hessian_product(gradient, tf.constant(values, tf.float32), tf.constant(direction, tf.float32))
    truth = hessian_product(gradient, tf.constant(values), tf.constant(direction))
    np.testing.assert_allclose(ours, truth, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("ratio", [1e3, 1e4])
@pytest.mark.parametrize(("shape", "axis"), [((128, 28, 28, 8), -1), ((64, 8, 16, 16), 1)])
def test_a_mean_that_the_kernel_would_lose(random, shape, axis, ratio):
    """One far channel is enough: it is right, and so are the others, forward and backward."""
    offset = np.where(np.arange(8) == 5, ratio, 1).reshape([8 if i == axis % 4 else 1 for i in range(4)])
    values = random.normal(size=shape)
    x = tf.constant(offset + values, tf.float32)
    dy = tf.constant(values + random.normal(size=shape), tf.float32)  # so that much goes through the deviation
    gamma = np.linspace(0.5, 2, 8)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y, mean, variance = train(x, gamma, np.zeros(8), axis, fused=True, momentum=0.0, unbiased=False)
    true_y, _, true_mean, true_variance = reference.batch_norm(x, gamma, np.zeros(8), axis, 1e-3)
    deviation = np.sqrt(true_variance)
    np.testing.assert_allclose(mean / deviation, true_mean / deviation, rtol=1e-7, atol=1e-4)
    np.testing.assert_allclose(variance, true_variance, rtol=1e-4)
    np.testing.assert_allclose(y, true_y, atol=2e-4)
    true_dx = reference.batch_norm_gradient(x, gamma, dy, axis, 1e-3)[0]
    # The gradient kernel takes the mean rounded to float32: half a thousandth of a deviation, for 10⁴ of them.
    np.testing.assert_allclose(tape.gradient(y, x, dy), true_dx, atol=1e-3)

    if axis == -1 and ratio == 1e4:  # how much of 10³ it loses depends on the processor
        lost = fused._forward(x, tf.ones(8), tf.zeros(8), 1e-3, "NHWC").batch_mean
        assert np.max(np.abs(lost - true_mean) / deviation) > 1e-3, "the kernel was meant to lose it"


def test_moving_statistics_carry_no_gradient(random, implementation):
    x = tf.constant(random.normal(size=(16, 8, 8, 4)), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(x)
        _, mean, variance = train(x)
        loss = tf.reduce_sum(mean) + tf.reduce_sum(variance)
    assert tape.gradient(loss, x, unconnected_gradients="zero").numpy().any() == np.False_


@pytest.mark.parametrize("shape", [(0, 4), (0, 8, 8, 16)])
def test_an_empty_batch_changes_nothing(shape, implementation):
    x = tf.zeros(shape)
    gamma = tf.ones(shape[-1])
    with tf.GradientTape() as tape:
        tape.watch([x, gamma])
        y, mean, variance = train(x, gamma)
    dx, dgamma = tape.gradient(y, [x, gamma])
    assert y.shape == dx.shape == shape
    np.testing.assert_array_equal(dgamma, np.zeros(shape[-1]))
    np.testing.assert_array_equal(mean, np.zeros(shape[-1]))
    np.testing.assert_array_equal(variance, np.ones(shape[-1]))


def near_constant_channels(random):
    """A large mean and next to no variance: what cancels in E[x²] − E[x]²."""
    means = random.uniform(10, 30, 64)
    return tf.constant(means + random.normal(0, 1e-4, (64, 16, 16, 64)), tf.float32)


@pytest.mark.slow
def test_xla_does_not_cancel_the_variance(random):
    x = near_constant_channels(random)
    truth = x.numpy().astype(np.float64).var((0, 1, 2))

    @tf.function(jit_compile=True)
    def old(x):
        empty, ones = tf.zeros(0), tf.ones(64)
        return tf.raw_ops.FusedBatchNormV3(
            x=x, scale=ones, offset=ones, mean=empty, variance=empty, epsilon=0.0, is_training=True
        ).batch_variance

    @tf.function(jit_compile=True)
    def ours(x):
        y, _, variance = train(x, momentum=0.0, unbiased=False)
        return y, variance

    assert not np.all(old(x) > 0), "the fused kernel under XLA was meant to lose the variance"
    y, variance = ours(x)
    assert np.isfinite(y).all()
    assert (variance.numpy() >= 0).all()
    # float32 holds values of about 20 to 2e-6, a fiftieth of the deviation.
    np.testing.assert_allclose(variance, truth, rtol=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("jit_compile", [False, True])
def test_xla_gives_what_the_plain_branch_gives(random, jit_compile):
    x, dy = (random.normal(2, 3, (64, 8, 8, 32)) for _ in range(2))
    gamma, beta = random.uniform(0.5, 2, (2, 32))

    @tf.function(jit_compile=jit_compile)
    def step(x, gamma, beta, dy):
        with tf.GradientTape() as tape:
            tape.watch([x, gamma, beta])
            y = train(x, gamma, beta)[0]
        return y, *tape.gradient(y, [x, gamma, beta], dy)

    y, *gradients = step(*(tf.constant(value, tf.float32) for value in (x, gamma, beta, dy)))
    np.testing.assert_allclose(y, reference.batch_norm(x, gamma, beta, -1, 1e-3)[0], atol=1e-4)
    truth = reference.batch_norm_gradient(x, gamma, dy, -1, 1e-3)
    for ours, true in zip(gradients, truth, strict=True):
        np.testing.assert_allclose(ours, true, rtol=0, atol=1e-4 * np.abs(true).max())


def test_why_the_fused_kernel_cannot_be_had(random):
    x = tf.constant(random.normal(size=(4, 3, 5)))
    with pytest.raises(ValueError, match="`fused=True` cannot be had for this dtype"):
        train(x, fused=True)
    x = tf.cast(x, tf.float32)
    with pytest.raises(ValueError, match="with a mask"):
        train(x, fused=True, mask=tf.ones([4, 1, 1]))
    with pytest.raises(ValueError, match="do not lie side by side"):
        train(x, fused=True, axis=[0, 2])
    with pytest.raises(ValueError, match="under XLA"):
        tf.function(lambda x: train(x, fused=True), jit_compile=True)(x)
    plain, fused = (train(x, fused=each) for each in (False, True))
    for ours, theirs in zip(fused, plain, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
