"""The weights in the wheel: as accurate as their cards say, and refused when damaged or asked for otherwise."""

import os
import pathlib
import shutil

import keras
import numpy as np
import pytest

from bn_keras.experiments import TrainingRecipe, load, training_recipe
from bn_keras.experiments.ship import LICENSES, SHIPPED, command_of, ship
from bn_keras.models import build, weights
from bn_keras.models.norms import named_and_options
from bn_keras.models.weights import cards, sha256, stem

CARDS = cards()


def built(card, **changes):
    return build(card.preset, weights=card.data, norm=card.norm, **changes)


def identity(card):
    return stem(card.preset, card.data, card.norm)


def test_every_recipe_has_its_weights_and_every_file_its_recipe():
    named = {stem(recipe.preset, recipe.data, named_and_options(recipe.norm)[0]): recipe for recipe in SHIPPED}
    assert {identity(card) for card in CARDS} == set(named)
    for card in CARDS:
        recipe = named[identity(card)]
        assert TrainingRecipe.from_dict(card.recipe) == recipe, "fields that came later have their defaults"
        assert card.command == command_of(recipe)
        assert card.license == LICENSES[card.data]
    assert {path.name for path in weights.FOLDER.iterdir()} == {
        f"{identity(card)}{suffix}" for card in CARDS for suffix in (".json", ".weights.h5")
    }


def test_all_weights_together_take_a_few_megabytes():
    assert sum(card.bytes for card in CARDS) < 8e6
    for card in CARDS:
        assert card.file.stat().st_size == card.bytes


@pytest.mark.slow
@pytest.mark.sample(2)
@pytest.mark.parametrize("card", CARDS, ids=identity)
def test_weights_are_as_accurate_on_the_test_set_as_their_card_says(card):
    data = data_of(card.data)
    assert data.test.examples == card.test_examples
    model = built(card)
    guesses = model.predict(data.test.inputs, batch_size=500, verbose=0).argmax(-1)
    assert np.mean(guesses == data.test.labels) == pytest.approx(card.accuracy, abs=1.5 / card.test_examples)
    assert model.count_params() == card.parameters


def data_of(name):
    if name == "digits":
        return load(name)
    import tensorflow_datasets as tfds

    directory = pathlib.Path(os.environ.get("TFDS_DATA_DIR", tfds.core.constants.DATA_DIR)).expanduser()
    if not list(directory.glob(f"{name}/**/dataset_info.json")):
        pytest.skip(f"{name} is not prepared in {directory}; set TFDS_DATA_DIR to a directory that has it")
    return load(name, directory)


def test_inception_on_mnist_reaches_99_5_percent():
    (card,) = [card for card in CARDS if (card.preset, card.data) == ("inception_small", "mnist")]
    assert card.accuracy >= 0.995


@pytest.mark.slow
def test_the_model_takes_raw_images_unless_asked_otherwise():
    card = CARDS[0]
    assert any(isinstance(layer, keras.layers.Rescaling) for layer in built(card).layers)
    without = built(card, preprocessing=False)
    assert not any(isinstance(layer, keras.layers.Rescaling) for layer in without.layers)
    images = np.random.default_rng(0).integers(0, 17, (4, *card.input_shape)).astype("float32")
    np.testing.assert_allclose(without(card.preprocessing()(images)), built(card)(images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"width": 0.5}, "have width=.*Drop the argument `width`"),
        ({"classes": 7}, "have classes=10"),
        ({"input_shape": (9, 9, 1)}, "have input_shape="),
        ({"weights": "fashion"}, "`weights` must be one that 'mlp_sigmoid' has: weights='digits' with norm='batch'"),
        ({"norm": "layer"}, "with norm='batch'.*Received: weights='digits', norm='layer'"),
    ],
)
def test_weights_that_do_not_fit_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        build("mlp_sigmoid", **{"weights": "digits", **changes})


def test_options_that_change_the_network_but_no_weights_are_refused():
    with pytest.raises(ValueError, match="have skips=True. Received: skips=False"):
        build("resnet20", weights="digits", skips=False)


@pytest.mark.slow
def test_the_width_of_the_weights_may_be_named():
    card = next(card for card in CARDS if card.width != 1)
    assert built(card, width=card.width).count_params() == card.parameters


@pytest.mark.parametrize("damage", ["a flipped byte", "missing"])
def test_a_damaged_file_is_refused_by_its_hash(tmp_path, monkeypatch, damage):
    card = next(card for card in CARDS if card.data == "digits")
    shutil.copytree(weights.FOLDER, tmp_path / "shipped")
    monkeypatch.setattr(weights, "FOLDER", tmp_path / "shipped")
    if damage == "missing":
        card.file.unlink()
    else:
        content = bytearray(card.file.read_bytes())
        content[len(content) // 2] ^= 1
        card.file.write_bytes(content)
    words = "are not in this installation" if damage == "missing" else f"are damaged.*{card.sha256} was expected"
    with pytest.raises(ValueError, match=words):
        built(card)


@pytest.mark.slow
def test_shipping_trains_and_writes_weights_that_load(tmp_path, monkeypatch):

    recipe = training_recipe("mlp_relu_deep", "digits", steps=20, evaluate_every=10, options={"depth": 2, "units": 8})
    card = ship(recipe, tmp_path / "run", tmp_path / "shipped")
    assert sha256(tmp_path / "shipped" / "mlp_relu_deep-digits-batch.weights.h5") == card.sha256
    monkeypatch.setattr(weights, "FOLDER", tmp_path / "shipped")
    cards.cache_clear()
    try:
        model = build("mlp_relu_deep", weights="digits")
        trained = keras.saving.load_model(tmp_path / "run" / "model.keras")
        for ours, theirs in zip(model.get_weights(), trained.get_weights(), strict=True):
            np.testing.assert_array_equal(ours, theirs)
        with pytest.raises(ValueError, match="have depth=2"):
            build("mlp_relu_deep", weights="digits", depth=3)
    finally:
        cards.cache_clear()
