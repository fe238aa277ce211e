"""Presets: networks built with or without normalization by the same code."""

from bn_keras.models.norms import norm, norms
from bn_keras.models.registry import build, list_presets, preset

__all__ = ["build", "list_presets", "norm", "norms", "preset"]
