"""Schedules are Keras' own times a warm-up and a peak; weight decay spares scales, offsets and biases."""

import keras
import numpy as np
import pytest

from bn_keras.experiments.optimizers import OPTIMIZERS, SCHEDULES, make_optimizer, make_schedule
from bn_keras.models import build

schedules = keras.optimizers.schedules
KERAS = {
    "constant": lambda peak, steps: lambda step: peak,
    "cosine": lambda peak, steps: schedules.CosineDecay(peak, steps),
    "linear": lambda peak, steps: schedules.PolynomialDecay(peak, steps, 0.0),
    "exponential": lambda peak, steps: schedules.ExponentialDecay(peak, steps, 0.01),
    "piecewise": lambda peak, steps: schedules.PiecewiseConstantDecay(
        [steps // 2, 3 * steps // 4], [peak, peak * 0.1, peak * 0.01]
    ),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_is_that_of_keras_after_its_warm_up(name):
    schedule = make_schedule(name, steps=100, warmup=20)
    schedule.peak.assign(0.3)
    keras_schedule = KERAS[name](0.3, 80)
    ours = [float(schedule(step)) for step in range(100)]
    np.testing.assert_allclose(ours[:20], 0.3 * np.arange(1, 21) / 20, rtol=1e-6)
    np.testing.assert_allclose(ours[20:], [float(keras_schedule(float(step))) for step in range(80)], rtol=1e-5)


def test_each_optimizer_follows_the_schedule():
    for name in OPTIMIZERS:
        model = build("mlp_sigmoid", width=0.1, input_shape=(4, 4, 1))
        optimizer = make_optimizer(name, make_schedule("linear", 10, 0), model, weight_decay=0.0)
        assert float(optimizer.learning_rate) == 1.0
        optimizer.iterations.assign(5)
        assert float(optimizer.learning_rate) == 0.5


@pytest.mark.parametrize("norm", [None, "batch"])
def test_weight_decay_shrinks_kernels_alone(norm):
    model = build("mlp_sigmoid", norm=norm, width=0.1, input_shape=(4, 4, 1))
    for weight in model.trainable_weights:
        weight.assign(np.ones(weight.shape))
    optimizer = make_optimizer("sgd", make_schedule("constant", 10, 0), model, weight_decay=0.25)
    optimizer.apply([np.zeros(weight.shape, "float32") for weight in model.trainable_weights])
    for weight in model.trainable_weights:
        np.testing.assert_allclose(weight, 0.75 if weight.name == "kernel" else 1.0, err_msg=weight.path)
