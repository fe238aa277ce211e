"""Norms of kernels in every family of networks: which layers they wrap, a step of training, files and folding."""

import keras
import numpy as np
import pytest

from bn_keras import GroupNorm, WeightNorm, WeightStandardization
from bn_keras.models import build, describe, features, linear_norm
from bn_keras.models.cost import multiply_adds
from bn_keras.surgery import fold
from bn_keras.surgery.tree import layers_of
from tests.models.test_every_norm import example_for, train
from tests.surgery.models import randomize

TINY = {"width": 0.125, "input_shape": (8, 8, 3)}
# A member of each family, what makes it small, and the number of its linear layers that a norm belongs to.
FAMILIES = {
    "bn_inception_slim": ({"width": 0.0625, "input_shape": (32, 32, 3), "classes": 10}, 69),
    "inception_small": (TINY, 19),
    "mlp_relu_deep": ({"depth": 2, "units": 16}, 2),
    "mlp_sigmoid": ({"width": 0.1}, 3),
    "resnet20": (TINY, 19),
    "vgg_small": (TINY, 8),
}
NORMS = {"standardized": ("standardized", {"groups": 2}), "weight": "weight"}


def found(model, kind):
    return [layer for layer in layers_of(model) if isinstance(layer, kind)]


@pytest.mark.sample(3)
@pytest.mark.slow
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_takes_the_norm(name, norm, random, tmp_path):
    arguments, count = FAMILIES[name]
    model = build(name, norm=NORMS[norm], **arguments)
    standardized = norm == "standardized"
    assert len(found(model, WeightStandardization)) == len(found(model, GroupNorm)) == count * standardized
    assert len(found(model, WeightNorm)) == count * (not standardized)
    inputs = example_for(model, random)
    if name != "bn_inception_slim":  # its blocks are those of another network
        train(model, inputs)
    outputs = model(inputs).numpy()
    assert np.isfinite(outputs).all()
    if name in ("mlp_sigmoid", "inception_small"):
        model.save(tmp_path / "model.keras")
        np.testing.assert_allclose(keras.models.load_model(tmp_path / "model.keras")(inputs), outputs, rtol=1e-5)
        folded = fold(model, report=None, strict=True)
        assert not found(folded, (WeightNorm, WeightStandardization))
        np.testing.assert_allclose(folded(inputs), outputs, rtol=1e-4, atol=1e-4 * np.abs(outputs).max())


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", ["transformer_small", "resnet50"])
def test_a_network_that_cannot_take_it_refuses_by_name(name, norm):
    with pytest.raises(ValueError, match=rf"'{name}' cannot take `norm=.*{norm}.*normalizes the kernels.*Use norm="):
        build(name, norm=NORMS[norm])


def test_options_reach_the_wrapper_and_the_layer_behind():
    x, dense = keras.Input((6,)), keras.layers.Dense(8, name="dense")
    options = {"groups": 4, "epsilon": 0.5, "scaled": True, "use_gain": True}
    y = linear_norm(x, dense, norm=("standardized", options), name="norm")
    _, wrapper, behind = keras.Model(x, y).layers
    assert (wrapper.scaled, wrapper.use_gain, wrapper.epsilon, wrapper.name) == (True, True, 1e-6, "dense")
    assert (behind.groups, behind.epsilon, behind.name) == (4, 0.5, "norm")
    with pytest.raises(ValueError, match="Unrecognized keyword arguments.*momentum"):
        linear_norm(x, dense, norm=("weight", {"momentum": 0.5}), name="norm")


@pytest.mark.slow
def test_a_linear_layer_has_a_bias_and_a_branch_a_gate_where_no_norm_of_outputs_follows():
    for norm, without in (("weight", True), (NORMS["standardized"], False)):
        model = build("resnet20", norm=norm, **TINY)
        assert model.get_layer("stem_conv").layer.use_bias is without
        assert ("block_1_gate" in {layer.name for layer in model.layers}) is without


@pytest.mark.slow
def test_counts_and_stages_are_those_of_the_plain_network():
    plain, wrapped = (build("resnet20", norm=norm, **TINY) for norm in (None, "weight"))
    assert multiply_adds(wrapped) == multiply_adds(plain)
    assert list(features(wrapped).output) == list(features(plain).output)
    assert describe("resnet20").not_counted == ()


def test_a_wrapped_transposed_convolution_counts_as_a_plain_one(random):
    def model(wrap):
        x = keras.Input((4, 4, 3))
        return keras.Model(x, wrap(keras.layers.Conv2DTranspose(5, 3, strides=2))(x))

    assert multiply_adds(model(WeightNorm)) == multiply_adds(model(lambda layer: layer)) == (16 * 9 * 15, ())
    assert randomize(model(WeightNorm), random).count_params() == 9 * 15 + 5 + 5
