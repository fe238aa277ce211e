"""The layers that the page of accuracy compares: each peer takes a float32 array with channels last.

A peer of batch norm returns `(y, mean, variance)` of one training step as NumPy arrays, with the biased variance. The
moments are the layer's own moving statistics: with a momentum of 0 they equal the moments of the batch.
"""

import keras
import numpy as np
import tensorflow as tf

from bn_keras.lab.machine import installed
from bn_keras.layers import BatchNorm, LayerNorm, SyncBatchNorm

EPSILON = 1e-3
FORGETFUL = {"momentum": 0.0, "epsilon": EPSILON, "moving_variance_initializer": "zeros"}
REPLICAS = 2


def batch_norms():
    """Peers by name."""
    peers = {
        "bn_keras": of_tensorflow(lambda: BatchNorm(**FORGETFUL)),
        "bn_keras, fused=True": of_tensorflow(lambda: BatchNorm(fused=True, **FORGETFUL)),
        "Keras": of_tensorflow(lambda: keras.layers.BatchNormalization(**FORGETFUL), unbiased=False),
    }
    if installed("tf_keras"):
        peers["tf_keras"] = of_tf_keras
    if installed("torch"):
        peers["PyTorch"] = of_torch
    return peers


def synchronized_batch_norms(strategy):
    return {
        "bn_keras": over_replicas(strategy, lambda: SyncBatchNorm(unbiased=False, **FORGETFUL)),
        "Keras": over_replicas(strategy, lambda: keras.layers.BatchNormalization(synchronized=True, **FORGETFUL)),
    }


def layer_norms():
    """Of layer norm: only the output."""
    peers = {
        "bn_keras": output_of(lambda: LayerNorm(epsilon=EPSILON)),
        "Keras": output_of(lambda: keras.layers.LayerNormalization(epsilon=EPSILON)),
    }
    if installed("torch"):
        peers["PyTorch"] = layer_norm_of_torch
    return peers


def biased(variance, x):
    count = x.size // x.shape[-1]
    return np.asarray(variance, np.float64) * (count - 1) / count


def of_tensorflow(make, unbiased=True):
    def run(x):
        layer = make()
        layer.build(x.shape)
        y = tf.function(lambda x: layer(x, training=True))(tf.constant(x)).numpy()
        variance = layer.moving_variance.numpy()
        return y, layer.moving_mean.numpy(), biased(variance, x) if unbiased else variance

    return run


def of_tf_keras(x):
    """It takes TensorFlow's kernel for rank 4, and then its moving variance is the unbiased one."""
    import tf_keras

    return of_tensorflow(lambda: tf_keras.layers.BatchNormalization(**FORGETFUL), unbiased=x.ndim == 4)(x)


def of_torch(x):
    """Channels first, as is its custom."""
    import torch

    kind = torch.nn.BatchNorm1d if x.ndim == 2 else torch.nn.BatchNorm2d
    layer = kind(x.shape[-1], eps=EPSILON, momentum=1.0).train()
    with torch.no_grad():
        y = layer(torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, 1)))).numpy()
    return np.moveaxis(y, 1, -1), layer.running_mean.numpy(), biased(layer.running_var.numpy(), x)


def replicas():
    """A strategy over several logical processors; to be called before TensorFlow has done anything."""
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * REPLICAS
    )
    return tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(REPLICAS)])


def over_replicas(strategy, make):
    """Each replica has the same number of examples."""

    def run(x):
        with strategy.scope():
            layer = make()
            layer.build(x.shape)
        shards = np.split(x, REPLICAS)
        per_replica = strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(shards[context.replica_id_in_sync_group])
        )
        step = tf.function(lambda x: strategy.run(lambda x: layer(x, training=True), (x,)))
        y = np.concatenate(strategy.experimental_local_results(step(per_replica)))
        return y, *(each.value.values[0].numpy() for each in (layer.moving_mean, layer.moving_variance))

    return run


def output_of(make):
    return lambda x: tf.function(make())(tf.constant(x)).numpy()


def layer_norm_of_torch(x):
    import torch

    with torch.no_grad():
        return torch.nn.LayerNorm(x.shape[-1], eps=EPSILON)(torch.from_numpy(x)).numpy()
