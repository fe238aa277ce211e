"""Which weights live on where a norm of Keras is replaced, on a small network."""

import keras
import numpy as np
import pytest

from bn_keras import BatchNorm, GroupNorm, LayerNorm, RMSNorm, SyncBatchNorm, surgery
from bn_keras.models.blocks import Offset
from bn_keras.models.norms import KINDS
from bn_keras.models.transplant import transplanted

layers = keras.layers


@pytest.fixture
def network(random):
    """A network with a norm in each position: after a convolution without and with a bias, after a sum, at the end."""
    images = keras.Input((8, 8, 3), name="images")
    x = layers.Conv2D(8, 3, use_bias=False, name="plain")(images)
    x = y = layers.BatchNormalization(momentum=0.9, epsilon=1e-2, name="after_plain")(x)
    x = layers.DepthwiseConv2D(3, padding="same", name="biased")(x)
    x = layers.BatchNormalization(scale=False, name="after_biased")(x)
    x = layers.BatchNormalization(name="after_sum")(layers.Add()([x, y]))
    x = layers.LayerNormalization(epsilon=1e-6, name="layer_norm")(x)
    logits = layers.Dense(4, name="logits")(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(images, logits, name="network")
    for variable in model.variables:
        variable.assign(random.uniform(0.5, 1.5, variable.shape))
    return model


@pytest.mark.slow
def test_batch_norm_of_every_kind_lives_on_with_its_arguments(network, random):
    x = random.normal(size=(4, 8, 8, 3))
    for name in ("batch", "sync", "ghost", "renorm"):
        model = transplanted(network, name, classes=4)
        layer, old = (each.get_layer("after_plain") for each in (model, network))
        assert type(layer) is (SyncBatchNorm if name == "sync" else BatchNorm)
        assert (layer.momentum, layer.epsilon, layer.unbiased) == (0.9, 1e-2, False)
        for variable in old.variables:
            np.testing.assert_array_equal(getattr(layer, variable.name), variable)
        assert not model.get_layer("after_biased").scale
    with_layer_norm = {layers.LayerNormalization: LayerNorm}
    np.testing.assert_allclose(
        transplanted(surgery.replace(network, with_layer_norm, report=None), "batch", classes=4)(x),
        network(x),
        rtol=1e-4,
    )


def test_layer_norm_lives_on_and_batch_norm_does_not(network):
    model = transplanted(network, "layer", classes=4)
    layer, old = (each.get_layer("layer_norm") for each in (model, network))
    assert type(layer) is LayerNorm
    assert layer.epsilon == 1e-6
    np.testing.assert_array_equal(layer.gamma, old.gamma)
    np.testing.assert_array_equal(model.get_layer("after_plain").gamma, 1)
    np.testing.assert_array_equal(model.get_layer("plain").kernel, network.get_layer("plain").kernel)
    report = surgery.report(model)
    assert [row.layer for row in report.of("converted")] == ["layer_norm"]
    assert [row.layer for row in report.of("dropped")] == ["after_plain", "after_biased", "after_sum"]


def test_options_overrule_the_arguments_of_keras_and_a_callable_is_taken_as_it_is(network):
    layer = transplanted(network, ("batch", {"momentum": 0.5}), classes=4).get_layer("after_plain")
    assert (layer.momentum, layer.epsilon) == (0.5, 1e-2)
    layer = transplanted(network, lambda: BatchNorm(momentum=0.25), classes=4).get_layer("after_plain")
    assert (layer.momentum, layer.epsilon, layer.unbiased) == (0.25, 1e-3, True)
    np.testing.assert_array_equal(layer.moving_mean, network.get_layer("after_plain").moving_mean)
    model = transplanted(network, ("group", {"groups": 4}), classes=4)
    assert (model.get_layer("after_plain").groups, model.get_layer("after_biased").scale) == (4, False)


@pytest.mark.parametrize(
    ("option", "value", "names", "why"),
    [
        ("scale", False, ["after_plain", "after_sum"], "scale=False drops its γ"),
        ("center", False, ["after_plain", "after_biased", "after_sum"], "center=False drops its β"),
        (
            "axis",
            2,
            ["after_plain", "after_biased", "after_sum"],
            "its weights belong to axis=-1, and BatchNorm has axis=2",
        ),
    ],
)
def test_an_option_that_drops_trained_weights_is_reported(option, value, names, why, network):
    with pytest.warns(UserWarning, match=rf"those of {len(names) + 1} layers \({names[0]}, {names[1]}, "):
        model = transplanted(network, ("batch", {option: value}), classes=4, pretrained=True)
    dropped = [row for row in surgery.report(model).of("dropped") if row.kind == "BatchNormalization"]
    assert [row.layer for row in dropped] == names
    assert {row.why for row in dropped} == {why}
    if option != "axis":
        kept = model.get_layer("after_plain").moving_mean
        np.testing.assert_array_equal(kept, network.get_layer("after_plain").moving_mean)


def test_renormalization_starts_from_the_moving_statistics(network):
    layer, old = transplanted(network, "renorm", classes=4).get_layer("after_plain"), network.get_layer("after_plain")
    np.testing.assert_array_equal(layer.renorm_mean, old.moving_mean)
    deviation = np.sqrt(old.moving_variance.numpy() + 1e-2)
    np.testing.assert_allclose(layer.moving_stddev, deviation, rtol=1e-6)
    np.testing.assert_allclose(layer.renorm_stddev, deviation, rtol=1e-6)


def test_without_a_norm_each_place_has_one_offset(network):
    model = transplanted(network, None, classes=4)
    names = [layer.name for layer in model.layers]
    assert "after_plain" not in names
    assert "after_biased" not in names
    np.testing.assert_array_equal(model.get_layer("plain").bias, 0)
    np.testing.assert_array_equal(model.get_layer("plain").kernel, network.get_layer("plain").kernel)
    np.testing.assert_array_equal(model.get_layer("biased").bias, network.get_layer("biased").bias)
    offset = model.get_layer("after_sum")
    assert isinstance(offset, Offset)
    np.testing.assert_array_equal(offset.trainable_variables[0], np.zeros(8))
    offset.bias.assign(np.arange(8))
    np.testing.assert_array_equal(offset(np.ones((1, 1, 8))), [[np.arange(1, 9)]])


def test_a_norm_without_an_offset_leaves_it_to_the_layer_before(network):
    model = transplanted(network, "rms", classes=4)
    assert model.get_layer("plain").use_bias
    assert type(model.get_layer("after_plain")) is RMSNorm
    assert type(model.get_layer("after_sum")) is RMSNorm
    assert not transplanted(network, "batch", classes=4).get_layer("plain").use_bias


def test_the_advice_on_groups_fits_all_layers():
    images = keras.Input((8, 8, 3))
    x = layers.BatchNormalization(name="first")(layers.Conv2D(24, 3)(images))
    x = layers.BatchNormalization(name="second")(layers.Conv2D(36, 3)(x))
    network = keras.Model(images, layers.Dense(2)(layers.Flatten()(x)))
    with pytest.raises(ValueError, match=r"'first'.*here one of \[2, 3, 4\]"):
        transplanted(network, "group", classes=2)
    model = transplanted(network, ("group", {"groups": 4}), classes=2)
    assert [type(layer) for layer in model.layers].count(GroupNorm) == 2


@pytest.mark.sample(3)
@pytest.mark.parametrize("norm", [None, *KINDS])
def test_the_copy_is_saved_and_loaded(norm, network, random, tmp_path):
    norm = ("group", {"groups": 4}) if norm == "group" else norm
    model = transplanted(network, norm, classes=7)
    assert model.get_layer("logits").units == 7
    x = random.normal(size=(4, 8, 8, 3))
    model(x, training=True)
    model.save(tmp_path / "model.keras")
    np.testing.assert_allclose(keras.models.load_model(tmp_path / "model.keras")(x), model(x), rtol=1e-5)


def test_a_warning_names_the_trained_weights_that_are_lost(network):
    with pytest.warns(UserWarning, match=r"'network' keeps .* 4 layers \(after_plain, after_biased, after_sum, …\)"):
        transplanted(network, "rms", classes=4, pretrained=True)
