"""bn_keras."""

from bn_keras.bench.peers import EPSILON, GROUPS, MOMENTUM
from bn_keras.bench.peers.tensorflow_steps import layer_call
from bn_keras.layers import BatchNorm, GroupNorm, InstanceNorm, LayerNorm, RMSNorm

KINDS = {
    "batch": lambda case: BatchNorm(axis=case.axis, momentum=MOMENTUM, epsilon=EPSILON, dtype=case.dtype),
    "layer": lambda case: LayerNorm(axis=case.axis, epsilon=EPSILON, dtype=case.dtype),
    "rms": lambda case: RMSNorm(axis=case.axis, epsilon=EPSILON, dtype=case.dtype),
    "group": lambda case: GroupNorm(groups=GROUPS, axis=case.axis, epsilon=EPSILON, dtype=case.dtype),
    "instance": lambda case: InstanceNorm(axis=case.axis, epsilon=EPSILON, dtype=case.dtype),
}


def prepare(case):
    return layer_call(KINDS, case)
