"""Export of models to files that are served without bn_keras, and the check of these files."""

from bn_keras.export.exporting import Exported, export
from bn_keras.export.formats import ExportError
from bn_keras.export.layer_drops import LayerDrop
from bn_keras.export.quantizing import Quantized, quantize

__all__ = ["ExportError", "Exported", "LayerDrop", "Quantized", "export", "quantize"]
