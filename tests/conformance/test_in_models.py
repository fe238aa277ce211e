"""In models of every make, trained by `fit`: frozen, inside other layers and models, called twice."""

import functools

import keras
import numpy as np
import pytest

from tests.conformance.branches import examples, model_of_branches, plain, weights_by_case
from tests.conformance.cases import DISTINCT, FIRST, WITH_STATISTICS, every

pytestmark = pytest.mark.slow


def frozen(case):
    layer = plain(case)
    layer.trainable = False
    return layer


def shared_in_a_nested_model(case):
    """A model inside the model that calls its only layer twice."""
    inputs, layer = keras.Input(case.shape[1:]), plain(case)
    return keras.Model(inputs, layer(keras.ops.sin(layer(inputs))), name=f"{case}_nested")


class Times(keras.layers.Layer):
    """Three times out of one."""

    def call(self, inputs):
        return keras.ops.stack([inputs, 2 * inputs, keras.ops.sin(inputs)], 1)


def at_each_time(case):
    return keras.Sequential([Times(), keras.layers.TimeDistributed(plain(case))], name=f"{case}_times")


def name_of(value):
    return getattr(value, "__name__", str(value))


# Within another layer or model, what matters is the class of the layer.
WITHIN = [case for case in DISTINCT if case in FIRST]
CASES_OF = {plain: DISTINCT, frozen: DISTINCT, shared_in_a_nested_model: WITHIN, at_each_time: WITHIN}


@functools.cache
def fitted(make):
    """The weights of each case before and after two epochs, and the predictions."""
    keras.utils.set_random_seed(0)
    cases = CASES_OF[make]
    model = model_of_branches(make, cases)
    model.compile(keras.optimizers.SGD(1e-3), "mse")
    x, targets = examples(9, cases)
    variables = weights_by_case(model.weights, cases)

    def values():
        return {(name, each.path): each.numpy() for name, found in variables.items() for each in found}

    before = values()
    model.fit(x, targets, batch_size=4, epochs=2, verbose=0)
    return before, values(), model.predict(x, verbose=0)


def changes(make, case):
    """Whether training changed each weight of a case's layer, by the last word of its path."""
    before, after, _ = fitted(make)
    return {
        path.split("/")[-1]: not np.array_equal(after[name, path], value)
        for (name, path), value in before.items()
        if name == case.name and f"{case}_norm/" in path
    }


@pytest.mark.sample(6)
@pytest.mark.parametrize(
    ("make", "case"),
    [(make, case) for make, cases in CASES_OF.items() if make != frozen for case in cases],
    ids=name_of,
)
def test_fit_trains_and_predicts(case, make):
    changed, (_, after, predicted) = changes(make, case), fitted(make)
    assert changed
    assert all(changed.values())
    assert all(np.isfinite(value).all() for (name, _), value in after.items() if name == case.name)
    assert np.isfinite(predicted[:, CASES_OF[make].index(case)]).all()


@pytest.mark.sample(8)
@every(DISTINCT)
def test_frozen_is_inference(case):
    changed = changes(frozen, case)
    assert changed
    assert not any(changed.values())


@pytest.mark.sample(10)
@every(WITH_STATISTICS)
def test_each_call_of_a_shared_layer_is_a_step(case):
    layer = case.make()
    x = np.random.default_rng(0).normal(2, 3, case.shape).astype(np.float32)
    inputs = keras.Input(case.shape[1:])
    model = keras.Model(inputs, layer(layer(inputs)))
    once = case.make()
    once(once(x, training=True), training=True)
    model(x, training=True)
    for ours, truth in zip(layer.get_weights(), once.get_weights(), strict=True):
        np.testing.assert_allclose(ours, truth, rtol=1e-6)
