"""Batch normalization per domain as a Keras layer."""

import operator
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
)
from bn_keras.layers.base import AXIS, Shape, StatisticsLayer, axes_of, exact_rank, mask_along, tensor_or_none
from bn_keras.layers.checks import checked_domains, checked_momentum
from bn_keras.ops import domains as ops
from bn_keras.ops.settings import Settings, State


@keras.saving.register_keras_serializable(package="bn_keras")
class DomainBatchNorm(StatisticsLayer):
    r"""Normalizes each channel by the mean and variance of the examples of one domain.

    $$ y = \gamma_d \frac{x - \mu_d}{\sqrt{\sigma_d^2 + \epsilon}} + \beta_d $$

    A domain is a source of examples that has statistics of its own: clean or adversarial, real or generated, one
    camera or another. In training, μ and σ² are the mean and the (biased) variance of those elements of the batch that
    belong to domain d, and the moving averages of this domain follow them. In inference, the moving averages of the
    domain replace them.

    A mixed batch gives each example its domain, and each domain is normalized by its own moments. A domain without an
    element in the batch keeps its statistics. A domain with one value per channel outputs `beta` in training and keeps
    its statistics, because one value has no variance.

    The moving statistics have the shape `(domains, channels)`. γ and β have the shape `(channels,)`, or
    `(domains, channels)` with `shared_affine=False`. Moments and moving statistics are float32 at least under every
    dtype policy, and the output has the layer's compute dtype.

    A mixed batch costs a few passes over the input more than a batch of one domain, and small tensors of the shape
    `(batch, domains, channels)`.

    Args:
        domains: Int ≥ 2, the number of domains. Defaults to `2`.
        axis: Int, or list or tuple of ints, as in `BatchNorm`; not the batch axis. Defaults to `-1`.
        momentum: Float in [0, 1], the share of its old value that a moving average keeps at each step of its domain, or
            `None` for the average of all batches of the domain. Defaults to `0.99`.
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
        shared_affine: Bool, whether all domains share γ and β. Defaults to `True`.
        synchronized: Bool, whether to take the moments of a domain over all replicas of a `tf.distribute` strategy, as
            in `BatchNorm`. Replicas may have different domains. Otherwise each replica normalizes by its own moments.
            The moving statistics average over all replicas either way. Defaults to `False`.
        unbiased: Bool, whether the moving variance averages the Bessel-corrected variance. Defaults to `True`.
        bias_correction: Bool, whether to correct the moving averages for their initial values. Defaults to `False`.
        activation: Keras activation of the output (a str, function or dict), or `None`. Defaults to `None`.
        frozen: Bool, whether training runs as inference does: the layer uses its moving statistics and keeps them, and
            goes on learning γ and β. Defaults to `False`.
        **kwargs: Arguments of `keras.layers.Layer`: `name`, `dtype`, `trainable`, …

    Call arguments:
        inputs: Tensor to normalize.
        domain: Int for the whole batch; or int tensor of shape `()` for the whole batch, or `(batch,)` for each
            example. In a functional model, pass an int to fix the domain or a `keras.Input((), dtype="int32")` to make
            it an input of the model. There is no default. A value that is out of range is an error where it is known,
            and in a training step on a CPU that XLA does not compile. Elsewhere the output of the example is NaN, and
            the example counts in no statistics. Another number of domains than of examples is an error, in a graph too.
        training: Bool or `None`, as in `BatchNorm`. Defaults to `None`.
        mask: Tensor or `None`, as in `BatchNorm`: elements whose mask is false do not count in the statistics. Defaults
            to `None`.
        inputs_mask: Tensor or `None`. Keras passes the mask of `inputs` here when `domain` is a tensor. Defaults to
            `None`.

    Input shape:
        `(batch, …, channels)`, of any rank ≥ 2, with the channels at `axis`.

    Output shape:
        The input shape.

    Raises:
        TypeError, ValueError: For an argument of the wrong type or out of range, when the layer is made. For an input
            that the layer cannot normalize, when the layer is built. For a `domain` that is missing, of the wrong type
            or shape, or out of range, when the layer is called. For training on one value per channel, where the shape
            is known.

    References:
        - [Chang et al. 2019](https://arxiv.org/abs/1906.03950), section 3.1, for adaptation.
        - [Xie et al. 2020](https://arxiv.org/abs/1911.09665), section 4.2, for adversarial training, with
          `shared_affine=False`.

    Example:

    >>> layer = DomainBatchNorm(domains=2, momentum=0.0)
    >>> x = keras.ops.array([[1.0], [10.0], [3.0], [30.0]])
    >>> layer(x, domain=keras.ops.array([0, 1, 0, 1]), training=True).numpy().round(2).tolist()
    [[-1.0], [-1.0], [1.0], [1.0]]
    >>> layer.moving_mean.numpy().tolist()
    [[2.0], [20.0]]
    >>> inputs, domain = keras.Input((1,)), keras.Input((), dtype="int32", name="domain")
    >>> model = keras.Model([inputs, domain], layer(inputs, domain=domain))
    """

    arguments = (
        Argument("domains", 2, checked_domains, annotation=int),
        AXIS,
        Argument("momentum", 0.99, checked_momentum, annotation=float | None),
        EPSILON,
        *CENTER_AND_SCALE,
        *INITIALIZERS,
        initializer("moving_mean_initializer", "zeros"),
        initializer("moving_variance_initializer", "ones"),
        *REGULARIZERS_AND_CONSTRAINTS,
        flag("shared_affine", True),
        flag("synchronized", False),
        flag("unbiased", True),
        flag("bias_correction", False),
        ACTIVATION,
        FROZEN,
    )

    if typing.TYPE_CHECKING:  # what a type checker sees; `arguments` makes the constructor

        def __init__(
            self,
            domains: int = 2,
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
            shared_affine: bool = True,
            synchronized: bool = False,
            unbiased: bool = True,
            bias_correction: bool = False,
            activation: Activation = None,
            frozen: bool = False,
            **kwargs: typing.Any,
        ) -> None: ...

    steps = None

    def check_arguments(self) -> None:
        if self.momentum is None and self.bias_correction:
            raise ValueError(
                "`momentum=None` cannot be combined with `bias_correction=True`: the average of all batches has no "
                "bias to correct. Received: momentum=None, bias_correction=True. Leave one at its default."
            )

    @property
    def affine_shape(self) -> tuple[int, ...]:
        return self.sizes if self.shared_affine else (self.domains, *self.sizes)

    def build(self, input_shape: Shape) -> None:
        if 0 in axes_of(self.axis, input_shape):
            raise ValueError(
                "`axis` must not hold the batch axis, whose examples belong to domains. "
                f"Received: axis={self.axis}, an input of shape {tuple(input_shape)}. Leave 0 out of `axis`."
            )
        super().build(input_shape)
        self.input_spec = exact_rank(self.axis, input_shape)
        shape = self.domains, *self.sizes
        self.moving_mean = self.add_statistic("moving_mean", shape, self.moving_mean_initializer)
        self.moving_variance = self.add_statistic("moving_variance", shape, self.moving_variance_initializer)
        if self.momentum is None or self.bias_correction:
            self.steps = self.add_statistic("steps", (self.domains,), "zeros")

    def settings(self, axes: tuple[int, ...]) -> Settings:
        return Settings(
            axes=axes,
            epsilon=self.epsilon,
            momentum=self.momentum,
            unbiased=self.unbiased,
            synchronized=self.synchronized,
            relu=self.activation is keras.activations.relu,
        )

    def compute_output_spec(self, inputs, domain=None, training=None, mask=None, inputs_mask=None):
        self.checked_domain(domain, inputs)
        return super().compute_output_spec(inputs)

    def call(
        self,
        inputs: tf.Tensor,
        domain: int | tf.Tensor | None = None,
        training: bool | None = None,
        mask: tf.Tensor | None = None,
        inputs_mask: tf.Tensor | None = None,
    ) -> tf.Tensor:
        learns = self.learns(training)
        domain = self.checked_domain(domain, inputs)
        if not isinstance(domain, int):
            domain = ops.with_known_domains(tf.cast(domain, tf.int64), self.domains, learns)
            domain = ops.one_per_example(domain, inputs)
        inputs, axes = self.prepared(inputs)
        settings = self.settings(axes)
        steps = tensor_or_none(self.steps) if learns else None
        mean, variance = map(tf.convert_to_tensor, (self.moving_mean, self.moving_variance))
        state = State(mean, variance, steps=steps)
        batch = inputs, domain, *self.scale_and_offset(), state, settings
        if not learns:
            return self.activation(tf.cast(ops.infer(*batch), self.compute_dtype))
        mask = mask_along(inputs_mask if mask is None else mask, inputs)
        outputs, state = ops.train(*batch, mask)
        self.assign_statistics(state)
        outputs = tf.cast(outputs, self.compute_dtype)
        return outputs if settings.relu else self.activation(outputs)

    def checked_domain(self, domain: typing.Any, inputs: typing.Any) -> typing.Any:
        """The domain as an int within range or a tensor of ints; the values of a tensor are not checked yet."""
        expected = f"an int in [0, {self.domains - 1}], or an int tensor of shape () or (batch,)"
        if domain is None:
            raise ValueError(
                f"`domain` must be {expected}. Received: no domain for the layer {self.name!r}. Pass domain=…: an int "
                'for the whole batch, or in a functional model a keras.Input((), dtype="int32").'
            )
        if hasattr(domain, "__index__") and not hasattr(domain, "dtype") and not isinstance(domain, bool):
            domain = operator.index(domain)
            if not 0 <= domain < self.domains:
                raise ValueError(f"`domain` must be {expected}. Received: domain={domain}. Number domains from 0.")
            return domain
        if not keras.backend.is_int_dtype(getattr(domain, "dtype", "bool")):
            raise TypeError(
                f"`domain` must be {expected}. Received: domain={domain!r} (of type {type(domain).__name__}). "
                'Cast it with keras.ops.cast(domain, "int32").'
            )
        shape, batch = tuple(domain.shape), inputs.shape[0]
        if len(shape) > 1 or (shape and None not in (shape[0], batch) and shape[0] != batch):
            raise ValueError(
                f"`domain` must be {expected}. Received: a domain of shape {shape}, an input of shape "
                f"{tuple(inputs.shape)}. Reshape it with keras.ops.reshape(domain, (-1,))."
            )
        return domain
