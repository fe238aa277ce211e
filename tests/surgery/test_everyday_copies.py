"""Everyday models keep outputs, weights, sharing, classes and training when surgery copies them."""

import keras
import numpy as np
import pytest

from bn_keras import surgery
from bn_keras.surgery.reports import report
from tests.exhaustive import marked
from tests.surgery.everyday import (
    CHANGES,
    KERAS_BATCH_NORM,
    Calibrated,
    GuideModel,
    Residual,
    SqueezeExcite,
    TiedDecoder,
    assert_converted,
    assert_copy,
    assert_outputs,
    assert_saved,
    assert_train_alike,
    kinds_inside,
    outputs_of,
    randomize,
)

layers = keras.layers


@pytest.fixture(params=CHANGES)
def change(request):
    """A function of surgery that keeps the outputs of a model with batch norm of Keras."""
    return request.param


def assert_change(change, original, x, folder, imports=(), tolerance=1e-5):
    """A changed copy of a model, compared with it and saved."""
    before = outputs_of(original, x)
    copy = CHANGES[change](original)
    assert_outputs(outputs_of(original, x), before, 0)
    assert_copy(original, copy, x, tolerance, folded=change == "fold")
    if change == "from_keras":
        assert_converted(copy)
    assert_saved(copy, x, folder, imports)
    return copy


@pytest.mark.slow
def test_an_adapted_normalization(change, random, tmp_path):
    normalization = layers.Normalization(name="standardize")
    normalization.adapt(random.normal(3, 5, (64, 6, 6, 3)))
    row = [layers.Conv2D(4, 3, use_bias=False), KERAS_BATCH_NORM(), layers.ReLU(), layers.Flatten(), layers.Dense(2)]
    model = randomize(keras.Sequential([keras.Input((6, 6, 3)), normalization, *row]), random)
    assert_change(change, model, random.normal(3, 5, (4, 6, 6, 3)).astype("float32"), tmp_path)


@pytest.mark.slow
def test_a_normalization_with_an_axis_and_its_inverse(change, random, tmp_path):
    data = random.normal([3.0, -40.0], [5.0, 0.2], (64, 2))
    forth = layers.Normalization(axis=-1, name="forth")
    back = layers.Normalization(axis=-1, invert=True, name="back")
    forth.adapt(data)
    back.adapt(data)
    row = [forth, layers.Dense(2), KERAS_BATCH_NORM(), layers.ReLU(), back]
    model = randomize(keras.Sequential([keras.Input((2,)), *row]), random)
    assert_change(change, model, data[:4].astype("float32"), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("change", marked(list(CHANGES), lambda name: name == "fold"))  # which changes the most
def test_efficientnet_with_weights_from_a_file(change, random, tmp_path):
    settings = {"input_shape": (32, 32, 3), "classes": 3, "classifier_activation": None}
    trained = keras.applications.EfficientNetB0(weights=None, **settings)
    images = random.uniform(0, 255, (16, 32, 32, 3)).astype("float32")
    (normalization,) = [each for each in trained.layers if isinstance(each, layers.Normalization)]
    normalization.adapt(images)
    randomize_deep(trained, random, images)
    trained.save_weights(tmp_path / "trained.weights.h5")
    model = keras.applications.EfficientNetB0(weights=tmp_path / "trained.weights.h5", **settings)
    assert_outputs(outputs_of(model, images), outputs_of(trained, images), 1e-6)
    assert np.std(outputs_of(model, images)[0], axis=0).max() > 1e-3, "the images make no difference"
    # Rounding of the weights alone changes the outputs by 2e-4; in float64 the folded copy differs by 2e-12.
    assert_change(change, model, images, tmp_path, tolerance=1e-3)


def randomize_deep(model, random, images):
    """As `randomize`, with statistics that fit, as a deep network has the same output for all images otherwise."""
    norms = [layer for layer in model.layers if isinstance(layer, KERAS_BATCH_NORM)]
    for weight in model.variables:
        if weight.name == "gamma":
            weight.assign(random.uniform(0.5, 1.5, weight.shape))
        elif weight.name in ("beta", "bias"):
            weight.assign(random.normal(0, 0.2, weight.shape))
    for norm in norms:
        norm.momentum = 0.0
    model(images, training=True)
    for norm in norms:
        norm.momentum = 0.99


def attention(x):
    return layers.MultiHeadAttention(2, 3, name="attention")(x, x)


def grouped_attention(x):
    return layers.GroupQueryAttention(4, 4, 2, name="attention")(x, x)


def squeeze_excite(x):
    return SqueezeExcite(name="squeeze_excite")(x)


@pytest.mark.slow
@pytest.mark.sample(4)
@pytest.mark.parametrize("block", [attention, grouped_attention, squeeze_excite])
def test_layers_that_make_layers_in_build(change, block, random, tmp_path):
    x = keras.Input((5, 6))
    y = KERAS_BATCH_NORM(name="norm")(layers.Dense(6, name="linear")(x))
    y = layers.LayerNormalization(name="last")(block(y) + y)
    model = randomize(keras.Model(x, layers.Dense(2)(y)), random)
    assert_change(change, model, random.normal(size=(3, 5, 6)).astype("float32"), tmp_path)


@pytest.mark.sample(1)
@pytest.mark.slow
@pytest.mark.parametrize("name", ["BertBackbone", "GPT2Backbone"])
def test_a_transformer_of_keras_hub(name, random, tmp_path):
    hub = pytest.importorskip("keras_hub", minversion="0.32")
    settings = {"vocabulary_size": 11, "num_layers": 2, "num_heads": 2, "hidden_dim": 8, "intermediate_dim": 12}
    model = randomize(getattr(hub.models, name)(max_sequence_length=5, **settings), random)
    x = {each.name: np.ones((2, 5), "int32") for each in model.inputs}
    x["token_ids"] = random.integers(0, 11, (2, 5)).astype("int32")
    found = kinds_inside(model)["LayerNormalization"]
    copy = assert_change("from_keras", model, x, tmp_path, imports=["keras_hub"])
    assert isinstance(copy, type(model))
    done = report(copy)
    assert len(done.of("converted")) + len(done.of("kept")) == found >= 4
    assert kinds_inside(copy)["LayerNorm"] == len(done.of("converted"))


@pytest.mark.slow
def test_a_layer_that_the_graph_and_a_wrapper_hold(change, random):
    """Keras itself cannot load such a model from a `.keras` file."""
    dense = layers.Dense(4, activation="tanh", name="linear")
    time = layers.TimeDistributed(dense, name="time")
    x = keras.Input((5, 4), name="rows")
    y = layers.Dense(3)(time(dense(x)))
    model = randomize(keras.Model(x, layers.Dense(2)(KERAS_BATCH_NORM()(y))), random)
    x = random.normal(size=(4, 5, 4)).astype("float32")
    copy = CHANGES[change](model)
    assert_copy(model, copy, x, folded=change == "fold")
    dense, time = copy.get_layer("linear"), copy.get_layer("time")
    assert time.layer is dense
    assert_both_move(copy, x, np.ones((4, 5, 2), "float32"), dense.kernel, time.layer.kernel)


@pytest.mark.slow
def test_a_decoder_tied_to_the_embedding(change, random, tmp_path):
    tokens = keras.Input((5,), dtype="int32", name="tokens")
    embedding = layers.Embedding(7, 4, name="table")
    y = KERAS_BATCH_NORM(name="norm")(layers.Dense(4)(embedding(tokens)))
    model = randomize(keras.Model(tokens, TiedDecoder(embedding, name="decoder")(y)), random)
    x = random.integers(0, 7, (4, 5)).astype("int32")
    copy = assert_change(change, model, x, tmp_path)
    embedding, decoder = copy.get_layer("table"), copy.get_layer("decoder")
    assert decoder.embedding is embedding
    y = np.ones((4, 5, 7), "float32")
    assert_both_move(copy, x, y, embedding.embeddings, decoder.embedding.embeddings)


def assert_both_move(model, x, y, one, other):
    """A step of training moves a weight that two layers hold, for both of them."""
    before = one.numpy()
    model.compile(keras.optimizers.SGD(0.1), "mse")
    model.train_on_batch(x, y)
    assert np.abs(one.numpy() - before).max() > 1e-4
    np.testing.assert_array_equal(one.numpy(), other.numpy())


def guide():
    x = keras.Input((4,), name="x")
    y = layers.Dense(2, name="out")(keras.ops.relu(KERAS_BATCH_NORM(name="norm")(layers.Dense(5, name="hidden")(x))))
    return GuideModel(x, y, name="guide")


def calibrated():
    return Calibrated(5, scale=2.0, name="calibrated")


def residual():
    row = [
        keras.Input((4,)),
        layers.Dense(4, name="linear"),
        KERAS_BATCH_NORM(name="norm"),
        layers.ReLU(),
        layers.Dense(4),
    ]
    return Residual(row, gain=0.5, name="residual")


@pytest.mark.slow
@pytest.mark.parametrize("build", [guide, calibrated, residual])
def test_a_subclass_keeps_its_class_and_its_own(change, build, random, tmp_path):
    model = randomize(build(), random)
    copy = assert_change(change, model, random.normal(size=(4, 4)).astype("float32"), tmp_path)
    assert isinstance(copy, type(model))
    for name in ("width", "scale", "gain"):
        assert getattr(copy, name, None) == getattr(model, name, None)


@pytest.mark.slow
@pytest.mark.sample(1)
@pytest.mark.parametrize("build", [guide, calibrated, residual])
def test_a_subclass_trains_alike(build, random):
    model = randomize(build(), random)
    x, y = random.normal(size=(12, 4)).astype("float32"), random.normal(size=(12, 2)).astype("float32")
    y = np.tile(y, (1, model.output_shape[-1] // 2))
    copy = surgery.from_keras(model)
    assert_converted(copy)
    assert_train_alike(model, copy, x, y)


def strings():
    lookup = layers.StringLookup(name="lookup")
    lookup.adapt(["red", "green", "green", "blue", "blue", "blue"])
    return lookup, np.array([["red", "blue"], ["green", "pink"], ["blue", "blue"]])


def integers():
    lookup = layers.IntegerLookup(name="lookup")
    lookup.adapt(np.array([7, 7, 7, 42, 42, 9]))
    return lookup, np.array([[7, 9], [42, 1], [9, 9]], "int64")


def text():
    lookup = layers.TextVectorization(output_sequence_length=3, name="lookup")
    lookup.adapt(["a cat", "a dog", "the cat sat"])
    return lookup, np.array([["the cat"], ["a bird"], ["dog sat"]])


@pytest.mark.slow
@pytest.mark.parametrize("make", [strings, integers, text])
def test_a_vocabulary(change, make, random, tmp_path):
    lookup, x = make()
    words = keras.Input(x.shape[1:], dtype="string" if x.dtype.kind == "U" else "int64", name="words")
    y = layers.Flatten()(layers.Embedding(8, 4, name="table")(lookup(words)))
    model = randomize(keras.Model(words, layers.Dense(2)(KERAS_BATCH_NORM()(layers.Dense(3)(y)))), random)
    copy = assert_change(change, model, x, tmp_path)
    assert copy.get_layer("lookup").get_vocabulary() == lookup.get_vocabulary()
    assert len(lookup.get_vocabulary()) >= 4


FACTOR = 1.7


def scaled_by_a_global(x):
    return x * FACTOR


def closure(factor):
    return lambda x: x * factor + FACTOR


LAMBDAS = {"global": scaled_by_a_global, "lambda": lambda x: keras.ops.tanh(x) * FACTOR, "closure": closure(0.3)}


@pytest.mark.parametrize("name", LAMBDAS)
def test_a_lambda_with_globals_or_a_closure(change, name, random):
    row = [layers.Dense(4), KERAS_BATCH_NORM(), layers.Lambda(LAMBDAS[name], name="function"), layers.Dense(2)]
    model = randomize(keras.Sequential([keras.Input((3,)), *row]), random)
    copy = CHANGES[change](model)
    assert_copy(model, copy, random.normal(size=(4, 3)).astype("float32"), folded=change == "fold")
    assert copy.get_layer("function").function is LAMBDAS[name]
