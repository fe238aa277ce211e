"""`BatchNorm` in every kind of model: trained, saved and loaded."""

import keras
import numpy as np
import pytest

from bn_keras import BatchNorm


def functional():
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, use_bias=False)(inputs)
    x = keras.layers.ReLU()(BatchNorm()(x))
    return keras.Model(inputs, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(x)))


def sequential():
    model = keras.Sequential()
    model.add(keras.layers.Conv2D(4, 3, use_bias=False))
    model.add(BatchNorm())
    model.add(keras.layers.ReLU())
    model.add(keras.layers.GlobalAveragePooling2D())
    model.add(keras.layers.Dense(2))
    return model


@keras.saving.register_keras_serializable(package="tests")
class Subclassed(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.conv = keras.layers.Conv2D(4, 3, use_bias=False)
        self.norm = BatchNorm()
        self.pool = keras.layers.GlobalAveragePooling2D()
        self.dense = keras.layers.Dense(2)

    def call(self, inputs, training=None):
        x = self.norm(self.conv(inputs), training=training)
        return self.dense(self.pool(keras.ops.relu(x)))


@pytest.mark.slow
@pytest.mark.sample(1)
@pytest.mark.parametrize("make", [sequential, functional, Subclassed])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_fit_evaluate_save_and_load(random, tmp_path, make, jit_compile):
    labels = random.integers(0, 2, 50)
    images = random.normal(size=(50, 8, 8, 3)) + 3 * labels[:, None, None, None]
    images = images.astype(np.float32)
    model = make()
    model.compile(
        keras.optimizers.SGD(0.1, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=jit_compile,
    )
    model.fit(images, labels, batch_size=16, epochs=20, verbose=0)  # an uneven last batch of 2
    assert model.evaluate(images, labels, verbose=0, return_dict=True)["accuracy"] > 0.9
    norm = next(layer for layer in model.layers if isinstance(layer, BatchNorm))
    assert np.any(norm.moving_mean != 0)

    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(images, verbose=0), model.predict(images, verbose=0))


def test_config_round_trip():
    layer = BatchNorm(
        axis=1,
        momentum=0.5,
        epsilon=1e-5,
        gamma_initializer="he_normal",
        beta_regularizer="l2",
        gamma_constraint="non_neg",
        unbiased=False,
        name="norm",
        dtype="mixed_bfloat16",
    )
    config = layer.get_config()
    again = BatchNorm.from_config(config)
    assert again.get_config() == config
    assert again.unbiased is False
    keras_config = keras.layers.BatchNormalization(axis=1, momentum=0.5).get_config()
    assert BatchNorm.from_config(keras_config).momentum == 0.5
    assert set(keras_config) | {"unbiased"} <= set(config)
