"""Frozen statistics stay where they are through `fit`; what is not frozen moves."""

import keras
import numpy as np
import pytest

from bn_keras import BatchNorm, DecorrelatedBatchNorm, LayerNorm, SyncBatchNorm
from bn_keras.surgery import exclude_from_weight_decay, freeze, from_keras, to_sync, unfreeze
from bn_keras.surgery.tree import layers_of
from tests.surgery.models import BUILDS, inputs_of, outputs_of, randomize

KERAS_BATCH_NORM = keras.layers.BatchNormalization
MOVING = ("moving_mean", "moving_variance", "moving_whitening")


def model_with(*norms):
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(4), *norms, keras.layers.Dense(2)])


def trained(model, random):
    """The weights that a few steps have moved, by name."""
    model.compile(keras.optimizers.SGD(0.1), "mse")
    before = model.get_weights()
    model.fit(random.normal(3, 1, (32, 4)), random.normal(size=(32, 2)), batch_size=8, epochs=2, verbose=0)
    moved = [bool((a != b).any()) for a, b in zip(before, model.get_weights(), strict=True)]
    return {weight.name: each for weight, each in zip(model.weights, moved, strict=True)}


@pytest.mark.slow
@pytest.mark.parametrize("norm", [BatchNorm, SyncBatchNorm, DecorrelatedBatchNorm])
def test_nothing_moves_but_the_scale_and_the_offset(norm, random):
    moved = trained(freeze(randomize(model_with(norm()), random)), random)
    assert moved == {name: name not in MOVING for name in moved}
    assert trained(model_with(norm()), random) == dict.fromkeys(moved, True), "statistics move if they are not frozen"


@pytest.mark.slow
@pytest.mark.parametrize("norm", [BatchNorm, DecorrelatedBatchNorm, KERAS_BATCH_NORM])
def test_on_request_nothing_moves(norm, random):
    moved = trained(freeze(model_with(norm()), scale_and_offset=True), random)
    assert moved == {name: name in ("kernel", "bias") for name in moved}


@pytest.mark.parametrize("frozen", [False, True])
def test_training_false_in_a_functional_model(frozen, random):
    """`fit` of Keras 3.15 and earlier overrules `base(x, training=False)`; the statistics of a frozen base stay."""
    base = randomize(keras.Sequential([keras.Input((4,)), keras.layers.Dense(4), BatchNorm()]), random)
    base = freeze(base, report=None) if frozen else base
    x = keras.Input((4,))
    moved = trained(keras.Model(x, keras.layers.Dense(2)(base(x, training=False))), random)
    if frozen:
        assert not any(moved[name] for name in MOVING if name in moved)
    elif tuple(map(int, keras.__version__.split(".")[:2])) <= (3, 15):
        assert moved["moving_mean"], "Keras was meant to overrule training=False"


def test_training_says_what_inference_says(random):
    model = freeze(randomize(model_with(BatchNorm()), random))
    x = inputs_of(model, random)
    np.testing.assert_array_equal(outputs_of(model, x, training=True), outputs_of(model, x))


@pytest.mark.slow
@pytest.mark.sample(3)
@pytest.mark.parametrize("build", BUILDS, ids=lambda build: build.__name__)
def test_there_and_back(build, random):
    model = randomize(build(BatchNorm), random)
    x, frozen = inputs_of(model, random), freeze(model, scale_and_offset=True)
    norms = [layer for layer in layers_of(frozen) if isinstance(layer, BatchNorm)]
    assert all(layer.frozen and not layer.trainable for layer in norms)
    back = unfreeze(frozen)
    back(x, training=True), model(x, training=True)
    for here, there in zip(back.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(here, there)


def test_it_goes_through_other_surgery():
    model = to_sync(freeze(model_with(BatchNorm())))
    assert model.layers[1].frozen


def test_a_layer_that_trains_within_one_that_does_not(random):
    """What is trainable in a copy is what was, whatever order it was said in."""
    base = model_with(BatchNorm(name="a"), BatchNorm(name="b"))
    base.trainable = False
    base.get_layer("b").trainable = True
    copy = to_sync(base)
    assert [(layer.name, layer.trainable) for layer in layers_of(copy)] == [
        (layer.name, layer.trainable) for layer in layers_of(base)
    ]


def test_a_compiled_model_is_warned_of():
    model = model_with(BatchNorm())
    model.compile("sgd", "mse")
    with pytest.warns(UserWarning, match="is compiled, the copy that `freeze` returns is not: compile the copy"):
        frozen = freeze(model)
    assert not frozen.compiled
    frozen.compile("sgd", "mse")
    with pytest.warns(UserWarning, match="the copy that `unfreeze` returns"):
        unfreeze(frozen)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: model_with(KERAS_BATCH_NORM(name="odd")), r"'odd' and 0 more are such.*freeze\(from_keras\(model\)\)"),
        (lambda: model_with(LayerNorm()), "has no batch norm"),
    ],
)
def test_what_cannot_be_frozen_is_said(model, message):
    with pytest.raises(ValueError, match=message):
        freeze(model())


@pytest.mark.slow
@pytest.mark.parametrize("biases", [False, True])
@pytest.mark.parametrize("convert", [from_keras, lambda model: model])
def test_weight_decay(biases, convert, random):
    """With gradients of 0 and momentum off, only what is decayed moves."""
    norms = [KERAS_BATCH_NORM(), keras.layers.LayerNormalization(), keras.layers.GroupNormalization(2)]
    model = convert(randomize(model_with(*norms), random))
    optimizer = exclude_from_weight_decay(keras.optimizers.AdamW(0.1, weight_decay=0.5), model, biases=biases)
    before = [weight.numpy() for weight in model.trainable_variables]
    optimizer.apply([np.zeros(weight.shape, "float32") for weight in before], model.trainable_variables)
    moved = {
        weight.name: bool((weight.numpy() != old).any())
        for weight, old in zip(model.trainable_variables, before, strict=True)
    }
    assert moved == {"kernel": True, "bias": not biases, "gamma": False, "beta": False}


def test_weight_decay_that_cannot_be():
    model, optimizer = model_with(BatchNorm()), keras.optimizers.AdamW(weight_decay=0.1)
    with pytest.raises(ValueError, match="Expected an optimizer with weight decay, such as AdamW"):
        exclude_from_weight_decay(keras.optimizers.SGD(), model)
    with pytest.raises(ValueError, match="has no scale or offset"):
        exclude_from_weight_decay(optimizer, model_with())
    optimizer.build(model.trainable_variables)
    with pytest.raises(ValueError, match="is built, and has made its list"):
        exclude_from_weight_decay(optimizer, model)
