"""Presets: networks built with or without normalization by the same code."""

from bn_keras.models.card import describe
from bn_keras.models.features import features
from bn_keras.models.norms import linear_norm, norm, norms
from bn_keras.models.registry import build, list_presets, preset

__all__ = ["build", "describe", "features", "linear_norm", "list_presets", "norm", "norms", "preset"]
