"""The models of the page on surgery: an `Entry` by name in `CATALOGUE`.

Models of KerasHub are tiny: they have the layers and the wiring of the real model, with a few units per layer.
"""

from bn_keras.pages.surgery_models import classes, graphs, text, vision
from bn_keras.pages.surgery_models.entry import Entry

__all__ = ["CATALOGUE", "Entry"]

CATALOGUE = {**text.MODELS, **vision.MODELS, **graphs.MODELS, **classes.MODELS}
