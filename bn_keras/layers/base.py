"""What all normalization layers share: the scale and offset, and what a layer does to its input first."""

import keras
import tensorflow as tf

from bn_keras.layers.checks import checked_axis, checked_number
from bn_keras.ops.moments import statistics_dtype


class NormalizationLayer(keras.layers.Layer):
    """A layer with an ε, and a trainable scale γ and offset β along one axis."""

    def __init__(
        self,
        *,
        axis,
        epsilon,
        center,
        scale,
        beta_initializer,
        gamma_initializer,
        beta_regularizer,
        gamma_regularizer,
        beta_constraint,
        gamma_constraint,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.axis = checked_axis(axis)
        self.epsilon = checked_number("epsilon", epsilon, at_least=0)
        self.center = bool(center)
        self.scale = bool(scale)
        self.beta_initializer = keras.initializers.get(beta_initializer)
        self.gamma_initializer = keras.initializers.get(gamma_initializer)
        self.beta_regularizer = keras.regularizers.get(beta_regularizer)
        self.gamma_regularizer = keras.regularizers.get(gamma_regularizer)
        self.beta_constraint = keras.constraints.get(beta_constraint)
        self.gamma_constraint = keras.constraints.get(gamma_constraint)
        self.supports_masking = True
        self.gamma = None
        self.beta = None

    def build(self, input_shape):
        self.sizes = sizes_along(self.axis, input_shape)
        self.add_scale_and_offset(self.sizes)

    def add_scale_and_offset(self, shape):
        if self.scale:
            self.gamma = self.add_weight(
                shape=shape,
                name="gamma",
                initializer=self.gamma_initializer,
                regularizer=self.gamma_regularizer,
                constraint=self.gamma_constraint,
                autocast=False,
            )
        if self.center:
            self.beta = self.add_weight(
                shape=shape,
                name="beta",
                initializer=self.beta_initializer,
                regularizer=self.beta_regularizer,
                constraint=self.beta_constraint,
                autocast=False,
            )

    def add_statistic(self, name, shape, initializer):
        return self.add_weight(
            shape=shape,
            name=name,
            initializer=initializer,
            dtype=statistics_dtype(tf.as_dtype(self.variable_dtype)).name,
            trainable=False,
            autocast=False,
        )

    def compute_output_shape(self, input_shape):
        axes_of(self.axis, input_shape)
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "axis": self.axis,
            "epsilon": self.epsilon,
            "center": self.center,
            "scale": self.scale,
            "beta_initializer": keras.initializers.serialize(self.beta_initializer),
            "gamma_initializer": keras.initializers.serialize(self.gamma_initializer),
            "beta_regularizer": keras.regularizers.serialize(self.beta_regularizer),
            "gamma_regularizer": keras.regularizers.serialize(self.gamma_regularizer),
            "beta_constraint": keras.constraints.serialize(self.beta_constraint),
            "gamma_constraint": keras.constraints.serialize(self.gamma_constraint),
        }


def axes_of(axis, input_shape):
    """`axis` as rising non-negative ints, once the shape that they index is known."""
    rank, given = len(input_shape), axis if isinstance(axis, list) else [axis]
    if rank < 2:
        raise ValueError(
            "The input must have rank ≥ 2, (batch, …, channels). "
            f"Received: an input of shape {tuple(input_shape)}. Add a batch axis."
        )
    if not all(-rank <= each < rank for each in given):
        raise ValueError(
            f"`axis` must be in [{-rank}, {rank - 1}] for an input of rank {rank}. "
            f"Received: axis={axis}, an input of shape {tuple(input_shape)}. "
            "Use -1 for channels last, 1 for channels first."
        )
    axes = sorted({each % rank for each in given})
    if len(axes) < len(given):
        raise ValueError(f"`axis` must name different axes. Received: axis={axis} for an input of rank {rank}.")
    if any(input_shape[each] is None for each in axes):
        raise ValueError(
            f"The axis {axis} of the input tensor should have a defined dimension but the layer received an "
            f"input with shape {tuple(input_shape)}. Give the input a shape with the number of channels in it."
        )
    return tuple(axes)


def tensor_or_none(weight):
    """A weight as a tensor: a variable would give every layer a trace of its own."""
    return None if weight is None else tf.convert_to_tensor(weight)


def float_tensor(inputs):
    return inputs if inputs.dtype.is_floating else tf.cast(inputs, tf.float32)


def sizes_along(axis, input_shape):
    return tuple(input_shape[each] for each in axes_of(axis, input_shape))


def with_known_sizes(inputs, axis, sizes):
    """`inputs` with the sizes along `axis` that the layer was built for, where a trace does not know them."""
    rank = inputs.shape.rank
    axes = sorted(each % rank for each in (axis if isinstance(axis, list) else [axis]))
    if all(inputs.shape[each] is not None for each in axes):
        return inputs
    known = dict(zip(axes, sizes, strict=True))
    return tf.ensure_shape(inputs, [known.get(i, size) for i, size in enumerate(inputs.shape)])


def exact_rank(axis, input_shape):
    """The `input_spec` of a layer whose statistics belong to one rank of input."""
    axes = axes_of(axis, input_shape)
    return keras.layers.InputSpec(ndim=len(input_shape), axes={each: input_shape[each] for each in axes})


def weights_of(mask, inputs):
    """A mask over the leading axes of the input, with the missing ones added."""
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
