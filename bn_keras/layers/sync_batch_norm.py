"""Batch normalization over all replicas as a Keras layer."""

import keras

from bn_keras.layers.arguments import with_defaults
from bn_keras.layers.batch_norm import BatchNorm


@keras.saving.register_keras_serializable(package="bn_keras")
class SyncBatchNorm(BatchNorm):
    r"""`BatchNorm(synchronized=True)`: each channel normalized by the moments of all replicas' batches.

    $$ y = \gamma \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta $$

    with μ and σ² over the elements of all replicas of a `tf.distribute` strategy, each counted once, however
    many a replica has. Training takes one collective forward and one backward; inference takes none. Outside
    of a strategy it is a `BatchNorm`.

    Shapes, dtypes, arguments and errors are those of `BatchNorm`.

    Source: Ioffe and Szegedy 2015, https://arxiv.org/abs/1502.03167, over the whole batch as in its section 3.

    Example:

    >>> layer = SyncBatchNorm()
    >>> layer(keras.ops.array([[1.0], [3.0]]), training=True).numpy().round(2).tolist()
    [[-1.0], [1.0]]
    """

    arguments = with_defaults(BatchNorm.arguments, synchronized=True)
