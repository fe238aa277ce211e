"""Batch normalization as a Keras layer."""

import keras
import tensorflow as tf

from bn_keras.layers.base import (
    NormalizationLayer,
    axes_of,
    exact_rank,
    float_tensor,
    tensor_or_none,
    weights_of,
    with_known_sizes,
)
from bn_keras.layers.checks import CLIPPING, checked_choice, checked_clipping, checked_number, checked_size
from bn_keras.layers.combinations import check_combination
from bn_keras.ops.batch_norm import batch_norm_inference, batch_norm_training

STATISTICS = ("moving_mean", "moving_variance", "moving_stddev", "renorm_mean", "renorm_stddev", "steps")


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
        axis: Int, the axis of the channels; 1 after a channels-first convolution. A list of ints
            gives each combination of their positions a mean, variance, scale and offset of its own.
        momentum: The share of its old value that a moving average keeps at each step, in
            [0, 1]. PyTorch's `momentum` is 1 minus this one. `None` averages all batches alike. With
            gradients accumulated over k batches, `momentum ** (1 / k)` keeps the share per update.
        epsilon: Added to the variance, ≥ 0.
        center: Whether to add the offset `beta`.
        scale: Whether to multiply by the scale `gamma`.
        beta_initializer, gamma_initializer: Of the offset and scale.
        moving_mean_initializer, moving_variance_initializer: Of the moving statistics.
        beta_regularizer, gamma_regularizer: Optional.
        beta_constraint, gamma_constraint: Optional.
        renorm, renorm_clipping, renorm_momentum: Batch renormalization (Ioffe 2017): the batch is
            normalized as in inference, as far as `renorm_clipping`, a dict of `rmin`, `rmax` and `dmax`,
            lets it; `renorm_momentum` is that of the averages it is corrected to.
        synchronized: Whether the moments are those of all replicas of a `tf.distribute` strategy: one
            collective forward and one backward, shards of any size, none in inference. If not, each
            replica is normalized by its own moments. The moving statistics average those of all
            replicas either way, and are the same on each.
        group_size: Synchronizes every so many neighbouring replicas with each other; `None` for all.
        unbiased: Whether the moving variance averages the Bessel-corrected variance of the
            batches, as Algorithm 2 of the paper, PyTorch and TensorFlow's fused kernel do.
            `False` averages the biased one, as Keras 3 does.
        bias_correction: Whether the moving averages forget the values that they start from: without
            it they lag for the first few times 1/(1 − momentum) steps.
        virtual_batch_size: In training, every so many examples are normalized by themselves, the rest
            of the batch likewise (ghost batch norm, Hoffer et al. 2017). Inference is as without.
        fused: Whether training takes TensorFlow's kernel; `None` where it is safe and pays, `True`
            raises `ValueError` where it cannot be used. Where a mean is more than 32 deviations, which
            the kernel's float32 sums would lose, the batch is normalized again without it.
        activation: A Keras activation of the output. With "relu" a large training step on a CPU takes a third
            less time than with a layer of its own after this one.
        frozen: Whether training runs as inference does: the moving statistics are used and stay, while γ and β
            go on learning. `trainable = False` freezes these too. `bn_keras.surgery.freeze` sets it.
        **kwargs: Those of `keras.layers.Layer`: `name`, `dtype`, `trainable`, …

    Call arguments:
        inputs: The tensor to normalize.
        training: `True` uses (and learns from) the batch's moments, `False` the moving ones.
            A layer with `trainable = False` always runs as in inference, as in Keras.
        mask: Optional, of the sizes of `inputs` along its leading axes, or 1 where it is the same for
            all. Elements where it is false are normalized like the others and have no part in the
            statistics.

    Raises:
        TypeError, ValueError: For an argument of the wrong type or out of range, at once; for
            an input that the layer cannot normalize, when it is built; for training on one value per
            channel, where the shape is known. Where it is not, the output is `beta`, and the moving
            variance averages a 0.

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
        bias_correction=False,
        virtual_batch_size=None,
        group_size=None,
        fused=None,
        activation=None,
        frozen=False,
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
        check_combination(
            momentum=momentum,
            bias_correction=bias_correction,
            renorm=renorm,
            virtual_batch_size=virtual_batch_size,
            synchronized=synchronized,
            group_size=group_size,
            fused=fused,
        )
        self.momentum = None if momentum is None else checked_number("momentum", momentum, at_least=0, at_most=1)
        self.bias_correction = bool(bias_correction)
        self.fused = checked_choice("fused", fused, (None, True, False))
        self.virtual_batch_size = checked_size("virtual_batch_size", virtual_batch_size)
        self.renorm = bool(renorm)
        self.renorm_clipping = checked_clipping(renorm_clipping) if renorm else renorm_clipping
        self.renorm_momentum = checked_number("renorm_momentum", renorm_momentum, at_least=0, at_most=1)
        self.synchronized = bool(synchronized)
        self.group_size = checked_size("group_size", group_size)
        self.unbiased = bool(unbiased)
        self.activation = keras.activations.get(activation)
        self.frozen = bool(frozen)
        self.moving_mean_initializer = keras.initializers.get(moving_mean_initializer)
        self.moving_variance_initializer = keras.initializers.get(moving_variance_initializer)
        for name in STATISTICS:
            setattr(self, name, None)

    def build(self, input_shape):
        super().build(input_shape)
        self.input_spec = exact_rank(self.axis, input_shape)
        if self.virtual_batch_size and 0 in axes_of(self.axis, input_shape):
            raise ValueError(
                "`axis` must not hold the batch axis with `virtual_batch_size`. "
                f"Received: axis={self.axis}, virtual_batch_size={self.virtual_batch_size}."
            )
        shape = self.sizes
        self.moving_mean = self.add_statistic("moving_mean", shape, self.moving_mean_initializer)
        self.moving_variance = self.add_statistic("moving_variance", shape, self.moving_variance_initializer)
        if self.renorm:
            self.moving_stddev = self.add_statistic("moving_stddev", shape, self._initial_stddev)
            self.renorm_mean = self.add_statistic("renorm_mean", shape, clone(self.moving_mean_initializer))
            self.renorm_stddev = self.add_statistic("renorm_stddev", shape, self._initial_stddev)
        if self.momentum is None or self.bias_correction:
            self.steps = self.add_statistic("steps", (), "zeros")

    def _initial_stddev(self, shape, dtype=None):
        return keras.ops.sqrt(clone(self.moving_variance_initializer)(shape, dtype=dtype))

    @property
    def statistics(self):
        """The weights that no gradient trains, by name."""
        found = {name: getattr(self, name) for name in STATISTICS}
        return {name: weight for name, weight in found.items() if weight is not None}

    def call(self, inputs, training=None, mask=None):
        inputs = with_known_sizes(float_tensor(inputs), self.axis, self.sizes)
        gamma, beta = tensor_or_none(self.gamma), tensor_or_none(self.beta)
        statistics = {name: tensor_or_none(weight) for name, weight in self.statistics.items()}
        axes = axes_of(self.axis, inputs.shape)
        activation = self.activation
        if training and self.trainable and not self.frozen:
            outputs, statistics = batch_norm_training(
                inputs,
                gamma,
                beta,
                statistics,
                axes=axes,
                momentum=self.momentum,
                epsilon=self.epsilon,
                unbiased=self.unbiased,
                weights=None if mask is None else weights_of(mask, inputs),
                fused=self.fused,
                virtual_batch_size=self.virtual_batch_size,
                synchronized=self.synchronized,
                group_size=self.group_size,
                renorm_momentum=self.renorm_momentum if self.renorm else None,
                renorm_clipping=tuple(map((self.renorm_clipping or {}).get, CLIPPING)) if self.renorm else None,
                relu=activation is keras.activations.relu,
            )
            if activation is keras.activations.relu:
                activation = keras.activations.linear
            for name, value in statistics.items():
                getattr(self, name).assign(value)
        else:
            mean, variance = statistics["moving_mean"], statistics["moving_variance"]
            outputs = batch_norm_inference(inputs, gamma, beta, mean, variance, axes=axes, epsilon=self.epsilon)
        return activation(tf.cast(outputs, self.compute_dtype))

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
            "group_size": self.group_size,
            "unbiased": self.unbiased,
            "bias_correction": self.bias_correction,
            "virtual_batch_size": self.virtual_batch_size,
            "fused": self.fused,
            "activation": keras.activations.serialize(self.activation),
            "frozen": self.frozen,
        }


def clone(initializer):
    """The same initializer again, which may be called once more."""
    return initializer.__class__.from_config(initializer.get_config())
