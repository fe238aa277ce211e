"""The base classes of the layers, and what a layer does to its input first."""

import dataclasses

import keras
import tensorflow as tf

from bn_keras.layers.arguments import Argument, DeclaredLayer
from bn_keras.layers.checks import checked_axis, checked_channel_axis
from bn_keras.ops.moments import statistics_dtype

AXIS = Argument("axis", -1, checked_axis, annotation=int | list[int] | tuple[int, ...])
CHANNEL_AXIS = Argument("axis", -1, checked_channel_axis, annotation=int)

Shape = tuple[int | None, ...]


class ChannelLayer(DeclaredLayer):
    """A layer with an `axis`, along which its weights have the sizes of the input."""

    supports_masking = True

    def build(self, input_shape: Shape) -> None:
        self.sizes = sizes_along(self.axis, input_shape)

    def prepared(self, inputs: tf.Tensor) -> tuple[tf.Tensor, tuple[int, ...]]:
        """The input as floats, with the sizes along `axis` that the layer was built for; and the channel axes."""
        inputs = with_known_sizes(float_tensor(inputs), self.axis, self.sizes)
        return inputs, axes_of(self.axis, inputs.shape)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        axes_of(self.axis, input_shape)
        return input_shape


class NormalizationLayer(ChannelLayer):
    """A layer with an ε, and a trainable scale γ and offset β along `axis`."""

    gamma = None
    beta = None

    @property
    def affine_shape(self) -> tuple[int, ...]:
        """The shape of γ and β."""
        return self.sizes

    def build(self, input_shape: Shape) -> None:
        super().build(input_shape)
        if self.scale:
            self.gamma = self.add_weight(
                shape=self.affine_shape,
                name="gamma",
                initializer=self.gamma_initializer,
                regularizer=self.gamma_regularizer,
                constraint=self.gamma_constraint,
                autocast=False,
            )
        if self.center:
            self.beta = self.add_weight(
                shape=self.affine_shape,
                name="beta",
                initializer=self.beta_initializer,
                regularizer=self.beta_regularizer,
                constraint=self.beta_constraint,
                autocast=False,
            )

    def scale_and_offset(self) -> tuple[tf.Tensor | None, tf.Tensor | None]:
        return tensor_or_none(self.gamma), tensor_or_none(self.beta)


class StatisticsLayer(NormalizationLayer):
    """A layer that learns statistics in training, and normalizes by them in inference."""

    def learns(self, training: bool | None) -> bool:
        """Whether this call is a training step."""
        return bool(training) and self.trainable and not self.frozen

    def add_statistic(self, name: str, shape: tuple[int, ...], initializer) -> keras.Variable:
        return self.add_weight(
            shape=shape,
            name=name,
            initializer=initializer,
            dtype=statistics_dtype(tf.as_dtype(self.variable_dtype)).name,
            trainable=False,
            autocast=False,
        )

    def assign_statistics(self, state) -> None:
        """Assigns the fields of a state to the weights of these names."""
        for field in dataclasses.fields(state):
            value = getattr(state, field.name)
            if value is not None:
                getattr(self, field.name).assign(value)


def axes_of(axis: int | list[int], input_shape: Shape) -> tuple[int, ...]:
    """`axis` as rising non-negative ints, once the shape that it indexes is known."""
    rank, positions = len(input_shape), axis if isinstance(axis, list) else [axis]
    if rank < 2:
        raise ValueError(
            "The input must have rank ≥ 2, (batch, …, channels). "
            f"Received: an input of shape {tuple(input_shape)}. Add a batch axis."
        )
    if not all(-rank <= each < rank for each in positions):
        raise ValueError(
            f"`axis` must be in [{-rank}, {rank - 1}] for an input of rank {rank}. "
            f"Received: axis={axis}, an input of shape {tuple(input_shape)}. "
            "Use -1 for channels last, 1 for channels first."
        )
    axes = sorted({each % rank for each in positions})
    if len(axes) < len(positions):
        raise ValueError(f"`axis` must name different axes. Received: axis={axis} for an input of rank {rank}.")
    if any(input_shape[each] is None for each in axes):
        raise ValueError(
            f"The axis {axis} of the input tensor should have a defined dimension but the layer received an "
            f"input with shape {tuple(input_shape)}. Give the input a shape with the number of channels in it."
        )
    return tuple(axes)


def tensor_or_none(weight: keras.Variable | None) -> tf.Tensor | None:
    """A weight as a tensor: a variable would give every layer a trace of its own."""
    return None if weight is None else tf.convert_to_tensor(weight)


def float_tensor(inputs: tf.Tensor | tf.Variable) -> tf.Tensor:
    inputs = tf.convert_to_tensor(inputs)  # a compiled branch takes tensors, not variables
    return inputs if inputs.dtype.is_floating else tf.cast(inputs, tf.float32)


def sizes_along(axis: int | list[int], input_shape: Shape) -> tuple[int, ...]:
    return tuple(input_shape[each] for each in axes_of(axis, input_shape))  # type: ignore[misc]  # none of them is None


def with_known_sizes(inputs: tf.Tensor, axis: int | list[int], sizes: tuple[int, ...]) -> tf.Tensor:
    """`inputs` with the sizes along `axis` that the layer was built for, where a trace does not know them."""
    rank = inputs.shape.rank
    axes = sorted(each % rank for each in (axis if isinstance(axis, list) else [axis]))
    if all(inputs.shape[each] is not None for each in axes):
        return inputs
    known = dict(zip(axes, sizes, strict=True))
    return tf.ensure_shape(inputs, [known.get(i, size) for i, size in enumerate(inputs.shape)])


def exact_rank(axis: int | list[int], input_shape: Shape) -> keras.layers.InputSpec:
    """The `input_spec` of a layer whose statistics belong to one rank of input."""
    axes = axes_of(axis, input_shape)
    return keras.layers.InputSpec(ndim=len(input_shape), axes={each: input_shape[each] for each in axes})


def mask_along(mask, inputs: tf.Tensor) -> tf.Tensor | None:
    """A mask over the leading axes of the input, with the missing axes added."""
    if mask is None:
        return None
    mask = tf.convert_to_tensor(mask)
    missing = inputs.shape.rank - mask.shape.rank
    fits = missing >= 0 and all(
        size in (1, None) or other in (size, None) for size, other in zip(mask.shape, inputs.shape, strict=False)
    )
    if not fits:
        raise ValueError(
            "`mask` must have the sizes of the input along its leading axes, or 1. "
            f"Received: a mask of shape {mask.shape}, an input of shape {inputs.shape}. "
            "Reshape the mask so that its axes are the first ones of the input."
        )
    return tf.reshape(mask, tf.concat([tf.shape(mask), [1] * missing], 0)) if missing else mask
