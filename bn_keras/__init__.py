"""Normalization for Keras: layers, presets and the experiments that show what they do."""

import pathlib
import sys
from typing import TYPE_CHECKING

__version__ = "0.1.0"
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
    "__version__",
    "doctor",
    "models",
    "surgery",
]


def _is_command() -> bool:
    """Whether this process is `bn-keras` or `python -m bn_keras`."""
    name = sys.argv[0] if sys.argv else ""
    if name == "-m":  # Python looks for the module that it runs
        return sys.orig_argv[-len(sys.argv)].removeprefix("-m") == __name__
    path = pathlib.PurePath(name)
    return path.stem == "bn-keras" or path.parts[-2:] == (__name__, "__main__.py")


# `import bn_keras` registers its layers with Keras, so that `keras.models.load_model` knows them. Only the command line
# waits: its help, its completion and its usage errors must not take the seconds that TensorFlow takes to load.
if TYPE_CHECKING or not _is_command():
    from bn_keras.exports import (
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
        doctor,
        models,
        surgery,
    )
else:

    def __getattr__(name: str) -> object:
        """Loads everything when a public name is first used."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        import importlib

        return getattr(importlib.import_module("bn_keras.exports"), name)
