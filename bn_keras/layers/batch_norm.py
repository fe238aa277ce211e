"""Batch normalization as a Keras layer."""

import functools
import typing

import keras
import tensorflow as tf

from bn_keras.layers.arguments import (
    ACTIVATION,
    CENTER_AND_SCALE,
    EPSILON,
    FROZEN,
    INITIALIZERS,
    REGULARIZERS_AND_CONSTRAINTS,
    Activation,
    Argument,
    Constraint,
    Initializer,
    Regularizer,
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

# The fields of `State`, in their order.
STATISTICS = (
    "moving_mean", "moving_variance", "moving_stddev", "renorm_mean", "renorm_stddev", "steps",
    "accumulated_count", "accumulated_mean", "accumulated_squares", "accumulated_batches",
)  # fmt: skip


@keras.saving.register_keras_serializable(package="bn_keras")
class BatchNorm(StatisticsLayer):
    r"""Normalizes each channel by the mean and variance of the batch.

    $$ y = \gamma \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta $$

    In training, μ and σ² are the mean and the (biased) variance of the batch over every axis but `axis`. Two moving
    averages follow them:

        moving_mean     ← momentum · moving_mean     + (1 − momentum) · μ
        moving_variance ← momentum · moving_variance + (1 − momentum) · m/(m−1) · σ²

    In inference, the moving averages replace μ and σ², so the output of an example does not depend on the other
    examples.

    The layer is a drop-in for `keras.layers.BatchNormalization`: it has the same arguments, the same weights in the
    same order, and the same meaning of `training`, `trainable` and `mask`. Each weight has the shape `(channels,)`.
    Moments and moving statistics are float32 at least under every dtype policy, and the output has the layer's compute
    dtype.

    Args:
        axis: Int, the axis of the channels; 1 after a channels-first convolution. A list or tuple of ints gives each
            combination of positions along these axes its own mean, variance, scale and offset. Defaults to `-1`.
        momentum: Float in [0, 1], the share of its old value that a moving average keeps at each step. PyTorch's
            `momentum` is 1 minus this one. `None` averages all batches alike. Defaults to `0.99`.
        epsilon: Float ≥ 0 that is added to the variance. Defaults to `0.001`.
        center: Bool, whether to add the offset `beta`. Defaults to `True`.
        scale: Bool, whether to multiply by the scale `gamma`. Defaults to `True`.
        beta_initializer: Initializer of `beta`. Defaults to `"zeros"`.
        gamma_initializer: Initializer of `gamma`. Defaults to `"ones"`.
        moving_mean_initializer: Initializer of the moving mean. Defaults to `"zeros"`.
        moving_variance_initializer: Initializer of the moving variance. Defaults to `"ones"`.
        beta_regularizer: Regularizer of `beta`, or `None`. Defaults to `None`.
        gamma_regularizer: Regularizer of `gamma`, or `None`. Defaults to `None`.
        beta_constraint: Constraint of `beta`, or `None`. Defaults to `None`.
        gamma_constraint: Constraint of `gamma`, or `None`. Defaults to `None`.
        renorm: Bool, whether to use batch renormalization (Ioffe 2017): training normalizes a batch as inference would,
            as far as `renorm_clipping` allows. Defaults to `False`.
        renorm_clipping: Dict with the limits `"rmin"`, `"rmax"` and `"dmax"` of the correction, or `None` for no
            limits. Defaults to `None`.
        renorm_momentum: Float in [0, 1], the momentum of the averages that `renorm` corrects to. Defaults to `0.99`.
        synchronized: Bool, whether to take the moments over all replicas of a `tf.distribute` strategy. Training then
            runs one collective forward and one backward, and inference none; replicas may have batches of different
            sizes. Otherwise each replica normalizes by its own moments. The moving statistics average over all replicas
            either way, and are equal on all of them. Defaults to `False`.
        unbiased: Bool, whether the moving variance averages the Bessel-corrected variance, as Algorithm 2 of the paper,
            PyTorch and TensorFlow's fused kernel do. `False` averages the biased variance, as Keras 3 does. Defaults to
            `True`.
        bias_correction: Bool, whether to correct the moving averages for their initial values. Without the correction
            they lag for the first few times 1/(1 − momentum) steps. Defaults to `False`.
        virtual_batch_size: Int ≥ 2, the number of examples that training normalizes together (ghost batch norm, Hoffer
            et al. 2017), or `None` for the whole batch. It does not change inference. Defaults to `None`.
        group_size: Int ≥ 2, the number of neighbouring replicas that `synchronized=True` synchronizes with each other,
            or `None` for all replicas. Defaults to `None`.
        fused: Bool, whether training uses TensorFlow's fused kernel. `None` uses the kernel where it is safe and fast.
            `True` raises a `ValueError` where the kernel cannot be used. Where a mean exceeds 32 standard deviations,
            the kernel's float32 sums would lose the variance, so the layer normalizes that batch again without the
            kernel. Defaults to `None`.
        activation: Keras activation of the output (a str, function or dict), or `None`. `"relu"` is fused into the
            normalization: on a CPU, a large training step takes a third less time than with a separate layer. Defaults
            to `None`.
        frozen: Bool, whether training runs as inference does: the layer uses its moving statistics and keeps them, and
            goes on learning γ and β. `trainable = False` freezes γ and β too. `bn_keras.surgery.freeze` sets it.
            Defaults to `False`.
        accumulation_steps: Int ≥ 2, as the optimizer's `gradient_accumulation_steps`, or `None`. The layer pools count,
            mean and variance of so many training batches exactly, and then updates the moving statistics once, as one
            large batch of all of them would. Each batch is still normalized by its own moments. Several replicas pool
            the batches of all of them, synchronized or not. The sums are weights, so they survive a checkpoint between
            two updates; inference ignores them. The layer counts its calls in training: an empty or masked batch counts
            as a batch and adds nothing, a layer that is called twice per batch needs twice the number, and a training
            step that loss scaling skips, or a new optimizer between two updates, shifts the updates of the layer
            against those of the optimizer. Defaults to `None`.
        **kwargs: Arguments of `keras.layers.Layer`: `name`, `dtype`, `trainable`, …

    Call arguments:
        inputs: Tensor to normalize.
        training: Bool or `None`. `True` normalizes by the moments of the batch and updates the moving statistics;
            `False` normalizes by the moving statistics. `None` takes the mode that Keras sets in `fit`, `evaluate` and
            `predict`, and is `False` elsewhere. A layer with `trainable = False` always runs as in inference, as in
            Keras. Defaults to `None`.
        mask: Tensor that broadcasts against the leading axes of `inputs`, or `None`. Elements whose mask is false are
            normalized too, and do not count in the statistics; NaN and infinity there change nothing. Defaults to
            `None`.

    Input shape:
        `(batch, …, channels)`, of any rank ≥ 2, with the channels at `axis`.

    Output shape:
        The input shape.

    Raises:
        TypeError, ValueError: For an argument of the wrong type or out of range, when the layer is made. For an input
            that the layer cannot normalize, when the layer is built. For training on one value per channel, where the
            shape is known; where the shape is unknown, the output is `beta`, and the moving variance averages a 0.

    References:
        - [Ioffe and Szegedy 2015](https://arxiv.org/abs/1502.03167), Algorithms 1 and 2.
        - [Ioffe 2017](https://arxiv.org/abs/1702.03275) for `renorm`.
        - [Hoffer et al. 2017](https://arxiv.org/abs/1705.08741) for `virtual_batch_size`.

    Example:

    >>> layer = BatchNorm(momentum=0.9)
    >>> x = keras.ops.array([[1.0, 10.0], [3.0, 30.0]])
    >>> layer(x, training=True).numpy().round(2).tolist()
    [[-1.0, -1.0], [1.0, 1.0]]
    >>> [round(float(mean), 4) for mean in layer.moving_mean.numpy()]
    [0.2, 2.0]
    """

    arguments: typing.ClassVar[tuple[Argument, ...]] = (
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
        Argument(
            "accumulation_steps", None, functools.partial(checked_size, "accumulation_steps"), annotation=int | None
        ),
    )

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
            synchronized: bool = False,
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

    def check_arguments(self) -> None:
        check_combination(self)
        if self.renorm:
            self.renorm_clipping: dict = checked_clipping(self.renorm_clipping)
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
        if self.accumulation_steps:
            for name in ("accumulated_count", "accumulated_mean", "accumulated_squares"):
                setattr(self, name, self.add_statistic(name, shape, "zeros"))
            self.accumulated_batches = self.add_statistic("accumulated_batches", (), "zeros")

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
            accumulation_steps=self.accumulation_steps,
        )

    def call(self, inputs: tf.Tensor, training: bool | None = None, mask: tf.Tensor | None = None) -> tf.Tensor:
        inputs, axes = self.prepared(inputs)
        settings, learns = self.settings(axes), self.learns(training)
        needed = STATISTICS if learns else STATISTICS[:2]
        state = State(*(tensor_or_none(getattr(self, name)) for name in needed))
        batch = inputs, *self.scale_and_offset(), state, settings
        if not learns:
            return self.activation(tf.cast(batch_norm.infer(*batch), self.compute_dtype))
        outputs, state = batch_norm.train(*batch, mask_along(mask, inputs))
        self.assign_statistics(state)
        outputs = tf.cast(outputs, self.compute_dtype)
        return outputs if settings.relu else self.activation(outputs)


def clone(initializer: keras.initializers.Initializer) -> keras.initializers.Initializer:
    """The same initializer again, which may be called once more."""
    return initializer.__class__.from_config(initializer.get_config())
