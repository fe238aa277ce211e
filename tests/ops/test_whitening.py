"""Whitening: Newton's iteration, traces, gradients of every order, and XLA."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from bn_keras.ops import traces
from bn_keras.ops import whitening as ops
from tests import reference

INTEGERS = {tf.int32.as_datatype_enum, tf.int64.as_datatype_enum}


def settings_of(x, axis=-1, groups=1, iterations=5, momentum=0.9):
    return ops.Settings(axis % x.shape.rank, groups, iterations, epsilon=1e-3, momentum=momentum)


def train(x, scale=None, offset=None, axis=-1, groups=1, mask=None, **settings):
    channels, dtype = x.shape[axis], tf.float64 if x.dtype == tf.float64 else tf.float32
    size = channels // groups
    scale, offset = (None if each is None else tf.convert_to_tensor(each) for each in (scale, offset))
    mask = None if mask is None else tf.convert_to_tensor(mask)
    state = ops.State(tf.zeros(channels, dtype), ops.identities((groups, size, size), dtype))
    y, state = ops.train(x, scale, offset, state, settings_of(x, axis, groups, **settings), mask)
    return y, state.moving_mean, state.moving_whitening


def covariances(random, size, smallest):
    """Three covariances, their eigenvalues between 1 and the smallest."""
    directions, _ = np.linalg.qr(random.normal(size=(3, size, size)))
    return (directions * np.geomspace(1, smallest, size)) @ directions.swapaxes(1, 2)


@pytest.mark.parametrize("iterations", [1, 2, 5, 7])
def test_the_coupled_form_is_the_iteration_of_the_paper(random, iterations):
    sigma = covariances(random, 6, 0.1)
    truth = reference.newton(sigma, iterations)[-1] / np.sqrt(np.trace(sigma, axis1=1, axis2=2))[:, None, None]
    np.testing.assert_allclose(ops.inverse_root(tf.constant(sigma), iterations), truth, atol=1e-12)


@pytest.mark.parametrize("size", [1, 2, 8, 32])
def test_more_iterations_come_nearer_to_the_inverse_root(random, size):
    sigma = covariances(random, size, 0.01)
    truth = reference.exact_whitening(sigma)
    distances = [
        np.abs(ops.inverse_root(tf.constant(sigma), iterations) - truth).max() for iterations in (1, 3, 5, 7, 9, 20)
    ]
    assert distances[-1] < 1e-10
    assert all(later <= max(earlier, 1e-10) for earlier, later in itertools.pairwise(distances))


def test_rounding_does_not_grow_with_the_iterations(random):
    sigma = covariances(random, 16, 1e-3)
    with np.errstate(all="ignore"):
        paper = reference.newton(sigma, 30)[-1]
    assert not np.isfinite(paper).all(), "the iteration of the paper was meant to overflow"
    truth = reference.exact_whitening(sigma)
    np.testing.assert_allclose(ops.inverse_root(tf.constant(sigma), 100), truth, atol=1e-9)
    ours = ops.inverse_root(tf.constant(sigma, tf.float32), 100)
    np.testing.assert_allclose(ours, truth, atol=1e-3 * np.abs(truth).max())


def test_one_trace_per_shape_dtype_and_setting(random):
    traces.forget()
    x = tf.constant(random.normal(size=(9, 10)), tf.float32)
    for _ in range(3):
        train(x)
        train(x + 1)
    assert traces.count() == 1
    train(x, momentum=0.8)
    assert traces.count() == 1
    train(tf.cast(x, tf.bfloat16))
    train(x, groups=2)
    train(x[:5])
    assert traces.count() == 4


@pytest.mark.slow
@pytest.mark.sample(3)
@pytest.mark.parametrize(("shape", "axis", "groups"), [((7, 4), -1, 2), ((5, 3), -1, 1), ((3, 4, 2, 2), 1, 2)])
@pytest.mark.parametrize("masked", [None, "elements", "channels"])
def test_gradients_are_those_of_numerical_differences(random, shape, axis, groups, masked):
    x, dy = (tf.constant(random.normal(1, 2, shape)) for _ in range(2))
    gamma, beta = (tf.constant(random.uniform(0.5, 2, shape[axis])) for _ in range(2))
    weights = None
    if masked:
        sizes = shape if masked == "channels" else [1 if i == axis % len(shape) else n for i, n in enumerate(shape)]
        weights = tf.constant(random.integers(0, 3, sizes).astype(float))

    def loss(x, gamma, beta):
        return tf.reduce_sum(dy * train(x, gamma, beta, axis, groups, weights)[0])

    theoretical, numerical = tf.test.compute_gradient(loss, [x, gamma, beta], delta=1e-5)
    for ours, truth in zip(theoretical, numerical, strict=True):
        np.testing.assert_allclose(ours, truth, rtol=1e-6, atol=1e-7)


@pytest.mark.slow
@pytest.mark.sample(1)
@pytest.mark.parametrize("compile_caller", [False, True])
def test_second_derivatives(random, compile_caller):
    x, direction = (tf.constant(random.normal(size=(4, 3, 2, 4))) for _ in range(2))

    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(train(x, groups=2)[0] ** 3)
        return tape.gradient(loss, x)

    gradient = tf.function(gradient) if compile_caller else gradient
    with tf.GradientTape() as tape:
        tape.watch(x)
        product = tf.reduce_sum(gradient(x) * direction)
    delta = 1e-5
    numerical = (gradient(x + delta * direction) - gradient(x - delta * direction)) / (2 * delta)
    np.testing.assert_allclose(tape.gradient(product, x), numerical, rtol=1e-5, atol=1e-7)


def test_statistics_carry_no_gradient(random):
    x = tf.constant(random.normal(size=(8, 4)), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(x)
        _, mean, whitening = train(x, mask=tf.abs(x))
        loss = tf.reduce_sum(mean) + tf.reduce_sum(whitening)
    assert not tape.gradient(loss, x, unconnected_gradients="zero").numpy().any()


def test_the_halves_of_training_are_the_whole(random):
    """What comes between them sees count, mean and whitening per channel and group."""
    x = tf.constant(random.normal(size=(6, 5, 4)), tf.float32)
    y, mean, whitening = train(x, groups=2, momentum=0.0)
    for mask in (None, tf.ones((1, 1, 1)), tf.ones((6, 1, 4))):
        part, *averages = ops.whiten_batch(x, None, None, mask, settings_of(x, groups=2))
        np.testing.assert_allclose(part, y, atol=1e-5)
        for (count, average), truth in zip(averages, (mean, whitening), strict=True):
            assert np.all(count == 30)
            np.testing.assert_allclose(average, truth, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_xla_gives_what_the_plain_branch_gives(random, jit_compile, masked):
    x, dy = random.normal(2, 3, (2, 16, 4, 4, 12))
    gamma, beta = random.uniform(0.5, 2, (2, 12))
    weights = random.integers(0, 2, (16, 4, 4, 1)).astype(np.float32) if masked else None

    @tf.function(jit_compile=jit_compile)
    def step(x, gamma, beta, dy):
        with tf.GradientTape() as tape:
            tape.watch([x, gamma, beta])
            y = train(x, gamma, beta, groups=2, mask=weights)[0]
        return y, *tape.gradient(y, [x, gamma, beta], dy)

    y, *gradients = step(*(tf.constant(value, tf.float32) for value in (x, gamma, beta, dy)))
    settings = (-1, 2, 5, 1e-3, weights)
    np.testing.assert_allclose(y, reference.decorrelated_batch_norm(x, gamma, beta, *settings)[0], atol=1e-4)
    truth = reference.decorrelated_batch_norm_gradient(x, gamma, dy, *settings)
    for ours, true in zip(gradients, truth, strict=True):
        np.testing.assert_allclose(ours, true, rtol=0, atol=1e-4 * np.abs(true).max())


@pytest.mark.parametrize("masked", [False, True])
def test_xla_compiles_a_step_once(masked):
    """Integers handed from the forward to the backward pass would have it compile for each batch."""
    x = tf.TensorSpec([None, 6, 4])

    @tf.function(jit_compile=True)
    def whiten(x):
        return train(x, axis=1, groups=2, mask=x[:, :1] if masked else None)[0]

    @tf.function
    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = whiten(x)
        return tape.gradient(y, x)

    library = step.get_concrete_function(x).graph.as_graph_def().library.function
    forward = [each.signature for each in library if "forward_whiten" in each.signature.name]
    assert forward
    assert not [output.name for each in forward for output in each.output_arg if output.type in INTEGERS]


def test_one_value_per_channel_is_an_error_where_it_is_known():
    with pytest.raises(ValueError, match="more than one value per channel"):
        train(tf.ones((1, 4)))
