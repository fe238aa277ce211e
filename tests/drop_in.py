"""A pytest plugin under which the tests that ship inside Keras see our layers in place of Keras'."""

import keras
from keras.src import layers

from bn_keras import BatchNorm, GroupNorm, LayerNorm, RMSNorm


@keras.saving.register_keras_serializable(package="drop_in")
class BatchNormalization(BatchNorm):
    """Ours with the biased moving variance of Keras."""

    def __init__(self, *args, unbiased=False, **kwargs):
        super().__init__(*args, unbiased=unbiased, **kwargs)


layers.BatchNormalization = BatchNormalization
layers.LayerNormalization = LayerNorm
layers.GroupNormalization = GroupNorm
layers.RMSNormalization = RMSNorm
