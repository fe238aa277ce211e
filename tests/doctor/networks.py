"""Small networks on digits for the doctor: trained in a second, with γ, β and statistics that are not 1 and 0."""

import keras
import numpy as np

from bn_keras import BatchNorm
from bn_keras.experiments.data import load

EPOCHS = 6


def digits():
    """`(inputs, labels)`: 1,437 digits of 64 numbers about 0, and their classes."""
    data = load("digits").train
    return (data.inputs.reshape(-1, 64) / 8 - 1).astype("float32"), data.labels


def layers_of_mlp(norm=BatchNorm, bias=False, dropout=0.0, momentum=0.9, dtype=None):
    """The layers of a network with two batch norms."""
    found = []
    for i in (1, 2):
        found.append(keras.layers.Dense(48, use_bias=bias, name=f"dense_{i}", dtype=dtype))
        if dropout and i == 2:
            found.insert(-1, keras.layers.Dropout(dropout, seed=0, name="dropout"))
        found.append(norm(momentum=momentum, name=f"norm_{i}", dtype=dtype))
        found.append(keras.layers.ReLU(name=f"relu_{i}", dtype=dtype))
    return [*found, keras.layers.Dense(10, name="logits", dtype=dtype)]


def loss():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def fit(model, epochs=EPOCHS, optimizer=None, batch_size=64):
    """Trains a network on digits."""
    model.compile(optimizer or keras.optimizers.Adam(3e-3), loss())
    model.fit(*digits(), epochs=epochs, batch_size=batch_size, verbose=0)
    return model


def mlp(epochs=EPOCHS, name="mlp", **options):
    """A Sequential network, trained on digits."""
    keras.utils.set_random_seed(1)
    return fit(keras.Sequential([keras.Input((64,)), *layers_of_mlp(**options)], name=name), epochs)


def copy_of(model):
    """The same network with the same weights, not compiled."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy


class Subclassed(keras.Model):
    """The network as a subclass, which tells its layers that it trains, or whose `call` has no `training`."""

    def __init__(self, **options):
        super().__init__(name="subclassed")
        self.row = layers_of_mlp(**options)

    def call(self, inputs, training=None):
        for layer in self.row:
            inputs = layer(inputs, training=training) if isinstance(layer, BatchNorm) else layer(inputs)
        return inputs


class Forgetful(keras.Model):
    """The network as a subclass whose `call` takes no `training`: `fit` does not tell it that it trains."""

    def __init__(self, **options):
        super().__init__(name="forgetful")
        self.row = layers_of_mlp(**options)

    def call(self, inputs):
        for layer in self.row:
            inputs = layer(inputs)
        return inputs


def sequences():
    """`(inputs, labels)`: sequences of 12 steps of 6 numbers; four in ten steps are padding, which is 0."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 512)
    x = random.normal(2.0, 1.0, (512, 12, 6)) + labels[:, None, None] * np.array([1, -1, 0.5, 0, 2, 0.0])
    x[np.arange(12) >= random.integers(4, 11, 512)[:, None]] = 0
    return x.astype("float32"), labels.astype("int32")


@keras.saving.register_keras_serializable("tests.doctor")
class Doubled(keras.layers.Layer):
    """A custom layer that drops the mask, as custom layers do unless they say otherwise."""

    def call(self, inputs):
        return 2 * inputs


def masked(passes_on):
    """A network of sequences with one batch norm, behind a layer that passes the mask on or drops it."""
    keras.utils.set_random_seed(1)
    doubled = Doubled(name="doubled")
    doubled.supports_masking = passes_on
    row = [keras.layers.Masking(), doubled, BatchNorm(momentum=0.9, name="norm"), keras.layers.ReLU()]
    row += [keras.layers.GlobalAveragePooling1D(), keras.layers.Dense(3, name="logits")]
    model = keras.Sequential([keras.Input((12, 6)), *row])
    model.compile(keras.optimizers.Adam(0.02), loss())
    return model
