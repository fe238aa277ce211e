"""Wrappers of kernels fold into plain layers, and batch norm beside them folds on."""

import keras
import numpy as np
import pytest

from bn_keras import BatchNorm, GroupNorm, WeightNorm, WeightStandardization
from bn_keras.surgery import fold, report
from bn_keras.surgery.tree import layers_of
from tests.layers.test_kernel_layers import LINEAR, copy_of
from tests.surgery.models import inputs_of, outputs_of, randomize

layers = keras.layers


def network():
    """Batch norm before, after and beside wrapped layers; one wrapper is called twice."""
    x = inputs = keras.Input((9, 9, 4))
    x = BatchNorm(name="first_norm")(x)
    x = WeightNorm(layers.Conv2D(8, 3, use_bias=False), name="first")(x)
    x = layers.ReLU()(BatchNorm(name="second_norm")(x))
    shared = WeightStandardization(layers.Conv2D(8, 1), name="shared", scaled=True, use_gain=True)
    x = shared(layers.ReLU()(shared(x)))
    x = WeightStandardization(layers.SeparableConv2D(6, 3), name="third", scaled=True)(GroupNorm(4)(x))
    x = layers.GlobalAveragePooling2D()(BatchNorm(name="third_norm", activation="relu")(x))
    return keras.Model(inputs, WeightNorm(layers.Dense(3), name="logits")(x))


@pytest.mark.slow
def test_a_network_folds_into_plain_layers(random, tmp_path):
    model = randomize(network(), random)
    folded = fold(model, report=None, strict=True)
    assert not [each for each in layers_of(folded) if isinstance(each, (WeightNorm, WeightStandardization, BatchNorm))]
    assert type(folded.get_layer("first")) is layers.Conv2D
    assert folded.get_layer("first").use_bias
    assert folded.output_names == ["logits"]
    x = inputs_of(model, random)
    expected = outputs_of(model, x)
    np.testing.assert_allclose(outputs_of(folded, x), expected, rtol=1e-4, atol=1e-5)
    into = {row.layer: row.into for row in report(folded).rows}
    assert into["first_norm"] == into["second_norm"] == ("first",)
    assert into["third_norm"] == ("third",)
    folded.save(tmp_path / "folded.keras")
    np.testing.assert_allclose(outputs_of(keras.models.load_model(tmp_path / "folded.keras"), x), expected, rtol=1e-4)


@pytest.mark.parametrize("name", ["einsum", "conv2d", "conv2d_transposed", "depthwise2d"])
def test_a_layer_without_a_batch_norm_keeps_its_arguments(name, random):
    layer, shape, _ = LINEAR[name]
    model = randomize(keras.Sequential([keras.Input(shape), WeightStandardization(copy_of(layer), name="w")]), random)
    folded = fold(model, report=None)
    assert folded.layers[0].get_config() == layer.get_config() | {"name": "w"}
    x = inputs_of(model, random)
    np.testing.assert_allclose(outputs_of(folded, x), outputs_of(model, x), rtol=1e-4, atol=1e-5)


class Subclassed(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense, self.norm = WeightNorm(layers.Dense(4)), BatchNorm()

    def call(self, inputs):
        return self.norm(self.dense(inputs))


def test_within_a_subclassed_model(random):
    model = Subclassed()
    model(np.ones((2, 3), "float32"))
    randomize(model, random)
    x = random.normal(size=(5, 3)).astype("float32")
    folded = fold(model, report=None, strict=True)
    assert type(folded.dense) is layers.Dense
    np.testing.assert_allclose(folded(x), model(x), rtol=1e-4, atol=1e-5)


class Own(WeightNorm):
    pass


def stays(make, random):
    """What a model says of a wrapper that cannot fold, and that a batch norm after it is not lost in it."""
    model = randomize(make(), random)
    folded, x = fold(model, report=None), inputs_of(model, random)
    np.testing.assert_allclose(outputs_of(folded, x), outputs_of(model, x), rtol=1e-4, atol=1e-5)
    return report(folded).of("kept")[0].why


def test_what_stays(random):
    def of_another_class():
        return keras.Sequential([keras.Input((3,)), Own(layers.Dense(4)), BatchNorm()])

    def of_a_shared_layer():
        x, dense = keras.Input((3,)), layers.Dense(3)
        return keras.Model(x, dense(BatchNorm()(WeightStandardization(dense)(x))))

    assert "Own, derives from a wrapper" in stays(of_another_class, random)
    assert "is used elsewhere too" in stays(of_a_shared_layer, random)


def loss_of(model, x):
    model(x)
    return float(keras.ops.sum(model.losses))


@pytest.mark.parametrize(
    ("before", "after", "outcome"),
    [([], [], None), ([BatchNorm(name="norm")], [], "folded"), ([], [BatchNorm(name="norm")], "mapped")],
    ids=["alone", "norm_before", "norm_after"],
)
def test_the_activity_regularizer_of_a_wrapper_stays(before, after, outcome, random):
    wrapped = WeightNorm(layers.Dense(4), name="w", activity_regularizer=keras.regularizers.L2(0.5))
    model = randomize(keras.Sequential([keras.Input((4,)), *before, wrapped, *after]), random)
    folded, x = fold(model, report=None, verify=False), inputs_of(model, random)
    assert type(folded.get_layer("w")) is layers.Dense
    assert {row.layer: row.outcome for row in report(folded).rows}.get("norm") == outcome
    assert loss_of(folded, x) == pytest.approx(loss_of(model, x), rel=1e-4)
