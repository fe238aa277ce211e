"""Keras 3 on TensorFlow."""

from keras import layers

from bn_keras.bench.peers import EPSILON, GROUPS, MOMENTUM, NotOfferedError
from bn_keras.bench.peers.tensorflow_steps import layer_call


def group_norm(case, groups):
    return layers.GroupNormalization(groups=groups, axis=case.axis, epsilon=EPSILON, dtype=case.dtype)


KINDS = {
    "batch": lambda case: layers.BatchNormalization(
        axis=case.axis, momentum=MOMENTUM, epsilon=EPSILON, dtype=case.dtype
    ),
    "layer": lambda case: layers.LayerNormalization(axis=case.axis, epsilon=EPSILON, dtype=case.dtype),
    "rms": lambda case: layers.RMSNormalization(axis=case.axis, epsilon=EPSILON, dtype=case.dtype),
    "group": lambda case: group_norm(case, GROUPS),
    "instance": lambda case: group_norm(case, -1),
}


def prepare(case):
    if case.layer == "rms" and not hasattr(layers, "RMSNormalization"):
        raise NotOfferedError("this Keras has no RMSNormalization")
    return layer_call(KINDS, case)
