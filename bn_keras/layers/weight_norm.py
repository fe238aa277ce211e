"""Weight normalization as a Keras layer."""

import typing

import keras
import tensorflow as tf

from bn_keras.layers.arguments import number
from bn_keras.layers.kernel_layer import KernelLayer, prefix_of, shape_of_outputs, wrapped_layer
from bn_keras.ops.kernel_norm import kernel_norms, weight_norm


@keras.saving.register_keras_serializable(package="bn_keras")
class WeightNorm(KernelLayer):
    r"""Splits the kernel of a linear layer into a norm and a direction per output channel, which train apart.

    $$ y = \operatorname{layer}_w(x) \qquad w = g \frac{v}{\sqrt{\sum_i v_i^2 + \epsilon}} $$

    The sum is taken over the fan-in of one output channel. The wrapped layer computes with w. Its kernel is v, which
    starts as `kernel_initializer` says. g starts at the norm of v, so the first outputs are those of the layer alone,
    and a layer that is wrapped after its training computes what it did.
    `bn_keras.surgery.initialize_weight_norm` sets g and the bias by a batch of data instead, as the paper does.

    - Training and inference compute the same; the batch plays no part.
    - The regularizer and the constraint of the kernel apply to v, whose norm does not change w. Weight decay of g
      shrinks w.
    - `bn_keras.surgery.fold` replaces the wrapper by the plain layer with the kernel w.
    - A layer with LoRA weights and a quantized layer are refused: fold first.

    Norms are float32 at least, and the output has the compute dtype of the wrapped layer. The weights are those of the
    wrapped layer, and `g` with the sizes of the kernel along the output channels: `(units,)`, `(filters,)`, or
    `(channels, depth_multiplier)` of a depthwise convolution. A separable convolution has a `depthwise_g` and a
    `pointwise_g`.

    Args:
        layer: Keras layer: `Dense`, `EinsumDense`, `Conv1D` to `Conv3D`, or a transposed, depthwise or separable
            convolution. It may be built and trained. The wrapper has its dtype policy.
        epsilon: Float ≥ 0 that is added to the squared norm. Defaults to `1e-12`.
        **kwargs: Arguments of `keras.layers.Layer`: `name`, `trainable`, `activity_regularizer`, …

    Call arguments:
        inputs: Tensor that the wrapped layer takes.
        training: Bool or `None`. It changes nothing. Defaults to `None`.

    Input shape:
        That of the wrapped layer.

    Output shape:
        That of the wrapped layer.

    Raises:
        TypeError: If `layer` is no such layer, when the wrapper is made.
        ValueError: If the layer has an activity regularizer, LoRA weights, quantized weights or another `dtype` than
            the wrapper; if an output channel of the kernel starts with zeros, which have no direction.

    References:
        [Salimans and Kingma 2016](https://arxiv.org/abs/1602.07868), section 2.

    Example:

    >>> layer = WeightNorm(keras.layers.Dense(1, kernel_initializer="ones"))
    >>> layer(keras.ops.array([[1.0, 2.0, 3.0, 4.0]])).numpy().tolist()
    [[10.0]]
    >>> layer.g.numpy().tolist()
    [2.0]
    """

    arguments = wrapped_layer("WeightNorm"), number("epsilon", 1e-12)

    if typing.TYPE_CHECKING:  # what a type checker sees; `arguments` makes the constructor

        def __init__(self, layer: keras.layers.Layer, epsilon: float = 1e-12, **kwargs: typing.Any) -> None: ...

    def build_kernel(self, name: str, kernel: keras.Variable, axes: tuple[int, ...]) -> None:
        def initializer(shape, dtype=None):
            norms = kernel_norms(tf.convert_to_tensor(kernel), axes, self.epsilon)
            if tf.executing_eagerly() and not kernel.numpy().any(axes).all():
                raise ValueError(
                    f"WeightNorm cannot take the {name} of {self.layer.name!r}, which starts with an output channel "
                    "of zeros: zeros have no direction, and would never train. Use another initializer."
                )
            return tf.cast(norms, dtype or norms.dtype)

        g = f"{prefix_of(name)}g"
        shape = shape_of_outputs(kernel, axes)
        setattr(self, g, self.add_weight(name=g, shape=shape, initializer=initializer, autocast=False))

    def effective_kernel(self, name: str, kernel: tf.Tensor, axes: tuple[int, ...]) -> tf.Tensor:
        g = getattr(self, f"{prefix_of(name)}g")
        return weight_norm(kernel, tf.convert_to_tensor(g), axes, self.epsilon)
