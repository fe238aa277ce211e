"""The transformer: its parameters, causality, gates and errors."""

import functools

import keras
import numpy as np
import pytest

from bn_keras import LayerNorm
from bn_keras.models import build
from bn_keras.models.blocks import Gate
from bn_keras.models.norms import KINDS

LEAKING = ["instance", "group"]
CAUSAL = [norm for norm in (None, *KINDS) if norm not in LEAKING]


def small(**options):
    return build("transformer_small", input_shape=(8,), **({"depth": 2, "units": 32, "classes": 11} | options))


def parameters(length, classes, depth, units, norms_of_a_block):
    attention = 4 * units**2 + 4 * units
    dense = 8 * units**2 + 5 * units
    embeddings = (classes + length) * units
    return embeddings + depth * (attention + dense + norms_of_a_block) + units * classes + classes


@pytest.mark.slow
def test_the_parameters_are_those_of_its_layers():
    model = build("transformer_small", norm="layer")
    assert model.count_params() == parameters(64, 65, 4, 128, 2 * 2 * 128) + 2 * 128
    after = build("transformer_small", norm="layer", norm_first=False)
    assert after.count_params() == parameters(64, 65, 4, 128, 2 * 2 * 128)
    gates = 2
    assert build("transformer_small", norm=None).count_params() == parameters(64, 65, 4, 128, gates)
    assert small(norm="rms", width=0.5).count_params() == parameters(8, 11, 2, 16, 2 * 16) + 16


@pytest.mark.slow
def test_a_text_gives_logits_at_every_position():
    assert build("transformer_small").output.shape == (None, 64, 65)
    assert small()(np.zeros((3, 8), "int32")).shape == (3, 8, 11)


def wake(model, random):
    """Gives every gate and moving statistic a value of its own."""
    for weight in model.weights:
        if weight.name == "gate":
            weight.assign(0.7)
        elif weight.name.startswith("moving"):
            weight.assign(weight + 0.1 * random.uniform(size=weight.shape))


@pytest.mark.slow
@pytest.mark.sample(3)
@pytest.mark.parametrize("norm", CAUSAL)
@pytest.mark.parametrize("norm_first", [True, False])
def test_a_token_changes_no_logits_before_it(norm, norm_first, random):
    model = small(norm=norm, norm_first=norm_first)
    wake(model, random)
    tokens = random.integers(11, size=(2, 8))
    logits = model(tokens).numpy()
    for position in (1, 5):
        changed = tokens.copy()
        changed[:, position] = (changed[:, position] + 1) % 11
        found = model(changed).numpy()
        np.testing.assert_array_equal(found[:, :position], logits[:, :position])
        assert np.abs(found[:, position:] - logits[:, position:]).max(axis=(0, 2)).min() > 1e-5


@pytest.mark.parametrize(
    "norm",
    [*LEAKING, ("group", {"groups": 1}), functools.partial(LayerNorm, axis=(1, 2)), keras.layers.GroupNormalization],
)
def test_a_norm_over_the_positions_is_refused(norm):
    with pytest.raises(ValueError, match="'transformer_small': .* normalizes over the positions.*Use norm='layer'"):
        build("transformer_small", norm=norm)


@pytest.mark.slow
def test_without_norm_each_branch_has_a_gate_and_the_network_starts_without_them(random):
    model = small(norm=None)
    assert sum(isinstance(layer, Gate) for layer in model.layers) == 4
    tokens = random.integers(11, size=(2, 8))
    embedded = model.get_layer("position_embedding")(model.get_layer("token_embedding")(tokens))
    np.testing.assert_array_equal(model.get_layer("logits")(embedded), model(tokens))
    assert not any(isinstance(layer, Gate) for layer in small().layers)


def test_equal_tokens_at_two_positions_have_logits_of_their_own():
    logits = small(norm=None)(np.zeros((1, 8), "int32")).numpy()[0]
    assert len(np.unique(logits[:, 0])) == 8


@pytest.mark.sample(1)
@pytest.mark.slow
@pytest.mark.parametrize("norm", [None, "layer", "batch"])
def test_a_few_steps_lower_the_loss(norm, random):
    model = small(norm=norm, dropout=0.1, depth=1)
    tokens = np.tile(random.permutation(11)[:9], (16, 1))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss)
    losses = model.fit(tokens[:, :-1], tokens[:, 1:], batch_size=16, epochs=15, verbose=0).history["loss"]
    assert losses[-1] < 0.7 * losses[0]
    assert all(abs(float(layer.gate)) > 0 for layer in model.layers if isinstance(layer, Gate))


@pytest.mark.slow
@pytest.mark.parametrize("norm", [None, "layer"])
def test_a_saved_network_gives_the_same_logits(norm, tmp_path, random):
    model = small(norm=norm)
    wake(model, random)
    tokens = random.integers(11, size=(2, 8))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(tokens), model(tokens), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"depth": 0}, ValueError, "`depth` must be an int ≥ 1. Received: depth=0"),
        ({"heads": 5}, ValueError, "`heads` must divide the size of the embeddings, 128. Received: heads=5"),
        ({"units": 2.5}, ValueError, "`units` must be an int"),
        ({"dropout": 1}, ValueError, r"`dropout` must be a number in \[0, 1\). Received: dropout=1"),
        ({"norm_first": 1}, TypeError, "`norm_first` must be True or False. Received: norm_first=1"),
        ({"preprocessing": keras.layers.Rescaling(1.0)}, ValueError, "takes tokens, and `preprocessing` is for images"),
        ({"input_shape": (8, 8, 3)}, ValueError, r"`input_shape` must be one int ≥ 1, \(length,\)"),
    ],
)
def test_wrong_arguments(arguments, error, words):
    with pytest.raises(error, match=words):
        build("transformer_small", **arguments)
