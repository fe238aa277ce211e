"""Data sets by name: digits, tensorflow-datasets, folders of images, and text; in memory or streamed."""

from bn_keras.experiments.data.dataset import Data, DataError
from bn_keras.experiments.data.order import example_order
from bn_keras.experiments.data.source import load

__all__ = ["Data", "DataError", "example_order", "load"]
