"""Surgery reaches the layer inside a `ConditionalNorm`."""

import keras
import numpy as np
import pytest

from bn_keras import BatchNorm, ConditionalNorm, SyncBatchNorm
from bn_keras.surgery import (
    exclude_from_weight_decay,
    fold,
    freeze,
    from_keras,
    recalibrate,
    report,
    to_keras,
    to_local,
    to_sync,
)
from tests.surgery.models import outputs_of, randomize
from tests.surgery.test_weight_decay import decayed

KERAS_BATCH_NORM = keras.layers.BatchNormalization


def network(norm="batch", classes=None, before=True):
    """A convolution, a conditional norm named "norm" and a pooling."""
    x = keras.Input((6, 3), name="x")
    condition = keras.Input((), dtype="int32", name="c") if classes else keras.Input((2,), name="c")
    features = keras.layers.Conv1D(4, 3, name="conv")(x) if before else x
    y = ConditionalNorm(norm, classes, name="norm")([features, condition])
    return keras.Model({"x": x, "c": condition}, keras.layers.GlobalMaxPooling1D()(y))


def example(random, classes=None, size=16):
    condition = random.integers(0, classes, size) if classes else random.normal(size=(size, 2))
    return {
        "x": random.normal(2, 3, (size, 6, 3)).astype("float32"),
        "c": condition.astype("int32" if classes else "f"),
    }


def check(new, model, x, tmp_path):
    """The outputs are those of the model, also through a file. Returns the layer inside."""
    np.testing.assert_allclose(outputs_of(new, x), outputs_of(model, x), rtol=0, atol=2e-5)
    new.save(tmp_path / "new.keras")
    loaded = keras.models.load_model(tmp_path / "new.keras")
    np.testing.assert_array_equal(outputs_of(loaded, x), outputs_of(new, x))
    inside = new.get_layer("norm").norm
    assert type(loaded.get_layer("norm").norm) is type(inside)
    return inside


@pytest.mark.parametrize("classes", [None, 3])
def test_batch_norm_is_folded_into_the_convolution(classes, random, tmp_path):
    model, x = randomize(network(classes=classes), random), example(random, classes)
    new = fold(model, report=None)
    assert type(check(new, model, x, tmp_path)) is keras.layers.Identity
    assert [row.layer for row in report(new).of("folded")] == ["norm_norm"]


def test_without_a_convolution_batch_norm_is_mapped(random, tmp_path):
    model, x = randomize(network(before=False), random), example(random)
    assert type(check(fold(model, report=None), model, x, tmp_path)).__name__ == "Affine"


@pytest.mark.slow
def test_conversions_there_and_back(random, tmp_path):
    model, x = randomize(network(KERAS_BATCH_NORM(center=False)), random), example(random)
    for convert, kind in ((from_keras, BatchNorm), (to_sync, SyncBatchNorm), (to_local, BatchNorm)):
        new = convert(model, report=None)
        assert type(check(new, model, x, tmp_path)) is kind
        model = new
    back = to_keras(model, report=None)
    assert type(check(back, model, x, tmp_path)) is KERAS_BATCH_NORM
    (kept,) = report(back).of("kept")
    assert kept.layer == "norm"
    assert "needs bn_keras to load" in kept.why


@pytest.mark.slow
def test_frozen_statistics_stay(random):
    model, x = randomize(network(), random), example(random)
    frozen = freeze(model, report=None)
    frozen.compile("sgd", "mse")
    before = frozen.get_layer("norm").norm.moving_mean.numpy(), frozen.get_layer("norm").gamma_kernel.numpy()
    frozen.fit(x, np.zeros((16, 4)), verbose=0)
    layer = frozen.get_layer("norm")
    np.testing.assert_array_equal(layer.norm.moving_mean, before[0])
    assert (layer.gamma_kernel.numpy() != before[1]).any()
    model(x, training=True)
    assert (model.get_layer("norm").norm.moving_mean.numpy() != before[0]).all()


def test_recalibrated_statistics_are_the_population(random, tmp_path):
    model, x = randomize(network("sync", classes=3), random), example(random, 3)
    new = recalibrate(model, x, report=None)
    features = keras.ops.convert_to_numpy(model.get_layer("conv")(x["x"])).reshape(-1, 4)
    layer = new.get_layer("norm").norm
    np.testing.assert_allclose(layer.moving_mean, features.mean(0), rtol=1e-5)
    np.testing.assert_allclose(layer.moving_variance, features.var(0), rtol=1e-5)


def test_the_maps_of_the_condition_decay_and_the_scale_and_offset_do_not(random):
    model = randomize(network(BatchNorm()), random)
    optimizer = exclude_from_weight_decay(keras.optimizers.AdamW(0.1, weight_decay=0.5), model)
    assert decayed(optimizer, model) == {"conv/kernel", "conv/bias", "norm/gamma_kernel", "norm/beta_kernel"}
