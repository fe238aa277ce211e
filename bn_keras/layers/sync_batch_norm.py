"""Batch normalization over all replicas as a Keras layer."""

import typing

import keras

from bn_keras.layers.arguments import Activation, Constraint, Initializer, Regularizer, with_defaults
from bn_keras.layers.batch_norm import BatchNorm


@keras.saving.register_keras_serializable(package="bn_keras")
class SyncBatchNorm(BatchNorm):
    r"""Normalizes each channel by the moments of all replicas' batches: `BatchNorm(synchronized=True)`.

    $$ y = \gamma \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta $$

    μ and σ² are taken over the elements of all replicas of a `tf.distribute` strategy. Each element counts once,
    however many a replica has. Training runs one collective forward and one backward, and inference runs none. Outside
    of a strategy the layer is a `BatchNorm`.

    Args:
        Those of `BatchNorm`, with another default:
        synchronized: Bool, whether to take the moments over all replicas. Defaults to `True`.
        **kwargs: Arguments of `keras.layers.Layer`: `name`, `dtype`, `trainable`, …

    Call arguments:
        inputs: Tensor to normalize.
        training: Bool or `None`, as in `BatchNorm`. Defaults to `None`.
        mask: Tensor or `None`, as in `BatchNorm`. Defaults to `None`.

    Input shape:
        `(batch, …, channels)`, of any rank ≥ 2, with the channels at `axis`.

    Output shape:
        The input shape.

    Raises:
        TypeError, ValueError: As `BatchNorm` does.

    References:
        [Ioffe and Szegedy 2015](https://arxiv.org/abs/1502.03167), section 3, over the whole batch.

    Example:

    >>> layer = SyncBatchNorm()
    >>> layer(keras.ops.array([[1.0], [3.0]]), training=True).numpy().round(2).tolist()
    [[-1.0], [1.0]]
    """

    arguments = with_defaults(BatchNorm.arguments, synchronized=True)

    if typing.TYPE_CHECKING:  # what a type checker sees; `arguments` makes the constructor

        def __init__(
            self,
            axis: int | list[int] | tuple[int, ...] = -1,
            momentum: float | None = 0.99,
            epsilon: float = 0.001,
            center: bool = True,
            scale: bool = True,
            beta_initializer: Initializer = "zeros",
            gamma_initializer: Initializer = "ones",
            moving_mean_initializer: Initializer = "zeros",
            moving_variance_initializer: Initializer = "ones",
            beta_regularizer: Regularizer = None,
            gamma_regularizer: Regularizer = None,
            beta_constraint: Constraint = None,
            gamma_constraint: Constraint = None,
            renorm: bool = False,
            renorm_clipping: dict | None = None,
            renorm_momentum: float = 0.99,
            synchronized: bool = True,
            unbiased: bool = True,
            bias_correction: bool = False,
            virtual_batch_size: int | None = None,
            group_size: int | None = None,
            fused: bool | None = None,
            activation: Activation = None,
            frozen: bool = False,
            accumulation_steps: int | None = None,
            **kwargs: typing.Any,
        ) -> None: ...
