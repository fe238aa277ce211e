"""The base class of the wrappers that normalize the kernel of a linear layer."""

import functools
import inspect

import keras
import tensorflow as tf

from bn_keras.layers.arguments import Argument, DeclaredLayer
from bn_keras.layers.base import Shape
from bn_keras.layers.kernels import AS_STORED, called_with, checked_linear, kernels_of, refuse_other_kernels


class KernelLayer(DeclaredLayer):
    """A layer around a linear layer, which it calls with a function of the kernel in the kernel's place.

    The kernel of the wrapped layer is the variable v that trains. A wrapper has the dtype policy of its layer.
    """

    layer: keras.layers.Layer
    dtype_policy: keras.DTypePolicy

    def check_arguments(self) -> None:
        policy = self.layer.dtype_policy
        if self.dtype_policy not in (policy, keras.config.dtype_policy()):
            raise ValueError(
                f"`dtype` must be that of the wrapped layer, {self.layer.name!r}: {policy.name}. "
                f"Received: dtype={self.dtype_policy.name!r}. Pass `dtype` to the wrapped layer alone."
            )
        self.dtype_policy = policy
        self.autocast = False  # the wrapped layer casts what it is called with
        self.supports_masking = self.layer.supports_masking

    def build(self, input_shape: Shape) -> None:
        if not self.layer.built:
            self.layer.build(input_shape)
        for name, axes in kernels_of(self.layer).items():
            self.build_kernel(name, getattr(self.layer, name), axes)

    def build_kernel(self, name: str, kernel: keras.Variable, axes: tuple[int, ...]) -> None:
        """Makes the weights that belong to one kernel."""

    def effective_kernel(self, name: str, kernel: tf.Tensor, axes: tuple[int, ...]) -> tf.Tensor:
        """What the layer is called with in the place of a kernel."""
        raise NotImplementedError

    def effective_kernels(self) -> dict[str, tf.Tensor]:
        """The kernels that the wrapped layer computes with, by name; `bn_keras.surgery.fold` stores them in it."""
        refuse_other_kernels(type(self).__name__, self.layer)
        return AS_STORED(tf.zeros([1]), read=self.read_kernels)

    def read_kernels(self) -> dict[str, tf.Tensor]:
        return {
            name: self.effective_kernel(name, tf.convert_to_tensor(getattr(self.layer, name)), axes)
            for name, axes in kernels_of(self.layer).items()
        }

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        return called_with(self.layer, self.effective_kernels(), inputs)

    def compute_mask(self, inputs, previous_mask=None):
        return self.layer.compute_mask(inputs, previous_mask)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return self.layer.compute_output_shape(input_shape)


def wrapped_layer(owner: str) -> Argument:
    """The argument `layer` of a wrapper, which has no default."""
    return Argument(
        "layer",
        inspect.Parameter.empty,
        functools.partial(checked_linear, owner),
        keras.saving.serialize_keras_object,
        keras.layers.Layer,
    )


def prefix_of(kernel: str) -> str:
    """The prefix of the names of the weights that belong to a kernel: separable convolutions have two.

    >>> prefix_of("kernel"), prefix_of("depthwise_kernel")
    ('', 'depthwise_')
    """
    return kernel.removesuffix("kernel")


def shape_of_outputs(kernel: keras.Variable, axes: tuple[int, ...]) -> tuple[int, ...]:
    """The sizes of a kernel along its output channels."""
    return tuple(size for axis, size in enumerate(kernel.shape) if axis not in axes)
