"""Batch normalization as a Keras layer."""

import keras
import tensorflow as tf

from bn_keras.layers.base import NormalizationLayer, channel_axis, checked_number
from bn_keras.ops.batch_norm import batch_norm_inference, batch_norm_training
from bn_keras.ops.moments import statistics_dtype


@keras.saving.register_keras_serializable(package="bn_keras")
class BatchNorm(NormalizationLayer):
    r"""Normalizes each channel by the mean and variance of the batch.

    $$ y = \gamma \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta $$

    While training, μ and σ² are the mean and the (biased) variance of the batch over every
    axis but `axis`, and two moving averages follow them:

        moving_mean     ← momentum · moving_mean     + (1 − momentum) · μ
        moving_variance ← momentum · moving_variance + (1 − momentum) · m/(m−1) · σ²

    In inference the moving averages stand in for μ and σ²: the output of an example no longer
    depends on the others. A drop-in for `keras.layers.BatchNormalization`: same arguments, same
    weights in the same order, same meaning of `training`, `trainable` and `mask`.

    Shapes: input and output `(batch, …, channels)`, of any rank ≥ 2, the channels at `axis`;
    each weight `(channels,)`.
    Dtypes: the output has the layer's compute dtype. Moments and moving statistics are float32
    at least under every dtype policy.

    Args:
        axis: Int, the axis of the channels; 1 after a channels-first convolution.
        momentum: The share of its old value that a moving average keeps at each step, in
            [0, 1]. PyTorch's `momentum` is 1 minus this one.
        epsilon: Added to the variance, ≥ 0.
        center: Whether to add the offset `beta`.
        scale: Whether to multiply by the scale `gamma`.
        beta_initializer, gamma_initializer: Of the offset and scale.
        moving_mean_initializer, moving_variance_initializer: Of the moving statistics.
        beta_regularizer, gamma_regularizer: Optional.
        beta_constraint, gamma_constraint: Optional.
        renorm, renorm_clipping, renorm_momentum: Batch renormalization; not available in
            this version, `renorm=True` raises `NotImplementedError`.
        synchronized: Moments over all replicas; not available in this version,
            `synchronized=True` raises `NotImplementedError`.
        unbiased: Whether the moving variance averages the Bessel-corrected variance of the
            batches, as Algorithm 2 of the paper, PyTorch and TensorFlow's fused kernel do.
            `False` averages the biased one, as Keras 3 does.
        **kwargs: Those of `keras.layers.Layer`: `name`, `dtype`, `trainable`, …

    Call arguments:
        inputs: The tensor to normalize.
        training: `True` uses (and learns from) the batch's moments, `False` the moving ones.
            A layer with `trainable = False` always runs as in inference, as in Keras.
        mask: Optional, of the shape of `inputs` without its last axis. Elements where it is
            false are normalized like the others and have no part in the statistics.

    Raises:
        TypeError, ValueError: For an argument of the wrong type or out of range, at once; for
            an input that the layer cannot normalize, when it is built.
        NotImplementedError: For `synchronized=True`, `renorm=True` and a list of axes.

    Source: Ioffe and Szegedy 2015, https://arxiv.org/abs/1502.03167, Algorithms 1 and 2.

    Example:

    >>> layer = BatchNorm(momentum=0.9)
    >>> x = keras.ops.array([[1.0, 10.0], [3.0, 30.0]])
    >>> layer(x, training=True).numpy().round(2).tolist()
    [[-1.0, -1.0], [1.0, 1.0]]
    >>> [round(float(mean), 4) for mean in layer.moving_mean.numpy()]
    [0.2, 2.0]
    """

    def __init__(
        self,
        axis=-1,
        momentum=0.99,
        epsilon=1e-3,
        center=True,
        scale=True,
        beta_initializer="zeros",
        gamma_initializer="ones",
        moving_mean_initializer="zeros",
        moving_variance_initializer="ones",
        beta_regularizer=None,
        gamma_regularizer=None,
        beta_constraint=None,
        gamma_constraint=None,
        renorm=False,
        renorm_clipping=None,
        renorm_momentum=0.99,
        synchronized=False,
        unbiased=True,
        **kwargs,
    ):
        super().__init__(
            axis=axis,
            epsilon=epsilon,
            center=center,
            scale=scale,
            beta_initializer=beta_initializer,
            gamma_initializer=gamma_initializer,
            beta_regularizer=beta_regularizer,
            gamma_regularizer=gamma_regularizer,
            beta_constraint=beta_constraint,
            gamma_constraint=gamma_constraint,
            **kwargs,
        )
        refuse_unavailable("renorm", renorm)
        refuse_unavailable("synchronized", synchronized)
        self.momentum = checked_number("momentum", momentum, at_least=0, at_most=1)
        self.moving_mean_initializer = keras.initializers.get(moving_mean_initializer)
        self.moving_variance_initializer = keras.initializers.get(moving_variance_initializer)
        self.renorm = False
        self.renorm_clipping = renorm_clipping
        self.renorm_momentum = renorm_momentum
        self.synchronized = False
        self.unbiased = bool(unbiased)
        self.moving_mean = None
        self.moving_variance = None

    def build(self, input_shape):
        axis = channel_axis(self.axis, input_shape)
        shape = (input_shape[axis],)
        self.add_scale_and_offset(shape)
        self.moving_mean = self._add_statistic("moving_mean", shape, self.moving_mean_initializer)
        self.moving_variance = self._add_statistic("moving_variance", shape, self.moving_variance_initializer)
        self.input_spec = keras.layers.InputSpec(ndim=len(input_shape), axes={axis: shape[0]})

    def _add_statistic(self, name, shape, initializer):
        return self.add_weight(
            shape=shape,
            name=name,
            initializer=initializer,
            dtype=statistics_dtype(tf.as_dtype(self.variable_dtype)).name,
            trainable=False,
            autocast=False,
        )

    def call(self, inputs, training=None, mask=None):
        axis = self.axis % inputs.shape.rank
        if not inputs.dtype.is_floating:
            inputs = tf.cast(inputs, tf.float32)
        if inputs.shape[axis] is None:
            sizes = [None] * inputs.shape.rank
            sizes[axis] = self.moving_mean.shape[0]
            inputs = tf.ensure_shape(inputs, sizes)
        # As tensors: a variable would give every layer a trace of its own.
        gamma, beta, moving_mean, moving_variance = (
            None if weight is None else tf.convert_to_tensor(weight)
            for weight in (self.gamma, self.beta, self.moving_mean, self.moving_variance)
        )
        if training and self.trainable:
            outputs, moving_mean, moving_variance = batch_norm_training(
                inputs,
                gamma,
                beta,
                moving_mean,
                moving_variance,
                axis=axis,
                momentum=self.momentum,
                epsilon=self.epsilon,
                unbiased=self.unbiased,
                weights=None if mask is None else weights_of(mask, inputs),
            )
            self.moving_mean.assign(moving_mean)
            self.moving_variance.assign(moving_variance)
        else:
            outputs = batch_norm_inference(
                inputs,
                gamma,
                beta,
                moving_mean,
                moving_variance,
                axis=axis,
                epsilon=self.epsilon,
            )
        return tf.cast(outputs, self.compute_dtype)

    def get_config(self):
        return {
            **super().get_config(),
            "momentum": self.momentum,
            "moving_mean_initializer": keras.initializers.serialize(self.moving_mean_initializer),
            "moving_variance_initializer": keras.initializers.serialize(self.moving_variance_initializer),
            "renorm": self.renorm,
            "renorm_clipping": self.renorm_clipping,
            "renorm_momentum": self.renorm_momentum,
            "synchronized": self.synchronized,
            "unbiased": self.unbiased,
        }


def refuse_unavailable(name, value):
    if value:
        raise NotImplementedError(
            f"`{name}` must be False in this version of bn_keras. Received: {name}={value!r}. "
            f"Use keras.layers.BatchNormalization({name}=True) where you need it."
        )


def weights_of(mask, inputs):
    """A mask over all axes but the last, with that axis added."""
    mask = tf.convert_to_tensor(mask)
    if mask.shape.rank != inputs.shape.rank - 1:
        raise ValueError(
            "`mask` must have one axis fewer than the input, all but its last. "
            f"Received: a mask of shape {mask.shape}, an input of shape {inputs.shape}. "
            "Reshape the mask so that its axes are the first ones of the input."
        )
    return mask[..., tf.newaxis]
