"""Finds what is wrong with the batch norms of a model, and what a repair gains."""

from bn_keras.doctor.examination import Examination, Finding, Gain, Repair
from bn_keras.doctor.examine import examine
from bn_keras.doctor.gaps import LayerGap
from bn_keras.doctor.monitor import NormalizationMonitor

__all__ = ["Examination", "Finding", "Gain", "LayerGap", "NormalizationMonitor", "Repair", "examine"]
