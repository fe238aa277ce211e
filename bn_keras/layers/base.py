"""What all normalization layers share: the scale and offset, and the checks of arguments."""

import numbers
import operator

import keras


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

    def compute_output_shape(self, input_shape):
        channel_axis(self.axis, input_shape)
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


def checked_axis(axis):
    if isinstance(axis, (list, tuple)):
        raise NotImplementedError(
            f"`axis` must be a single int in this version of bn_keras. Received: axis={axis!r}. "
            "Reshape the axes into one, or name the one to normalize."
        )
    if isinstance(axis, bool) or not hasattr(axis, "__index__"):
        raise TypeError(
            f"`axis` must be an int, the axis of the channels. Received: axis={axis!r} "
            f"(of type {type(axis).__name__}). Use -1 for channels last, 1 for channels first."
        )
    return operator.index(axis)


def checked_number(name, value, at_least, at_most=float("inf")):
    allowed = f"a number ≥ {at_least}" if at_most == float("inf") else f"in [{at_least}, {at_most}]"
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(
            f"`{name}` must be {allowed}. Received: {name}={value!r} (of type {type(value).__name__}). Pass a float."
        )
    if not at_least <= value <= at_most:
        raise ValueError(f"`{name}` must be {allowed}. Received: {name}={value!r}. Pass a float within.")
    return float(value)


def channel_axis(axis, input_shape):
    """`axis` as a non-negative int, once the shape it indexes is known."""
    rank = len(input_shape)
    if rank < 2:
        raise ValueError(
            "The input must have rank ≥ 2, (batch, …, channels). "
            f"Received: an input of shape {tuple(input_shape)}. Add a batch axis."
        )
    if not -rank <= axis < rank:
        raise ValueError(
            f"`axis` must be in [{-rank}, {rank - 1}] for an input of rank {rank}. "
            f"Received: axis={axis}, an input of shape {tuple(input_shape)}. "
            "Use -1 for channels last, 1 for channels first."
        )
    if input_shape[axis] is None:
        raise ValueError(
            f"The size of the axis to normalize must be known. Received: axis={axis}, an input of "
            f"shape {tuple(input_shape)}. Give the input a shape with the number of channels in it."
        )
    return axis % rank
