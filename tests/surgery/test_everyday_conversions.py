"""Conversions keep every argument that both layers have, and the order of axes."""

import keras
import numpy as np
import pytest

from bn_keras import BatchNorm, InstanceNorm, SyncBatchNorm, surgery
from tests.surgery.everyday import (
    KERAS_BATCH_NORM,
    assert_copy,
    assert_outputs,
    assert_saved,
    outputs_of,
    randomize,
)

layers = keras.layers
SETTINGS = {"axis": 1, "momentum": 0.7, "epsilon": 0.02}
ARGUMENTS = {
    "positions": {"center": False},
    "regularizers": {"beta_regularizer": "l2", "gamma_constraint": "non_neg"},
}


@pytest.mark.slow
@pytest.mark.parametrize("old", [BatchNorm, KERAS_BATCH_NORM], ids=["ours", "theirs"])
@pytest.mark.parametrize("more", ARGUMENTS.values(), ids=ARGUMENTS)
def test_a_batch_norm_replaced_by_a_synchronized_one_keeps_its_arguments(old, more, random, tmp_path):
    x = keras.Input((4, 3))
    norm = old(**SETTINGS, **more, name="norm")
    model = randomize(keras.Model(x, layers.Dense(2)(norm(x))), random)
    copy = surgery.replace(model, {old: SyncBatchNorm})
    new = copy.get_layer("norm")
    assert type(new) is SyncBatchNorm
    assert new.synchronized is True
    assert {name: getattr(new, name) for name in SETTINGS} == SETTINGS
    old_config, config = norm.get_config(), new.get_config()
    for name in ("center", "scale", "beta_regularizer", "gamma_constraint"):
        assert config[name] == old_config[name]
    x = random.normal(size=(5, 4, 3)).astype("float32")
    assert_copy(model, copy, x)
    assert_saved(copy, x, tmp_path)


@pytest.mark.parametrize("kept", ["scale", "center"])
def test_an_instance_norm_in_the_place_of_a_batch_norm_keeps_scale_and_center(kept, random):
    absent = {"scale": "center", "center": "scale"}[kept]
    x = keras.Input((6, 4))
    norm = BatchNorm(epsilon=0.03, axis=1, name="norm", **{absent: False})
    model = randomize(keras.Model(x, norm(layers.Dense(4)(x))), random)
    new = surgery.replace(model, {BatchNorm: InstanceNorm}).get_layer("norm")
    assert type(new) is InstanceNorm
    assert (new.scale, new.center) == (kept == "scale", kept == "center")
    assert (new.axis, new.epsilon) == (1, 0.03)
    (values,) = new.get_weights()
    np.testing.assert_array_equal(values, (norm.gamma if kept == "scale" else norm.beta).numpy())


@pytest.mark.slow
@pytest.mark.parametrize("axis", [[1, -1], [-1, 1], [2, -1], [-1, 1, 2]], ids=str)
def test_a_layer_normalization_over_several_axes(axis, random, tmp_path):
    """Keras sorts the axes as they are written, so that −1 comes first, and γ has its values in that order."""
    x = keras.Input((5, 3, 4))
    y = layers.LayerNormalization(axis=list(axis), epsilon=0.01, name="norm")(x)
    model = randomize(keras.Model(x, layers.Dense(2)(y), name="several_axes"), random)
    x = random.normal(2, 3, (4, 5, 3, 4)).astype("float32")
    copy = surgery.from_keras(model)
    assert_outputs(outputs_of(copy, x), outputs_of(model, x))
    np.testing.assert_array_equal(sorted_weights(copy), sorted_weights(model))
    assert_saved(copy, x, tmp_path)
    assert_outputs(outputs_of(surgery.to_keras(copy), x), outputs_of(model, x))


def sorted_weights(model):
    """The numbers alone, as the axes of γ and β may come in another order."""
    return np.sort(np.concatenate([weight.numpy().ravel() for weight in model.weights]))


@pytest.mark.slow
def test_a_layer_normalization_over_several_axes_trains_alike(random):
    x = keras.Input((5, 3, 4))
    y = layers.GlobalAveragePooling2D()(layers.LayerNormalization(axis=[-1, 1])(x))
    model = randomize(keras.Model(x, layers.Dense(2)(y)), random)
    copy = surgery.from_keras(model)
    x, y = random.normal(size=(8, 5, 3, 4)).astype("float32"), random.normal(size=(8, 2)).astype("float32")
    for each in (model, copy):
        each.compile(keras.optimizers.SGD(0.1), "mse")
        each.fit(x, y, batch_size=4, epochs=2, shuffle=False, verbose=0)
    assert_outputs(outputs_of(copy, x), outputs_of(model, x), 1e-4)
