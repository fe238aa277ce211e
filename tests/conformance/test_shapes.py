"""Sizes that are not known, a batch of one, a batch of none."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.conformance.cases import CASES, FIRST, MAIN, convolution, every
from tests.conformance.steps import all_close, all_equal, data, learned, outcome, ready
from tests.exhaustive import marked
from tests.layers.test_batch_norm import close


def known_along(axes, rank):
    """A shape with the sizes along these axes alone."""
    return tuple(4 if i in {axis % rank for axis in axes} else None for i in range(rank))


@pytest.mark.sample(15)
@pytest.mark.parametrize(
    ("case", "rank"),
    marked(
        [
            (case, rank)
            for case in CASES
            for rank in (3, 4)
            if max(case.axes) < rank and not (case.wrapped is convolution and rank > 3)
        ],
        lambda case, rank: case in FIRST or (case in MAIN and rank == max(3, max(case.axes) + 1)),
    ),
    ids=str,
)
def test_unknown_sizes(random, case, rank):
    shape, layer = known_along(case.axes, rank), case.make()
    inputs = keras.Input(batch_shape=shape)
    model = keras.Model(inputs, layer(inputs))
    assert model.output_shape == layer.compute_output_shape(shape) == shape
    weights = [random.uniform(0.5, 2, weight.shape) for weight in layer.weights]
    train = tf.function(lambda x: model(x, training=True), input_signature=[tf.TensorSpec(shape)])
    x = tf.constant(random.normal(3, 2, [size or 5 for size in shape]), tf.float32)
    alone = case.make()
    alone.build(x.shape)
    for each in (layer, alone):
        each.set_weights(weights)
    close(train(x), alone(x, training=True), 5e-5)
    all_close(layer.get_weights(), alone.get_weights(), 5e-6)


@every(CASES)
def test_inference_takes_each_example_by_itself(random, case):
    x, _ = data(case, random)
    layer = ready(case.make(), case, random)
    np.testing.assert_allclose(layer(x[:1]), layer(x)[:1], rtol=1e-6, atol=1e-6)


@pytest.mark.sample(15)
@pytest.mark.parametrize(
    ("case", "training"),
    marked(list(itertools.product(CASES, [True, False])), lambda case, training: case in (MAIN if training else FIRST)),
    ids=str,
)
def test_a_batch_of_none(random, case, training):
    x, dy = (each[:0] for each in data(case, random))
    layer = ready(case.make(), case, random)
    before = learned(layer)
    y, dx, *others = outcome(layer, x, dy, training)
    assert y.shape == dx.shape == x.shape
    assert all(np.isfinite(each).all() for each in others)
    all_equal(learned(layer), before)


@every(CASES)
def test_shape_inference(case):
    inputs = keras.KerasTensor((None, *case.shape[1:]))
    layer = case.make(dtype="mixed_bfloat16")
    outputs = layer(inputs)
    assert outputs.shape == inputs.shape
    assert outputs.dtype == "bfloat16"


@pytest.mark.sample(15)
@every([case for case in CASES if not case.variant])
@pytest.mark.parametrize("training", [True, False])
def test_a_variable_is_an_input_like_a_tensor(random, case, training):
    x, dy = data(case, random)
    layer = ready(case.make(), case, random)
    state = layer.get_weights()
    truth = outcome(layer, x, dy, training)
    layer.set_weights(state)
    variable = tf.Variable(x)
    with tf.GradientTape() as tape:
        y = layer(variable, training=training)
    all_equal([y, tape.gradient(y, variable, dy)], truth[:2])
