"""The card of a preset: published multiply-adds, stages, weights, and how it reads."""

import dataclasses

import keras
import pytest

from bn_keras.models import build, card, describe, features, preset
from bn_keras.models.cost import multiply_adds


def counted(shape, *layers):
    inputs = x = keras.Input(shape)
    for layer in layers:
        x = layer(x)
    return multiply_adds(keras.Model(inputs, x))


# (model, the figure that its paper prints, in thousand millions)
PUBLISHED = [("MobileNetV2", 0.30), ("EfficientNetB0", 0.39), ("ConvNeXtTiny", 4.5)]


@pytest.mark.slow
@pytest.mark.sample(1)
@pytest.mark.parametrize(("name", "figure"), PUBLISHED)
def test_the_models_of_keras_have_the_published_multiply_adds(name, figure):
    total, unknown = multiply_adds(getattr(keras.applications, name)(weights=None, input_shape=(224, 224, 3)))
    assert total / 1e9 == pytest.approx(figure, rel=0.015)
    assert not unknown


@pytest.mark.slow
def test_resnet50_has_the_published_multiply_adds_and_stages():
    description = describe("resnet50")
    assert description.multiply_adds / 1e9 == pytest.approx(3.86, abs=0.005)
    assert {stride: shape[0] for stride, shape in description.stages.items()} == {2: 112, 4: 56, 8: 28, 16: 14, 32: 7}
    assert description.weights == ("'imagenet', which Keras downloads",)


@pytest.mark.slow
def test_bn_inception_and_resnet20_have_the_published_multiply_adds():
    assert describe("bn_inception").multiply_adds / 1e9 == pytest.approx(2.03, abs=0.005)
    assert describe("resnet20").multiply_adds == 40_551_040


@pytest.mark.parametrize(
    ("shape", "layer", "count"),
    [
        ((5,), keras.layers.Dense(3), 15),
        ((7, 5), keras.layers.Dense(3), 7 * 15),
        ((8, 6, 4), keras.layers.Conv2D(6, 3, strides=2, padding="same"), 4 * 3 * 9 * 4 * 6),
        ((8, 6, 4), keras.layers.Conv2D(6, 3, padding="same", groups=2), 8 * 6 * 9 * 2 * 6),
        ((8, 6, 4), keras.layers.DepthwiseConv2D(3, depth_multiplier=2), 6 * 4 * 9 * 4 * 2),
        ((8, 6, 4), keras.layers.SeparableConv2D(5, 3, padding="same"), 8 * 6 * (9 * 4 + 4 * 5)),
        ((8, 6, 4), keras.layers.Conv2DTranspose(5, 2, strides=2), 8 * 6 * 4 * 4 * 5),
        ((9, 4), keras.layers.Conv1D(5, 3), 7 * 3 * 4 * 5),
        ((7, 5), keras.layers.EinsumDense("abc,cd->abd", output_shape=(None, 3)), 7 * 15),
        ((6, 7, 5), keras.layers.EinsumDense("...x,xy->...y", output_shape=3), 6 * 7 * 15),
        ((7, 5), keras.layers.EinsumDense("abc,bcd->abd", output_shape=(7, 3)), 7 * 15),
    ],
)
def test_a_layer_has_the_multiply_adds_of_its_sums(shape, layer, count):
    assert counted(shape, layer) == (count, ())


def test_attention_counts_its_projections_scores_and_sums():
    queries, values, keys = keras.Input((7, 10)), keras.Input((9, 10)), keras.Input((9, 6))
    outputs = keras.layers.MultiHeadAttention(2, 3, value_dim=4, output_shape=(5,))(queries, values, key=keys)
    heads, scores, sums = 2, 7 * 9 * 3, 7 * 9 * 4
    projections = 7 * 10 * 3 + 9 * 6 * 3 + 9 * 10 * 4 + 7 * 4 * 5
    found, unknown = multiply_adds(keras.Model([queries, values, keys], outputs))
    assert found == heads * (projections + scores + sums)
    assert not unknown


def test_a_shared_layer_counts_for_each_call_and_a_model_within_for_its_layers():
    twice = keras.layers.Dense(5)
    assert counted((5,), twice, twice) == (50, ())
    row = keras.Sequential([keras.layers.Dense(3), keras.layers.Dense(2)])
    assert counted((5,), row) == (21, ())
    inner = keras.Input((5,))
    graph = keras.Model(inner, keras.layers.Dense(3)(inner))
    assert counted((5,), graph, keras.layers.Dense(2)) == (21, ())


def test_a_layer_of_an_unknown_kind_is_named():
    assert counted((7, 5), keras.layers.Dense(4), keras.layers.LSTM(3, name="lstm")) == (140, ("lstm",))


@pytest.mark.sample(1)
@pytest.mark.slow
@pytest.mark.parametrize("name", ["bn_inception_slim", "mlp_relu_deep", "resnet20", "transformer_small", "vgg_small"])
def test_a_card_says_what_the_preset_is(name):
    description, entry = describe(name), preset(name)
    text = str(description)
    assert text.splitlines()[0] == f"{name}: {entry.summary}"
    assert f"source         {entry.source}" in text
    for option, value in entry.options.items():
        assert f" {option}={value!r}" in text
    assert f"{description.multiply_adds:,}" in text
    assert not description.not_counted
    assert bool(description.stages) == any(word in name for word in ("inception", "resnet", "vgg"))


@pytest.mark.slow
def test_a_card_counts_parameters_and_has_the_stages_of_features():
    description = describe("bn_inception")
    assert (description.trainable, description.moving) == (11_285_224, 20_032)
    outputs = features(build("bn_inception")).output
    assert {f"stride_{stride}": shape for stride, shape in description.stages.items()} == {
        name: output.shape[1:] for name, output in outputs.items()
    }
    assert "stages         stride 2    112×112×64\n               stride 4    56×56×192\n" in str(description)


def test_a_card_lists_the_weights(monkeypatch):
    weights = card.Card(
        preset="mlp_sigmoid",
        data="digits",
        norm="batch",
        norm_options={},
        classes=10,
        input_shape=(8, 8, 1),
        width=1.0,
        options={},
        preprocessing_layer=keras.saving.serialize_keras_object(keras.layers.Rescaling(0.1)),
        recipe={},
        accuracy=0.974,
        test_examples=1797,
        parameters=1,
        sha256="",
        bytes=1,
        license="",
        command="",
    )
    monkeypatch.setattr(card, "cards", lambda: (weights, dataclasses.replace(weights, preset="other")))
    entry = dataclasses.replace(preset("mlp_sigmoid"), pretrained=("imagenet",))
    monkeypatch.setattr(card, "preset", lambda name: entry)
    assert describe("mlp_sigmoid").weights == (
        "'digits' with norm='batch': 97.4 % of 1,797 test examples, input 8×8×1, preprocessing Rescaling",
        "'imagenet', which Keras downloads",
    )


def test_layers_without_a_count_are_on_the_card():
    description = dataclasses.replace(describe("mlp_sigmoid"), not_counted=("lstm", "gru"))
    assert "multiply-adds  99,400 (0.10 M)\n               without lstm, gru\n" in str(description)


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(ValueError, match="Did you mean 'resnet20'"):
        describe("resnet21")


def test_layers_without_a_kernel_count_nothing():
    assert counted((5,), keras.layers.BatchNormalization(), keras.layers.ReLU()) == (0, ())
