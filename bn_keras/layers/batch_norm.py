"""Batch normalization as a Keras layer."""

import functools

import keras
import tensorflow as tf

from bn_keras.layers.arguments import (
    ACTIVATION,
    CENTER_AND_SCALE,
    EPSILON,
    FROZEN,
    INITIALIZERS,
    REGULARIZERS_AND_CONSTRAINTS,
    Argument,
    flag,
    initializer,
    number,
)
from bn_keras.layers.base import (
    AXIS,
    Shape,
    StatisticsLayer,
    axes_of,
    exact_rank,
    mask_along,
    tensor_or_none,
)
from bn_keras.layers.checks import CLIPPING, checked_choice, checked_clipping, checked_momentum, checked_size
from bn_keras.layers.combinations import check_combination
from bn_keras.ops import batch_norm
from bn_keras.ops.settings import Renorm, Settings, State

STATISTICS = ("moving_mean", "moving_variance", "moving_stddev", "renorm_mean", "renorm_stddev", "steps")


@keras.saving.register_keras_serializable(package="bn_keras")
class BatchNorm(StatisticsLayer):
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
        **kwargs: The arguments of `keras.layers.Layer`: `name`, `dtype`, `trainable`, …

    Call arguments:
        inputs: The tensor to normalize.
        training: `True` uses (and learns from) the batch's moments, `False` the moving ones.
            A layer with `trainable = False` always runs as in inference, as in Keras.
        mask: Optional, of the sizes of `inputs` along its leading axes, or 1 where it is the same for
            all. Elements where it is false are normalized like the others and have no part in the
            statistics, whatever their values: NaN and infinity change nothing either.

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

    arguments = (
        AXIS,
        Argument("momentum", 0.99, checked_momentum, annotation=float | None),
        EPSILON,
        *CENTER_AND_SCALE,
        *INITIALIZERS,
        initializer("moving_mean_initializer", "zeros"),
        initializer("moving_variance_initializer", "ones"),
        *REGULARIZERS_AND_CONSTRAINTS,
        flag("renorm", False),
        Argument("renorm_clipping", None, annotation=dict | None),
        number("renorm_momentum", 0.99, at_most=1),
        flag("synchronized", False),
        flag("unbiased", True),
        flag("bias_correction", False),
        Argument(
            "virtual_batch_size", None, functools.partial(checked_size, "virtual_batch_size"), annotation=int | None
        ),
        Argument("group_size", None, functools.partial(checked_size, "group_size"), annotation=int | None),
        Argument(
            "fused",
            None,
            functools.partial(checked_choice, "fused", choices=(None, True, False)),
            annotation=bool | None,
        ),
        ACTIVATION,
        FROZEN,
    )

    def check_arguments(self) -> None:
        check_combination(self)
        if self.renorm:
            self.renorm_clipping = checked_clipping(self.renorm_clipping)
        for name in STATISTICS:
            setattr(self, name, None)

    def build(self, input_shape: Shape) -> None:
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
    def statistics(self) -> dict[str, keras.Variable]:
        """The weights that no gradient trains, by name."""
        found = {name: getattr(self, name) for name in STATISTICS}
        return {name: weight for name, weight in found.items() if weight is not None}

    def settings(self, axes: tuple[int, ...]) -> Settings:
        """How the ops normalize an input with the channels at `axes`."""
        renorm = None
        if self.renorm:
            limits = (self.renorm_clipping.get(name) for name in CLIPPING)
            renorm = Renorm(self.renorm_momentum, *(None if each is None else float(each) for each in limits))
        return Settings(
            axes=axes,
            epsilon=self.epsilon,
            momentum=self.momentum,
            unbiased=self.unbiased,
            renorm=renorm,
            virtual_batch_size=self.virtual_batch_size,
            synchronized=self.synchronized,
            group_size=self.group_size,
            fused=self.fused,
            relu=self.activation is keras.activations.relu,
        )

    def call(self, inputs: tf.Tensor, training: bool | None = None, mask: tf.Tensor | None = None) -> tf.Tensor:
        inputs, axes = self.prepared(inputs)
        settings, state = self.settings(axes), State(*(tensor_or_none(getattr(self, name)) for name in STATISTICS))
        batch = inputs, *self.scale_and_offset(), state, settings
        if not self.learns(training):
            return self.activation(tf.cast(batch_norm.infer(*batch), self.compute_dtype))
        outputs, state = batch_norm.train(*batch, mask_along(mask, inputs))
        self.assign_statistics(state)
        outputs = tf.cast(outputs, self.compute_dtype)
        return outputs if settings.relu else self.activation(outputs)


def clone(initializer: keras.initializers.Initializer) -> keras.initializers.Initializer:
    """The same initializer again, which may be called once more."""
    return initializer.__class__.from_config(initializer.get_config())
