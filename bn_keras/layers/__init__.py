"""Keras layers: state, configuration, dtypes and errors. The arithmetic is in `bn_keras.ops`."""

from bn_keras.layers.affine import Affine
from bn_keras.layers.batch_norm import BatchNorm
from bn_keras.layers.conditional_norm import ConditionalNorm
from bn_keras.layers.decorrelated_batch_norm import DecorrelatedBatchNorm
from bn_keras.layers.domain_batch_norm import DomainBatchNorm
from bn_keras.layers.group_norm import GroupNorm, InstanceNorm
from bn_keras.layers.layer_norm import LayerNorm
from bn_keras.layers.rms_norm import RMSNorm
from bn_keras.layers.sync_batch_norm import SyncBatchNorm
from bn_keras.layers.weight_norm import WeightNorm
from bn_keras.layers.weight_standardization import WeightStandardization

__all__ = [
    "Affine",
    "BatchNorm",
    "ConditionalNorm",
    "DecorrelatedBatchNorm",
    "DomainBatchNorm",
    "GroupNorm",
    "InstanceNorm",
    "LayerNorm",
    "RMSNorm",
    "SyncBatchNorm",
    "WeightNorm",
    "WeightStandardization",
]
