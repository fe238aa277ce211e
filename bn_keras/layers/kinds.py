"""The names of the norms, the same in every place that takes one."""

from bn_keras.layers.arguments import DeclaredLayer
from bn_keras.layers.batch_norm import BatchNorm
from bn_keras.layers.decorrelated_batch_norm import DecorrelatedBatchNorm
from bn_keras.layers.group_norm import GroupNorm, InstanceNorm
from bn_keras.layers.layer_norm import LayerNorm
from bn_keras.layers.rms_norm import RMSNorm
from bn_keras.layers.sync_batch_norm import SyncBatchNorm

KINDS: dict[str, tuple[type[DeclaredLayer], dict]] = {
    "batch": (BatchNorm, {}),
    "sync": (SyncBatchNorm, {}),
    "ghost": (BatchNorm, {"virtual_batch_size": 32}),
    "renorm": (BatchNorm, {"renorm": True}),
    "layer": (LayerNorm, {}),
    "group": (GroupNorm, {}),
    "instance": (InstanceNorm, {}),
    "rms": (RMSNorm, {}),
    "decorrelated": (DecorrelatedBatchNorm, {}),
}
