"""A gradient penalty: the gradient of the size of a gradient."""

import pytest
import tensorflow as tf

from tests.conformance.cases import CASES, FIRST, LARGE, MAIN, every
from tests.conformance.steps import all_close, ready
from tests.exhaustive import marked
from tests.layers.test_batch_norm import close

pytestmark = pytest.mark.slow

DELTA = 1e-5
OF_STATISTICS_ALONE = {"momentum", "bias_correction", "unbiased", "synchronized", "accumulation_steps"}
DIFFERENTIABLE = [case for case in CASES if not OF_STATISTICS_ALONE & set(case.arguments)]


def penalty(layer, x, training):
    """The squared gradient of a loss of third order."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_mean(layer(x, training=training) ** 3)
    return tf.reduce_sum(tape.gradient(loss, x) ** 2)


def penalty_gradients(layer, x, training):
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = penalty(layer, x, training)
    return tape.gradient(value, [x, *layer.trainable_variables])


def numerical(layer, x, training, directions):
    """The slope of the penalty along a direction of the input and one of each weight."""
    weights = [weight.numpy() for weight in layer.trainable_variables]

    def moved(delta):
        for weight, value, direction in zip(layer.trainable_variables, weights, directions[1:], strict=True):
            weight.assign(value + delta * direction)
        return penalty(layer, x + delta * directions[0], training)

    return (moved(DELTA) - moved(-DELTA)) / (2 * DELTA)


@pytest.mark.sample(10)
@pytest.mark.parametrize(
    ("case", "training"),
    marked(
        [(case, training) for case in DIFFERENTIABLE for training in (True, False) if training or case.statistics],
        lambda case, training: case in FIRST or (case in MAIN and training),
    ),
    ids=str,
)
def test_by_numerical_differences(random, case, training):
    layer = ready(case.exact(), case, random)
    x = tf.constant(random.normal(1, 2, case.shape))
    gradients = penalty_gradients(layer, x, training)
    assert all(tf.reduce_all(tf.math.is_finite(each)) for each in gradients)
    if training and case.arguments.get("renorm"):
        return  # its corrections count as constants, which no difference can know
    directions = [tf.constant(random.normal(size=each.shape)) for each in gradients]
    slope = sum(tf.reduce_sum(each * direction) for each, direction in zip(gradients, directions, strict=True))
    truth = numerical(layer, x, training, directions)
    close(slope / truth, 1, 1e-5)


@every([case for case in CASES if case.shape == LARGE])
def test_of_the_kernel_in_float32(random, case):
    layer = ready(case.make(), case, random)
    exact = case.exact()
    exact.build(case.shape)
    exact.set_weights(layer.get_weights())
    x = tf.constant(random.normal(1, 2, case.shape))
    ours, truth = (penalty_gradients(each, tf.cast(x, each.dtype), True) for each in (layer, exact))
    all_close([1e3 * each for each in ours], [1e3 * each for each in truth], 1e-2)
