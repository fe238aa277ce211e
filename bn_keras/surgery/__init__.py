"""Tools for models that exist: each takes a model and gives a new one, the given model is never changed."""

from bn_keras.surgery.convert import from_keras, to_keras, to_local, to_sync
from bn_keras.surgery.domains import merge_domains, split_domains
from bn_keras.surgery.fold import fold
from bn_keras.surgery.freeze import freeze, unfreeze
from bn_keras.surgery.initialize import initialize_weight_norm
from bn_keras.surgery.recalibrate import recalibrate
from bn_keras.surgery.replace import replace
from bn_keras.surgery.reports import Report, Row, Verified, report
from bn_keras.surgery.weight_decay import exclude_from_weight_decay

__all__ = [
    "Report",
    "Row",
    "Verified",
    "exclude_from_weight_decay",
    "fold",
    "freeze",
    "from_keras",
    "initialize_weight_norm",
    "merge_domains",
    "recalibrate",
    "replace",
    "report",
    "split_domains",
    "to_keras",
    "to_local",
    "to_sync",
    "unfreeze",
]
