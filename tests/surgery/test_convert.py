"""Conversion there and back keeps weights, names, what is trainable, dtypes and outputs, for every build of model."""

import re

import keras
import numpy as np
import pytest

from bn_keras import (
    BatchNorm,
    DecorrelatedBatchNorm,
    DomainBatchNorm,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    RMSNorm,
    SyncBatchNorm,
)
from bn_keras.surgery import from_keras, replace, report, to_keras, to_local, to_sync
from bn_keras.surgery.rewrite import rewrite
from bn_keras.surgery.tree import layers_of
from tests.surgery.models import (
    BUILDS,
    Trained,
    first_axis,
    functional,
    inputs_of,
    mixed,
    outputs_of,
    own_class,
    randomize,
    sequential,
    shared,
    subclassed,
    wrapped,
)

KERAS_BATCH_NORM = keras.layers.BatchNormalization


def named(function):
    return function.__name__


def norms(model):
    return [layer for layer in layers_of(model) if isinstance(layer, (KERAS_BATCH_NORM, BatchNorm))]


def account(model):
    """All that a conversion has to keep."""
    weights = [(weight.path, weight.trainable, weight.dtype, weight.numpy().tobytes()) for weight in model.weights]
    layers = [(layer.name, layer.trainable, layer.dtype_policy.name) for layer in layers_of(model)]
    return model.name, layers, weights


@pytest.fixture(params=BUILDS, ids=named)
def build(request):
    return request.param


def test_from_keras_and_back(build, random):
    model = randomize(build(KERAS_BATCH_NORM), random)
    norms(model)[0].trainable = False
    x, before, nodes = inputs_of(model, random), account(model), calls(model)
    ours = from_keras(model)
    back = to_keras(ours)
    assert account(ours) == account(back) == account(model) == before
    assert calls(model) == nodes, "the given model was called"
    assert {type(layer) for layer in norms(ours)} == {BatchNorm}
    assert {type(layer) for layer in norms(back)} == {KERAS_BATCH_NORM}
    assert not set(map(id, ours.weights)) & set(map(id, model.weights))
    assert isinstance(ours, type(model))
    assert isinstance(back, type(model))
    for there, here in zip(outputs_of(model, x), outputs_of(ours, x), strict=True):
        np.testing.assert_allclose(here, there, rtol=0, atol=1e-2 if "mixed" in model.name else 1e-5)


def calls(model):
    """How often each layer of a model has been called to build one, as far as it says."""
    return [layer.output is not None for layer in layers_of(model)[1:] if hasattr(layer, "output")]


def test_a_copy_without_changes(build, random):
    model = randomize(build(BatchNorm), random)
    (name, layers, weights), (its_name, its_layers, its_weights) = map(account, (model, rewrite(model, {})[0]))
    assert (its_name, its_layers) == (name, layers)
    # Without paths: Keras builds what is within a wrapper as soon as it reads its config.
    assert [each[1:] for each in its_weights] == [each[1:] for each in weights]


def test_to_sync_and_back_is_bit_equal(build, random):
    model = randomize(build(BatchNorm), random)
    x, before = inputs_of(model, random), account(model)
    sync = to_sync(model)
    local = to_local(sync)
    assert account(sync) == account(local) == account(model) == before
    assert {type(layer) for layer in norms(sync)} == {SyncBatchNorm}
    assert {type(layer) for layer in norms(local)} == {BatchNorm}
    assert not any(layer.synchronized for layer in norms(local))
    for each in (sync, local):
        for there, here in zip(outputs_of(model, x), outputs_of(each, x), strict=True):
            np.testing.assert_array_equal(here, there)


@pytest.mark.slow
def test_training_goes_on_alike(build, random):
    """The copy is whole: its steps are those of the given model."""
    model = randomize(build(BatchNorm), random)
    copy, x = to_sync(model), inputs_of(model, random)
    for each in (model, copy):
        each(x, training=True)
    assert account(copy) == account(model)


@pytest.mark.slow
def test_other_normalizations(random):
    theirs = [
        keras.layers.LayerNormalization(axis=[1, 2], name="layer"),
        keras.layers.GroupNormalization(groups=2, name="group"),
        keras.layers.GroupNormalization(groups=-1, name="instance"),
    ]
    ours = [LayerNorm, GroupNorm, GroupNorm]
    if hasattr(keras.layers, "RMSNormalization"):
        theirs.append(keras.layers.RMSNormalization(name="rms"))
        ours.append(RMSNorm)
    model = randomize(keras.Sequential([keras.Input((5, 4)), *theirs]), random)
    x, new = inputs_of(model, random), from_keras(model)
    assert [type(layer) for layer in new.layers] == ours
    assert account(new) == account(to_keras(new)) == account(model)
    np.testing.assert_allclose(outputs_of(new, x), outputs_of(model, x), rtol=0, atol=1e-5)
    assert to_keras(keras.Sequential([keras.Input((4,)), InstanceNorm()])).layers[0].groups == 4


def test_keras_averages_the_biased_variance(random):
    model = from_keras(functional(KERAS_BATCH_NORM))
    assert not any(layer.unbiased for layer in norms(model))


@pytest.mark.slow
@pytest.mark.parametrize("build", [functional, sequential, subclassed], ids=named)
def test_a_compiled_model_gives_one_that_is_not(build, random):
    model = randomize(build(KERAS_BATCH_NORM), random)
    model.compile("adam", "mse", metrics=["mae"])
    x = inputs_of(model, random)
    model.evaluate(x, outputs_of(model, x)[0], verbose=0)
    before, copy = account(model), from_keras(model)
    assert not copy.compiled
    assert account(copy) == account(model) == before


def test_single_weights_that_are_not_trained():
    model = sequential(KERAS_BATCH_NORM)
    model.layers[0].kernel.trainable = False
    model.layers[1].gamma.trainable = False
    assert account(from_keras(model)) == account(model)


class Bare(keras.layers.Layer):
    def call(self, x):
        return x

    def get_config(self):
        return {}


def test_a_lambda(random):
    model = keras.Sequential([keras.Input((3,)), KERAS_BATCH_NORM(), keras.layers.Lambda(lambda x: 2 * x)])
    x = inputs_of(model, random)
    np.testing.assert_allclose(outputs_of(from_keras(model), x), outputs_of(model, x), rtol=0, atol=1e-5)


def test_a_name_that_is_not_in_the_config():
    assert from_keras(in_a_model(Bare(name="mine"))).layers[0].name == "mine"


def test_the_class_of_a_functional_model_is_kept():
    new = from_keras(own_class(KERAS_BATCH_NORM))
    assert type(new) is Trained
    new.compile("sgd", "mse")
    assert new.fit(np.ones((4, 3)), np.ones((4, 3)), verbose=0).history == {"seven": [7.0]}


@pytest.mark.parametrize("build", [functional, sequential, shared, wrapped, first_axis, mixed], ids=named)
def test_a_copy_can_be_saved(tmp_path, build, random):
    model = randomize(from_keras(build(KERAS_BATCH_NORM)), random)
    model.save(tmp_path / "model.keras")
    x, loaded = inputs_of(model, random), keras.saving.load_model(tmp_path / "model.keras")
    for there, here in zip(outputs_of(model, x), outputs_of(loaded, x), strict=True):
        np.testing.assert_array_equal(here, there)


class Strange(KERAS_BATCH_NORM):
    pass


class MadeLate(keras.layers.Layer):
    def build(self, input_shape):
        self.norm = KERAS_BATCH_NORM(name="late")
        self.norm.build(input_shape)

    def call(self, x):
        return self.norm(x)


class NoConfig(keras.Model):
    def __init__(self, function):
        super().__init__()
        self.norm = KERAS_BATCH_NORM()

    def call(self, x):
        return self.norm(x)


def in_a_model(layer):
    return keras.Sequential([keras.Input((3,)), layer])


def no_config():
    model = NoConfig(print)
    model.get_config = lambda: (_ for _ in ()).throw(NotImplementedError("`function` cannot be saved"))
    model(np.zeros((2, 3)))
    return model


@pytest.mark.parametrize(
    ("function", "model", "message"),
    [
        (
            from_keras,
            no_config,
            r"cannot make the layer 'no_config' \(NoConfig\) again from its config.*\n.*get_config",
        ),
        (from_keras, lambda: keras.Sequential([KERAS_BATCH_NORM()]), "has no weights yet. Build it first"),
        (
            to_sync,
            lambda: in_a_model(KERAS_BATCH_NORM(name="odd")),
            r"'odd' and 0 more are Keras'.*from_keras\(model\) first",
        ),
        (
            lambda model: replace(model, {LayerNorm: GroupNorm}),
            lambda: sequential(KERAS_BATCH_NORM),
            "has no layer of class Lay",
        ),
    ],
)
def test_what_cannot_be_done_is_said(function, model, message):
    model = model()
    with pytest.raises(ValueError, match=message):
        function(model)


@pytest.mark.parametrize("function", [from_keras, to_keras, to_sync, to_local, lambda model: replace(model, {})])
def test_what_is_no_model_is_refused(function):
    with pytest.raises(TypeError, match="Expected a Keras model. Received: 3"):
        function(3)


@pytest.mark.parametrize(
    ("function", "layer", "why"),
    [
        (from_keras, Strange(name="odd"), "its class derives from a normalization and may mean something else"),
        (to_keras, type("Mine", (BatchNorm,), {})(name="odd"), "its class derives from a normalization"),
        (to_sync, BatchNorm(virtual_batch_size=4, name="odd"), "cannot be combined"),
        (to_sync, DecorrelatedBatchNorm(name="odd"), "whitens by the batch of each replica"),
        (to_keras, BatchNorm(momentum=None, name="odd"), "momentum=None"),
        (to_keras, BatchNorm(activation="relu", name="odd"), "activation='relu'"),
        (to_keras, BatchNorm(axis=[1], name="odd"), r"axis=\[1\]"),
        (to_keras, DecorrelatedBatchNorm(name="odd"), "no counterpart"),
    ],
)
def test_what_is_left_as_it_is_is_reported(function, layer, why, random):
    other = BatchNorm if function is to_sync else KERAS_BATCH_NORM
    model = randomize(keras.Sequential([keras.Input((3,)), other(name="other"), layer]), random)
    x, new = inputs_of(model, random), function(model, report=None)
    (row,) = report(new).of("kept")
    assert (row.layer, row.kind) == ("odd", type(layer).__name__)
    assert re.search(why, row.why)
    assert type(new.layers[1]) is type(layer)
    np.testing.assert_allclose(outputs_of(new, x), outputs_of(model, x), rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match=rf"`{function.__name__}` leaves 1 layers as they are.*'odd'.*{why}"):
        function(model, strict=True)


def test_a_layer_that_build_makes(random):
    model = randomize(in_a_model(MadeLate(name="block")), random)
    x, new = inputs_of(model, random), from_keras(model, report=None)
    assert [type(layer) for layer in norms(new)] == [BatchNorm]
    np.testing.assert_allclose(outputs_of(new, x), outputs_of(model, x), rtol=0, atol=1e-5)
    assert type(to_keras(new, report=None).layers[0]) is MadeLate


@pytest.mark.parametrize(
    ("model", "kinds"), [("model.keras", {}), (BatchNorm(), {}), (None, {BatchNorm: 3}), (None, {"norm": GroupNorm})]
)
def test_wrong_types(model, kinds):
    with pytest.raises(TypeError, match="Expected"):
        replace(model or in_a_model(BatchNorm()), kinds)


def test_replace_by_a_class(random):
    model = randomize(functional(BatchNorm), random)
    new = replace(model, {BatchNorm: LayerNorm})
    first, old = new.get_layer("first"), model.get_layer("first")
    assert type(first) is LayerNorm
    assert first.epsilon == old.epsilon
    np.testing.assert_array_equal(first.gamma, old.gamma)
    np.testing.assert_array_equal(first.beta, old.beta)
    np.testing.assert_array_equal(new.get_layer("conv").kernel, model.get_layer("conv").kernel)


@pytest.mark.sample(5)
def test_replace_by_a_function(build, random):
    """Also by nothing, and with the values of weights that fit."""
    model = build(KERAS_BATCH_NORM)
    norms(model)[0].trainable = False
    new = replace(
        model, {KERAS_BATCH_NORM: lambda old: GroupNorm(groups=-1, axis=old.axis, scale=old.scale, center=old.center)}
    )
    groups = [layer for layer in layers_of(new) if type(layer) is GroupNorm]
    described = [(layer.name, layer.dtype_policy.name, layer.trainable) for layer in groups]
    assert described == [(layer.name, layer.dtype_policy.name, layer.trainable) for layer in norms(model)]
    assert not norms(new)
    bare = replace(model, {KERAS_BATCH_NORM: keras.layers.Identity})
    assert not any("moving" in weight.path for weight in bare.weights)


def test_domains_are_synchronized_as_batch_norm_is(random):
    inputs = keras.Input((3,))
    model = keras.Model(inputs, DomainBatchNorm(2, name="norm")(inputs, domain=1))
    sync = to_sync(randomize(model, random), report=None)
    assert sync.get_layer("norm").synchronized
    (row,) = report(sync).rows
    assert (row.layer, row.outcome, row.why) == ("norm", "converted", "to DomainBatchNorm(synchronized=True)")
    assert not report(to_sync(sync, report=None)).rows
    local = to_local(sync, report=None)
    assert not local.get_layer("norm").synchronized
    assert report(local).rows[0].why == "to DomainBatchNorm(synchronized=False)"


def test_a_replacement_keeps_the_activity_regularizer():
    model = keras.Sequential([keras.Input((6,)), BatchNorm(activity_regularizer="l2", name="norm")])
    new = replace(model, {BatchNorm: LayerNorm}, report=None).get_layer("norm")
    assert new.activity_regularizer.get_config() == model.get_layer("norm").activity_regularizer.get_config()
