"""Tools for models that exist: each takes a model and gives a new one, the given model is never changed."""

from bn_keras.surgery.convert import from_keras, replace, to_keras, to_local, to_sync
from bn_keras.surgery.fold import fold

__all__ = ["fold", "from_keras", "replace", "to_keras", "to_local", "to_sync"]
