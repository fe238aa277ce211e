"""Batch norms in blocks and subclassed models: surgery reaches them, goes on from the last one, and is saved."""

import itertools

import keras
import numpy as np
import pytest

from bn_keras import BatchNorm, surgery
from bn_keras.surgery.reports import report
from tests.surgery.everyday import (
    BATCH_NORM_OF,
    CHANGES,
    KERAS_BATCH_NORM,
    ConvBlock,
    Hidden,
    Lists,
    Tower,
    Unconfigured,
    UnconfiguredModel,
    assert_copy,
    assert_outputs,
    assert_saved,
    kinds_inside,
    layers_inside,
    outputs_of,
    randomize,
    statistics_of,
    statistics_stay,
)

layers = keras.layers


def blocks(norm):
    """A convolutional network of custom blocks, one of them inside a Sequential model."""
    x = keras.Input((6, 6, 3), name="image")
    y = ConvBlock(4, norm, name="block_1")(layers.Conv2D(4, 1, name="stem")(x))
    inner = keras.Sequential([keras.Input((6, 6, 4)), ConvBlock(4, norm, name="block_2")], name="inner")
    y = layers.GlobalAveragePooling2D()(inner(y))
    return keras.Model(x, layers.Dense(2, name="out")(y), name="blocks")


def norms_inside(model):
    return [layer for layer in layers_inside(model) if isinstance(layer, (KERAS_BATCH_NORM, BatchNorm))]


@pytest.mark.slow
@pytest.mark.parametrize("order", itertools.permutations(CHANGES), ids="-".join)
def test_surgery_after_surgery(order, random, tmp_path):
    model = randomize(blocks("theirs"), random)
    x = random.normal(size=(4, 6, 6, 3)).astype("float32")
    expected, done = outputs_of(model, x), []
    for name in order:
        if name == "freeze" and not norms_inside(model):
            continue  # all are folded
        model = CHANGES[name](model)
        done.append(name)
        assert_outputs(outputs_of(model, x), expected)
        if "from_keras" in done:
            assert not kinds_inside(model)["BatchNormalization"]
        if "freeze" in done:
            assert not [norm.name for norm in norms_inside(model) if norm.trainable]
            if statistics_of(model):
                assert statistics_stay(model, x)
    assert_saved(model, x, tmp_path)


@pytest.mark.sample(1)
@pytest.mark.slow
@pytest.mark.parametrize("norm", ["theirs", "ours"])
def test_frozen_statistics_outlive_other_surgery_and_a_file(norm, random, tmp_path):
    """γ and β of frozen batch norms go on training, their statistics do not."""
    model = randomize(blocks(norm), random)
    x = random.normal(size=(4, 6, 6, 3)).astype("float32")
    expected = outputs_of(model, x)
    frozen = surgery.freeze(surgery.from_keras(model))
    path = tmp_path / "frozen.keras"
    others = {
        "from_keras": surgery.from_keras,
        "to_sync": surgery.to_sync,
        "to_local": lambda model: surgery.to_local(surgery.to_sync(model)),
        "replace": lambda model: surgery.replace(model, {layers.GlobalAveragePooling2D: layers.GlobalAveragePooling2D}),
    }
    for name, other in others.items():
        copy = other(frozen)
        copy.save(path)
        for each in (copy, keras.saving.load_model(path)):
            assert_outputs(outputs_of(each, x), expected)
            assert [getattr(norm, "frozen", None) for norm in norms_inside(each)] == [True] * 4, name
            assert [norm.trainable for norm in norms_inside(each)] == [True] * 4, name
            assert statistics_stay(each, x)


def tower(norm):
    model = Tower(2, norm, name="tower")
    model(np.zeros((1, 4), "float32"))
    return model


def lists(norm):
    x = keras.Input((4,))
    return keras.Model(x, layers.Dense(2)(keras.ops.relu(Lists(norm, name="lists")(x))), name="with_lists")


@pytest.mark.slow
@pytest.mark.parametrize("build", [tower, lists])
@pytest.mark.parametrize("change", CHANGES)
def test_lists_and_dicts_are_changed_and_saved(build, change, random, tmp_path):
    model = randomize(build("ours" if change == "freeze" else "theirs"), random)
    x = random.normal(size=(5, 4)).astype("float32")
    copy = surgery.freeze(model) if change == "freeze" else CHANGES[change](model)
    assert isinstance(copy, type(model))
    assert_copy(model, copy, x, folded=change == "fold")
    if change == "from_keras":
        assert kinds_inside(copy)["BatchNorm"] == 3
        assert not kinds_inside(copy)["BatchNormalization"]
    assert_saved(copy, x, tmp_path)
    if change == "freeze":
        assert statistics_stay(copy, x)
        assert statistics_stay(keras.saving.load_model(tmp_path / f"{copy.name}.keras"), x)


@pytest.mark.slow
@pytest.mark.parametrize("build", [tower, lists])
def test_lists_and_dicts_of_a_loaded_model_are_changed_again(build, random, tmp_path):
    model = randomize(build("theirs"), random)
    x = random.normal(size=(5, 4)).astype("float32")
    surgery.from_keras(model).save(tmp_path / "first.keras")
    frozen = surgery.freeze(keras.saving.load_model(tmp_path / "first.keras"))
    assert_outputs(outputs_of(frozen, x), outputs_of(model, x))
    assert statistics_stay(frozen, x)
    assert_saved(frozen, x, tmp_path)


def with_hidden(attribute, norm, outside):
    x = keras.Input((4,))
    y = layers.Dense(2)(keras.ops.tanh(Hidden(attribute, norm, name="hidden")(layers.Dense(4)(x))))
    return keras.Model(x, BATCH_NORM_OF[norm](name="outside")(y) if outside else y, name="odd_names")


@pytest.mark.slow
@pytest.mark.sample(3)
@pytest.mark.parametrize("attribute", ["_layers_x", "_functional_x", "_self_x", "in_a_set"])
@pytest.mark.parametrize("outside", [False, True], ids=["alone", "and_one_outside"])
def test_attributes_of_any_name_are_converted(attribute, outside, random, tmp_path):
    model = randomize(with_hidden(attribute, "theirs", outside), random)
    x = random.normal(size=(6, 4)).astype("float32")
    copy = surgery.from_keras(model)
    assert_copy(model, copy, x)
    if kinds_inside(copy)["BatchNorm"] < 1 + outside:
        assert attribute == "in_a_set"
        assert [row.layer for row in report(copy).of("kept")] == ["hidden_norm"]
    assert_saved(copy, x, tmp_path)
    assert_outputs(outputs_of(surgery.fold(copy), x), outputs_of(model, x))


@pytest.mark.slow
@pytest.mark.parametrize("attribute", ["_layers_x", "_functional_x", "_self_x", "in_a_set"])
@pytest.mark.parametrize("outside", [False, True], ids=["alone", "and_one_outside"])
def test_attributes_of_any_name_are_frozen(attribute, outside, random, tmp_path):
    model = randomize(with_hidden(attribute, "ours", outside), random)
    x = random.normal(size=(6, 4)).astype("float32")
    frozen = surgery.freeze(model)
    assert_copy(model, frozen, x)
    assert_saved(frozen, x, tmp_path)
    if not statistics_stay(frozen, x):
        assert attribute == "in_a_set"
        assert [row.layer for row in report(frozen).of("kept")] == ["hidden_norm"]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", [Unconfigured, UnconfiguredModel], ids=["layer", "model"])
def test_a_part_without_a_config_is_refused_by_name(kind, change):
    x = keras.Input((3,))
    y = KERAS_BATCH_NORM()(layers.Dense(3)(x))
    model = keras.Model(x, kind(lambda: KERAS_BATCH_NORM(name="norm"), name="odd")(y))
    with pytest.raises(ValueError, match="(?s)odd.*Unconfigured.*get_config"):
        CHANGES[change](model)


class OwnNorm(KERAS_BATCH_NORM):
    """A class whose meaning nobody knows."""

    def call(self, inputs, training=None, mask=None):
        return super().call(inputs, training=training, mask=mask) * 2


def test_one_unreachable_norm_does_not_block_the_others(random):
    x = keras.Input((4,))
    y = keras.ops.relu(KERAS_BATCH_NORM(name="known")(layers.Dense(3)(x)))
    model = randomize(keras.Model(x, layers.Dense(2)(OwnNorm(name="own")(layers.Dense(3)(y)))), random)
    x = random.normal(size=(5, 4)).astype("float32")
    for change, outcome in (("from_keras", "converted"), ("fold", "folded")):
        copy = CHANGES[change](model)
        assert_outputs(outputs_of(copy, x), outputs_of(model, x))
        assert kinds_inside(copy)["OwnNorm"] == 1
        assert [row.layer for row in report(copy).of("kept")] == ["own"]
        assert [row.layer for row in report(copy).of(outcome)] == ["known"]
        with pytest.raises(ValueError, match="own"):
            getattr(surgery, change)(model, strict=True)
