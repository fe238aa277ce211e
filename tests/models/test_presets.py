"""Presets: their size, their structure and the errors of `build`."""

import itertools
import re

import keras
import numpy as np
import pytest

from bn_keras import BatchNorm, LayerNorm, RMSNorm
from bn_keras.models import build, list_presets, preset
from bn_keras.models.blocks import scaled

# Networks of linear layers with a norm each, apart from the logits.
PLAIN = ("bn_inception", "inception_small", "linear_deep", "mlp_relu_deep", "mlp_sigmoid", "vgg_small")


def mlp_parameters(inputs, units, classes, norm):
    sizes = [inputs, units, units, units]
    hidden = sum(a * b for a, b in itertools.pairwise(sizes))
    return hidden + 3 * units * (4 if norm else 1) + units * classes + classes


# inception-bn-28-small, written out: (input channels, filters, kernel size) of each convolution.
SMALL_CONVOLUTIONS = [
    (1, 96, 3),
    (96, 32, 1), (96, 32, 3), (64, 32, 1), (64, 48, 3), (80, 80, 3),
    (160, 112, 1), (160, 48, 3), (160, 96, 1), (160, 64, 3), (160, 80, 1), (160, 80, 3),
    (160, 48, 1), (160, 96, 3), (144, 96, 3),
    (240, 176, 1), (240, 160, 3), (336, 176, 1), (336, 160, 3),
]  # fmt: skip


def small_inception_parameters(norm):
    convolutions = sum(i * o * k * k + o * (4 if norm else 1) for i, o, k in SMALL_CONVOLUTIONS)
    return convolutions + 336 * 10 + 10


@pytest.mark.slow
@pytest.mark.parametrize("norm", [None, "batch"])
def test_parameter_counts(norm):
    assert build("mlp_sigmoid", norm=norm).count_params() == mlp_parameters(784, 100, 10, norm)
    assert build("mlp_sigmoid", norm=norm).count_params() == (100_610 if norm else 99_710)
    assert build("inception_small", norm=norm).count_params() == small_inception_parameters(norm)
    small = build("mlp_sigmoid", norm=norm, classes=3, input_shape=(8, 8, 1), width=0.5)
    assert small.count_params() == mlp_parameters(64, scaled(100, 0.5), 3, norm)


@pytest.mark.sample(2)
@pytest.mark.slow
@pytest.mark.parametrize("name", PLAIN)
def test_norm_is_the_only_difference(name):
    plain, normalized = build(name, norm=None), build(name)
    names = [layer.name for layer in plain.layers]
    assert [layer.name for layer in normalized.layers if not layer.name.endswith("_norm")] == names
    norms = [layer for layer in normalized.layers if isinstance(layer, BatchNorm)]
    linear = [layer for layer in normalized.layers if isinstance(layer, (keras.layers.Dense, keras.layers.Conv2D))]
    assert len(norms) == len(linear) - 1
    assert not any(layer.use_bias for layer in linear[:-1])
    assert linear[-1].use_bias
    assert all(layer.use_bias for layer in plain.layers if hasattr(layer, "use_bias"))


@pytest.mark.sample(2)
@pytest.mark.slow
@pytest.mark.parametrize("name", [*PLAIN, "resnet20"])
def test_the_same_seed_gives_both_arms_the_same_kernels(name):
    kernels = []
    for norm in (None, "batch"):
        keras.utils.set_random_seed(3)
        kernels.append([w.numpy() for w in build(name, norm=norm, width=0.1).weights if w.name == "kernel"])
    for a, b in zip(*kernels, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.sample(2)
@pytest.mark.slow
@pytest.mark.parametrize("name", [*PLAIN, "resnet20"])
def test_logits_of_any_image_size(name, random):
    model = build(name, classes=7, input_shape=(9, 11, 2), width=0.1)
    assert model(random.normal(size=(3, 9, 11, 2))).shape == (3, 7)


def test_norm_may_be_a_callable():
    model = build("mlp_sigmoid", norm=lambda: BatchNorm(momentum=0.5))
    assert [layer.momentum for layer in model.layers if isinstance(layer, BatchNorm)] == [0.5] * 3
    model = build("mlp_sigmoid", norm=keras.layers.LayerNormalization)
    assert sum(isinstance(layer, keras.layers.LayerNormalization) for layer in model.layers) == 3
    assert sum(isinstance(layer, LayerNorm) for layer in build("mlp_sigmoid", norm="layer").layers) == 3


def test_a_preset_tells_what_it_is():
    for name in list_presets():
        entry = preset(name)
        assert entry.name == name
        assert entry.summary
        assert entry.source


@pytest.mark.parametrize(
    ("name", "arguments", "error", "words"),
    [
        ("mlp_sigmod", {}, ValueError, "Did you mean 'mlp_sigmoid'?"),
        ("mlp_sigmoid", {"norm": "bach"}, ValueError, "Did you mean 'batch'?"),
        ("mlp_sigmoid", {"norm": lambda: 3}, TypeError, "must return a new keras layer"),
        (["mlp_sigmoid"], {}, ValueError, "`name` must be one of"),
        ("mlp_sigmoid", {"norm": BatchNorm()}, TypeError, "Received: the layer .* its class or a function"),
        ("mlp_sigmoid", {"norm": (None, {"groups": 8})}, ValueError, "`norm=None` takes no options"),
        ("mlp_sigmoid", {"classes": 1}, ValueError, "`classes` must be an int ≥ 2"),
        ("mlp_sigmoid", {"input_shape": (28, 28)}, ValueError, "`input_shape` must be three ints"),
        ("mlp_sigmoid", {"depth": 3}, TypeError, "'mlp_sigmoid' has no option 'depth'"),
        ("mlp_sigmoid", {"preprocessing": 3}, TypeError, "`preprocessing` must be a keras layer"),
        ("mlp_sigmoid", {"weights": "nothing"}, ValueError, "`weights` must be one that 'mlp_sigmoid' has"),
        ("mlp_sigmoid", {"norm": ("group", 8)}, TypeError, "must be a pair of a name and a dict"),
        ("inception_small", {"norm": "group", "width": 0.1}, ValueError, "'stem_norm'.*groups"),
        ("mlp_sigmoid", {"width": 0}, ValueError, r"`width` must be a number in \(0, 16\]"),
    ],
)
def test_wrong_arguments(name, arguments, error, words):
    with pytest.raises(error, match=words.replace("?", r"\?")):
        build(name, **arguments)


@pytest.mark.slow
def test_a_norm_that_returns_one_layer_again_and_again_is_refused():
    layer = BatchNorm()
    for name in ("mlp_sigmoid", "mobilenet"):
        with pytest.raises(TypeError, match="which returned '.*' a second time"):
            build(name, norm=lambda: layer, input_shape=(32, 32, 3))


@pytest.mark.parametrize("name", list_presets())
def test_channels_first_is_refused(name, monkeypatch):
    monkeypatch.setattr(keras.config, "image_data_format", lambda: "channels_first")
    if name == "transformer_small":
        assert build(name, depth=1, input_shape=(4,)).output_shape == (None, 4, 65)
    else:
        with pytest.raises(ValueError, match="set_image_data_format"):
            build(name)


@pytest.mark.slow
def test_integers_of_numpy_are_integers():
    model = build("mlp_sigmoid", classes=np.int64(3), input_shape=tuple(np.int32([4, 4, 1])), width=np.float32(0.5))
    assert (model.input_shape, model.output_shape) == ((None, 4, 4, 1), (None, 3))
    assert model.get_layer("hidden_1").units == 48
    assert build("mlp_sigmoid", weights="digits", classes=np.int64(10)).output_shape == (None, 10)


@pytest.mark.sample(3)
@pytest.mark.parametrize("norm", [("batch", {"center": False}), RMSNorm, lambda: BatchNorm(center=False), "rms"])
@pytest.mark.parametrize("name", ["mlp_sigmoid", "vgg_small", "mobilenet"])
def test_a_linear_layer_has_a_bias_where_its_norm_has_no_offset(name, norm):
    model = build(name, norm=norm, width=0.25, input_shape=(32, 32, 3))
    assert all(layer.use_bias for layer in model.layers if hasattr(layer, "use_bias"))


@pytest.mark.slow
@pytest.mark.sample(4)
@pytest.mark.parametrize("name", ["bn_inception", "inception_small", "vgg_small", "resnet20"])
@pytest.mark.parametrize("width", [0.3, 0.55])
def test_the_groups_that_an_error_advises_fit_all_layers(name, width):
    with pytest.raises(ValueError, match="Choose a number of groups") as error:
        build(name, norm=("group", {"groups": 3}), width=width, input_shape=(32, 32, 3))
    groups = int(re.search(r'\{"groups": (\d+)\}\)\.$', str(error.value))[1])
    build(name, norm=("group", {"groups": groups}), width=width, input_shape=(32, 32, 3))
