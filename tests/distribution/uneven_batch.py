"""Run by `test_mirrored.py` in a process of its own: 9 samples in batches of 4 on 2 replicas.

The last batch holds one sample, so that one replica gets none.
"""

import json

import keras
import numpy as np
import tensorflow as tf

from bn_keras import BatchNorm, SyncBatchNorm

LAYERS = {
    "keras": keras.layers.BatchNormalization,
    "plain": BatchNorm,
    "average of all": lambda: BatchNorm(momentum=None),
    "renorm": lambda: BatchNorm(renorm=True),
    "synchronized": SyncBatchNorm,
    "synchronized renorm": lambda: SyncBatchNorm(renorm=True),
    "virtual": lambda: BatchNorm(virtual_batch_size=2),
}


def mirrored(replicas):
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * replicas
    )
    return tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(replicas)])


def fit(make, strategy):
    """The losses, and every weight on every replica, after two epochs; and whether replicas agree."""
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(4), make(), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
    x = np.random.default_rng(0).normal(3, 2, (9, 5)).astype(np.float32)
    losses = model.fit(x, x[:, :1], batch_size=4, epochs=2, verbose=0).history["loss"]
    losses.append(model.evaluate(x, x[:, :1], batch_size=4, verbose=0))
    weights = [[replica.numpy() for replica in each.value.values] for each in model.weights]
    finite = np.isfinite(losses).all() and all(np.isfinite(replica).all() for each in weights for replica in each)
    return {"finite": bool(finite), "equal": all(np.array_equal(*replicas) for replicas in weights)}


if __name__ == "__main__":
    strategy = mirrored(2)
    print("RESULT " + json.dumps({name: fit(make, strategy) for name, make in LAYERS.items()}))
