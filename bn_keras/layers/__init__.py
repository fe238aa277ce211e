"""Keras layers: state, configuration, dtypes and errors. The arithmetic is in `bn_keras.ops`."""

from bn_keras.layers.batch_norm import BatchNorm

__all__ = ["BatchNorm"]
