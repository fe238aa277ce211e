"""Folded models say what they said before, and the report says what became of each batch norm."""

import re

import keras
import numpy as np
import pytest

from bn_keras import Affine, BatchNorm, DecorrelatedBatchNorm, SyncBatchNorm
from bn_keras.surgery import fold, from_keras
from bn_keras.surgery.tree import layers_of
from tests.surgery.models import BUILDS, block, inputs_of, nested, outputs_of, randomize, shared, subclassed

layers = keras.layers
LINEAR = {
    "dense": (layers.Dense(4, use_bias=False), (3,)),
    "dense_of_sequences": (layers.Dense(4), (5, 3)),
    "conv1d": (layers.Conv1D(4, 3, strides=2), (9, 3)),
    "conv1d_causal": (layers.Conv1D(4, 3, padding="causal", dilation_rate=2), (9, 3)),
    "conv2d": (layers.Conv2D(4, 3, padding="same", use_bias=False), (7, 7, 3)),
    "conv2d_pointwise": (layers.Conv2D(4, 1, padding="same", strides=2), (7, 7, 3)),
    "conv2d_groups": (layers.Conv2D(6, 3, groups=2), (7, 7, 4)),
    "conv3d": (layers.Conv3D(4, 2), (4, 4, 4, 3)),
    "conv1d_transposed": (layers.Conv1DTranspose(4, 3, strides=2), (5, 3)),
    "conv2d_transposed": (layers.Conv2DTranspose(4, 3, strides=2, padding="same"), (5, 5, 3)),
    "conv3d_transposed": (layers.Conv3DTranspose(4, 2), (3, 3, 3, 3)),
    "depthwise1d": (layers.DepthwiseConv1D(3, depth_multiplier=2), (7, 3)),
    "depthwise2d": (layers.DepthwiseConv2D(3, depth_multiplier=2, use_bias=False), (7, 7, 3)),
    "separable1d": (layers.SeparableConv1D(4, 3, depth_multiplier=2), (7, 3)),
    "separable2d": (layers.SeparableConv2D(4, 3, use_bias=False), (7, 7, 3)),
}


def copy_of(layer, **changes):
    return type(layer).from_config(layer.get_config() | changes)


def row(shape, *parts):
    return keras.Sequential([keras.Input(shape), *parts])


def folded(model, random):
    """The folded model, which has to say the same, and the report."""
    randomize(model, random)
    reports = []
    new, x = fold(model, report=reports.append), inputs_of(model, random)
    for there, here in zip(outputs_of(model, x), outputs_of(new, x), strict=True):
        np.testing.assert_allclose(here, there, rtol=0, atol=1e-5 * max(1, np.abs(there).max()))
    return new, reports[0].rows


@pytest.mark.sample(20)
@pytest.mark.parametrize("norm", [BatchNorm, SyncBatchNorm, layers.BatchNormalization])
@pytest.mark.parametrize("name", LINEAR)
def test_into_the_layer_before(name, norm, random):
    layer, shape = LINEAR[name]
    model, report = folded(row(shape, copy_of(layer), norm(), layers.ReLU()), random)
    assert [type(each) for each in model.layers] == [type(layer), layers.ReLU]
    assert [each.into for each in report] == [(layer.name,)]


PADDED = "conv1d_causal", "conv2d"
TRANSPOSED = "conv1d_transposed", "conv2d_transposed", "conv3d_transposed"


@pytest.mark.parametrize("name", LINEAR)
def test_into_the_layer_after(name, random):
    """Unless it pads, or is transposed."""
    layer, shape = LINEAR[name]
    model, report = folded(row(shape, BatchNorm(), copy_of(layer, activation="tanh")), random)
    if name in PADDED + TRANSPOSED:
        assert type(model.layers[0]) is Affine
        assert ("zeros, which have no offset" if name in PADDED else "at its border") in report[0].why
    else:
        assert [type(each) for each in model.layers] == [type(layer)]
        assert report[0].into == (layer.name,)


@pytest.mark.parametrize("name", PADDED + TRANSPOSED)
def test_without_an_offset_padding_does_no_harm(name, random):
    layer, shape = LINEAR[name]
    model = row(shape, BatchNorm(center=False, name="norm"), copy_of(layer))
    randomize(model, random)
    model.get_layer("norm").moving_mean.assign([0.0] * 3)
    x, new = inputs_of(model, random), fold(model, report=None)
    np.testing.assert_allclose(outputs_of(new, x), outputs_of(model, x), rtol=0, atol=1e-5)
    assert len(new.layers) == 1


@pytest.mark.parametrize("norm_first", [True, False])
def test_channels_first(norm_first, random):
    """TensorFlow does not run these convolutions on a CPU, so what is compared is the weights."""

    def weights(data_format, shape, axis):
        parts = [BatchNorm(axis=axis), layers.Conv2D(4, 3, data_format=data_format)]
        model = row(shape, *(parts if norm_first else parts[::-1]), layers.ReLU())
        for i, weight in enumerate(sorted(model.weights, key=lambda weight: weight.name)):
            weight.assign(np.random.default_rng(i).uniform(0.5, 2, weight.shape))
        return fold(model, report=None).get_weights()

    last, first = weights("channels_last", (7, 9, 3), -1), weights("channels_first", (3, 7, 9), 1)
    assert len(last) == len(first) == 2
    for here, there in zip(last, first, strict=True):
        np.testing.assert_array_equal(here, there)


def test_one_layer_between_two_norms(random):
    """It takes both, and the activation of the second is left."""
    model, report = folded(row((7, 7, 3), BatchNorm(), layers.Conv2D(4, 3), BatchNorm(activation="relu")), random)
    assert [type(layer) for layer in model.layers] == [layers.Conv2D, layers.Activation]
    assert [each.into for each in report] == [(model.layers[0].name,)] * 2


def test_one_norm_before_two_layers(random):
    x = keras.Input((3,))
    y = BatchNorm()(x)
    model = keras.Model(x, [layers.Dense(4, name="a")(y), layers.Dense(2, name="b")(y)])
    new, report = folded(model, random)
    assert report[0].into == ("a", "b")
    assert not any(isinstance(layer, Affine) for layer in new.layers)


def test_names_of_outputs_stay(random):
    x = keras.Input((3,))
    model = keras.Model(x, BatchNorm(name="out")(layers.Dense(2)(x)))
    assert folded(model, random)[0].output_names == model.output_names == ["out"]


def used_twice(norm):
    x = keras.Input((3,))
    y = layers.Dense(3)(x)
    return keras.Model(x, [norm()(y), y])


def called_twice(norm):
    one, x = norm(), keras.Input((3,))
    return keras.Model(x, [one(layers.Dense(3)(x)), one(x)])


def of_other_inputs_too(norm):
    dense, x = layers.Dense(3), keras.Input((3,))
    return keras.Model(x, [dense(norm()(x)), dense(x)])


def siamese(norm):
    dense, one, a, b = layers.Dense(3), norm(), keras.Input((3,)), keras.Input((3,))
    return keras.Model([a, b], [one(dense(a)), one(dense(b))])


def in_training(norm):
    x = keras.Input((3,))
    return keras.Model(x, norm()(layers.Dense(3)(x), training=True))


def of_other_dtype(norm):
    return row((3,), layers.Dense(3, dtype="mixed_bfloat16"), norm(dtype="float32"))


def with_lora(norm):
    model = row((3,), layers.Dense(3), norm())
    model.layers[0].enable_lora(2)
    return model


@pytest.mark.parametrize(
    ("build", "why"),
    [
        (used_twice, "Dense before it feeds other layers too, and the output of the model is after it"),
        (called_twice, "several layers are before it, and the output of the model is after it"),
        (of_other_inputs_too, "an input is before it, and Dense after it has other inputs too"),
        (lambda norm: row((3,), layers.Dense(3, "relu"), norm()), "Dense before it has an activation"),
        (lambda norm: row((4, 3), layers.Dense(3), norm(axis=1)), "Dense before it has its channels at another axis"),
        (of_other_dtype, "Cast is before it"),
        (with_lora, "Dense before it has variables of its own, "),
        (lambda norm: row((3,), layers.ReLU(), norm(activation="relu")), "ReLU is before it, and it has an activation"),
        (lambda norm: row((3,), layers.ReLU(), norm(), layers.ReLU()), "ReLU is before it, and ReLU is after it"),
    ],
)
def test_what_cannot_be_folded_is_an_affine_map(build, why, random):
    if build is of_other_dtype:
        model = randomize(build(BatchNorm), random)
        reports = []
        new = fold(model, report=reports.append)
        report = reports[0].rows
    else:
        new, report = folded(build(BatchNorm), random)
    assert report[0].why.startswith(why)
    assert [type(layer) for layer in layers_of(new) if isinstance(layer, (Affine, BatchNorm))] == [Affine]


def test_a_shared_pair_is_folded(random):
    assert not any(isinstance(layer, Affine) for layer in folded(siamese(BatchNorm), random)[0].layers)


class Holder(layers.Layer):
    """Calls the layers of the row that it holds on its own account too."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.before, self.norm, self.after = layers.Dense(3), BatchNorm(), layers.Dense(3)
        self.rows = [keras.Sequential([self.before, BatchNorm()]), keras.Sequential([BatchNorm(), self.after])]

    def call(self, x):
        return self.rows[1](self.rows[0](x)) + self.after(self.before(x))


def test_layers_that_another_layer_calls_too(random):
    x = keras.Input((3,))
    model = keras.Model(x, Holder()(x))
    _, report = folded(model, random)
    dense = {layer.name for layer in layers_of(model) if isinstance(layer, layers.Dense)}
    assert not dense & {name for row in report for name in row.into}


def test_a_norm_that_is_always_training_stays(random):
    model = in_training(BatchNorm)
    reports = []
    assert type(fold(model, report=reports.append).layers[-1]) is BatchNorm
    assert reports[0].rows[0].why == "it is called with training=True"
    assert reports[0].rows[0].outcome == "kept"


def test_what_mixes_channels_stays(random):
    new, report = folded(row((4,), layers.Dense(4), DecorrelatedBatchNorm()), random)
    assert type(new.layers[-1]) is DecorrelatedBatchNorm
    assert report[0].outcome == "kept"


@pytest.mark.sample(10)
@pytest.mark.parametrize("build", BUILDS, ids=lambda build: build.__name__)
@pytest.mark.parametrize("norm", [BatchNorm, layers.BatchNormalization])
def test_every_build(build, norm, random):
    """No batch norm is left, not within layers either."""
    model = randomize(build(norm), random)
    new, x = fold(model, report=None), inputs_of(model, random)
    left = [layer for layer in layers_of(new) if isinstance(layer, (BatchNorm, layers.BatchNormalization))]
    assert not left
    atol = 3e-2 if "mixed" in model.name else 1e-5
    for there, here in zip(outputs_of(model, x), outputs_of(new, x), strict=True):
        np.testing.assert_allclose(here, there, rtol=0, atol=atol)


@pytest.mark.parametrize(
    ("build", "affine"),
    [(nested, ["middle"]), (shared, ["first"]), (block, ["", "last"]), (subclassed, ["", "last"])],
)
def test_which_are_folded(build, affine, random):
    """A layer in two models is folded if all that it feeds is one norm; norms that a layer calls itself are not."""
    found = [layer.name for layer in layers_of(fold(build(BatchNorm), report=None)) if isinstance(layer, Affine)]
    assert ["" if name.startswith("batch_norm") else name for name in found] == affine


def test_the_report(capsys, random):
    fold(row((3,), layers.Dense(3), BatchNorm(), layers.ReLU(), BatchNorm(name="last"), layers.ReLU()))
    first, second, last = capsys.readouterr().out.splitlines()
    assert first == "fold: 1 folded, 1 mapped."
    assert second == "  1 mapped: ReLU is before it, and ReLU is after it (last)"
    assert re.fullmatch(r"Verified: outputs (are equal|differ by \S+ of the largest) \(made-up inputs\)\.", last)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ResNet50V2", pytest.param("Xception", marks=pytest.mark.exhaustive)])
def test_known_networks(name, random):
    """All of `keras.applications` are in `bn-keras page folding`."""
    network = getattr(keras.applications, name)
    model = network(weights=None, input_shape=(75, 75, 3), classes=3, classifier_activation=None)
    for layer in layers_of(model):
        if isinstance(layer, layers.BatchNormalization):
            layer.set_weights([random.uniform(0.5, 1.5, weight.shape) for weight in layer.weights])
    x, reports = inputs_of(model, random)[:1], []
    (there,), (here,) = outputs_of(model, x), outputs_of(fold(from_keras(model), report=reports.append), x)
    np.testing.assert_allclose(here, there, rtol=0, atol=1e-4 * np.abs(there).max())
    left = [each for each in reports[0].rows if not each.into]
    assert len(left) == (17 if name == "ResNet50V2" else 0)


EINSUM = {
    "dense": (layers.EinsumDense("abc,cd->abd", (None, 4)), (5, 3)),
    "with_bias": (layers.EinsumDense("abc,cd->abd", (None, 4), bias_axes="d"), (5, 3)),
    "heads": (layers.EinsumDense("abc,cde->abde", (None, 2, 4)), (5, 3)),
    "heads_with_bias": (layers.EinsumDense("abc,cde->abde", (None, 2, 4), bias_axes="de"), (5, 3)),
    "positions": (layers.EinsumDense("abc,bd->adc", (4, 3)), (5, 3)),
    "bias_of_fewer_axes": (layers.EinsumDense("abc,cde->abde", (None, 2, 4), bias_axes="e"), (5, 3)),
    "batched_kernel": (layers.EinsumDense("abc,bcd->abd", (5, 4)), (5, 3)),
}
NOT_AFTER = {"positions", "bias_of_fewer_axes"}
NOT_BEFORE = {"positions", "bias_of_fewer_axes", "batched_kernel"}


@pytest.mark.parametrize("name", EINSUM)
@pytest.mark.parametrize("norm_first", [True, False])
def test_einsum_dense(name, norm_first, random):
    layer, shape = EINSUM[name]
    parts = [BatchNorm(), copy_of(layer)]
    _, report = folded(row(shape, *(parts if norm_first else parts[::-1]), layers.ReLU()), random)
    mapped = name in (NOT_BEFORE if norm_first else NOT_AFTER)
    assert [each.outcome for each in report] == ["mapped" if mapped else "folded"]


def test_maps_in_a_row_become_one(random):
    """Also those that an earlier fold has left, in whichever order they are found."""
    parts = [layers.ReLU(), BatchNorm(), BatchNorm(), layers.ReLU()]
    once, report = folded(row((3,), *parts), random)
    assert [each.outcome for each in report] == ["mapped", "folded"]
    assert [type(layer) for layer in once.layers] == [layers.ReLU, Affine, layers.ReLU]
    twice = row((3,), layers.ReLU(), Affine(), Affine(), layers.Dense(2))
    new, report = folded(twice, random)
    assert [type(layer) for layer in new.layers] == [layers.ReLU, layers.Dense]
    assert [each.outcome for each in report] == ["folded", "folded"]


class ConvBlock(layers.Layer):
    """Calls its layers itself, with an inner activation and a dropout that inference leaves out."""

    def __init__(self, twice=False, **kwargs):
        super().__init__(**kwargs)
        self.twice = twice
        self.conv, self.norm, self.dropout = layers.Conv2D(4, 3, use_bias=False), BatchNorm(), layers.Dropout(0.5)

    def call(self, x, training=None):
        y = self.conv(x)
        z = self.norm(self.dropout(y, training=training), training=training)
        return z + y if self.twice else layers.ReLU()(z)

    def get_config(self):
        return {**super().get_config(), "twice": self.twice}


@pytest.mark.parametrize(("twice", "outcome"), [(False, "folded"), (True, "mapped")])
def test_layers_that_a_custom_layer_calls(twice, outcome, random):
    x = keras.Input((6, 6, 3))
    new, report = folded(keras.Model(x, ConvBlock(twice)(x)), random)
    assert [each.outcome for each in report] == [outcome]
    norms = [type(layer) for layer in layers_of(new) if isinstance(layer, (BatchNorm, Affine))]
    assert norms == ([Affine] if twice else [])


def test_the_trace_leaves_the_model_as_it_was(random):
    model = randomize(row((3,), layers.Dense(3), BatchNorm()), random)
    before = [set(vars(layer)) for layer in layers_of(model)]
    fold(model, report=None)
    assert [set(vars(layer)) for layer in layers_of(model)] == before


def test_a_channels_first_convolution_whose_bias_keras_misplaces(random):
    """Width and filters are equal: Keras would add the bias along the width."""
    model = row((3, 6, 6), layers.Conv2D(4, 3, data_format="channels_first", use_bias=False), BatchNorm(axis=1))
    new = fold(randomize(model, random), report=None)
    assert [type(layer) for layer in new.layers] == [layers.Conv2D, Affine]
    assert new.layers[0].use_bias is False


@pytest.mark.parametrize("place", ["of_norm_after", "of_norm_before", "of_layer_before", "of_mapped_norm"])
def test_activity_regularizers_see_what_they_saw(place, random):
    regularized = {"activity_regularizer": keras.regularizers.L2(0.5)}
    row = {
        "of_norm_after": [keras.layers.Dense(4), BatchNorm(**regularized)],
        "of_norm_before": [BatchNorm(**regularized), keras.layers.Dense(4)],
        "of_layer_before": [keras.layers.Dense(4, **regularized), BatchNorm()],
        "of_mapped_norm": [keras.layers.ReLU(), BatchNorm(**regularized)],
    }[place]
    model = randomize(keras.Sequential([keras.Input((4,)), *row]), random)
    folded, x = fold(model, report=None, verify=False), inputs_of(model, random)
    np.testing.assert_allclose(folded(x), model(x), rtol=1e-4, atol=1e-5)
    assert float(folded.losses[0]) == pytest.approx(float(model.losses[0]), rel=1e-4)
