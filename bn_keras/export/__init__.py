"""Models turned into files that are served without bn_keras, and the proof that they say the same there."""

from bn_keras.export.exporting import Exported, export
from bn_keras.export.formats import ExportError

__all__ = ["ExportError", "Exported", "export"]
