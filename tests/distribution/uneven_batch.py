"""Run by `test_mirrored.py` in a process of its own: 9 samples in batches of 4 on 2 replicas.

The last batch holds one sample, so that one replica gets none.
"""

import json

import keras
import numpy as np
import tensorflow as tf

from bn_keras import BatchNorm

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
LAYERS = {
    "keras": keras.layers.BatchNormalization,
    "plain": BatchNorm,
    "average of all": lambda: BatchNorm(momentum=None),
    "renorm": lambda: BatchNorm(renorm=True),
    "virtual": lambda: BatchNorm(virtual_batch_size=2),
}


def fit(make):
    """The losses, and every weight on every replica, after two epochs."""
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(4), make(), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
    x = np.random.default_rng(0).normal(3, 2, (9, 5)).astype(np.float32)
    losses = model.fit(x, x[:, :1], batch_size=4, epochs=2, verbose=0).history["loss"]
    losses.append(model.evaluate(x, x[:, :1], batch_size=4, verbose=0))
    weights = [replica.numpy().ravel().tolist() for each in model.weights for replica in each.value.values]
    return losses + [value for weight in weights for value in weight]


print("RESULT " + json.dumps({name: bool(np.isfinite(fit(make)).all()) for name, make in LAYERS.items()}))
