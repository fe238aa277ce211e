"""Keras 2, which lives on as tf_keras."""

from bn_keras.bench.peers import EPSILON, GROUPS, MOMENTUM, NotOfferedError
from bn_keras.bench.peers.tensorflow_steps import layer_call


def kinds():
    from tf_keras import layers

    def group_norm(case, groups):
        return layers.GroupNormalization(groups=groups, axis=case.axis, epsilon=EPSILON, dtype=case.dtype)

    return {
        "batch": lambda case: layers.BatchNormalization(
            axis=case.axis, momentum=MOMENTUM, epsilon=EPSILON, dtype=case.dtype
        ),
        "layer": lambda case: layers.LayerNormalization(axis=case.axis, epsilon=EPSILON, dtype=case.dtype),
        "group": lambda case: group_norm(case, GROUPS),
        "instance": lambda case: group_norm(case, -1),
    }


def prepare(case):
    if case.layer == "rms":
        raise NotOfferedError("tf_keras has no RMS norm")
    return layer_call(kinds(), case)
