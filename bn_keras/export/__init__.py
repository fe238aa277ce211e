"""Export of models to files that are served without bn_keras, and the check of these files."""

from bn_keras.export.exporting import Exported, export
from bn_keras.export.formats import ExportError

__all__ = ["ExportError", "Exported", "export"]
