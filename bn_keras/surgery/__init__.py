"""Tools for models that exist: each takes a model and gives a new one, the given model is never changed."""

from bn_keras.surgery.convert import from_keras, replace, to_keras, to_local, to_sync

__all__ = ["from_keras", "replace", "to_keras", "to_local", "to_sync"]
