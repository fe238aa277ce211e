"""The public names of `bn_keras`. Importing this module registers all classes that a stored model can hold."""

import keras

if keras.backend.backend() != "tensorflow":
    raise ImportError(
        "bn_keras needs Keras to run on TensorFlow, but the Keras backend is "
        f"{keras.backend.backend()!r}. Set the environment variable KERAS_BACKEND=tensorflow, "
        'or "backend": "tensorflow" in ~/.keras/keras.json, before Keras is imported.'
    )

from bn_keras.layers import (
    Affine,
    BatchNorm,
    ConditionalNorm,
    DecorrelatedBatchNorm,
    DomainBatchNorm,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    RMSNorm,
    SyncBatchNorm,
    WeightNorm,
    WeightStandardization,
)

# Loading a file that surgery has changed, or a preset with layers of its own, needs their classes.
import bn_keras.models as models  # isort: skip
import bn_keras.surgery as surgery  # isort: skip
import bn_keras.doctor as doctor  # isort: skip

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
    "doctor",
    "models",
    "surgery",
]
