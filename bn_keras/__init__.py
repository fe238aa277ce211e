"""Normalization for Keras: layers, presets and the experiments that show what they do."""

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
    DecorrelatedBatchNorm,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    RMSNorm,
    SyncBatchNorm,
)

# Loading a file that surgery has changed, or a preset with layers of its own, needs their classes: `import bn_keras`
# registers them.
from bn_keras import models, surgery  # isort: skip

__version__ = "0.1.0"
__all__ = [
    "Affine",
    "BatchNorm",
    "DecorrelatedBatchNorm",
    "GroupNorm",
    "InstanceNorm",
    "LayerNorm",
    "RMSNorm",
    "SyncBatchNorm",
    "__version__",
    "models",
    "surgery",
]
