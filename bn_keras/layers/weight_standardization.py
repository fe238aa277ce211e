"""Weight standardization as a Keras layer."""

import typing

import keras
import tensorflow as tf

from bn_keras.layers.arguments import Initializer, flag, initializer, number
from bn_keras.layers.kernel_layer import KernelLayer, prefix_of, shape_of_outputs, wrapped_layer
from bn_keras.ops.kernel_norm import fan_in, weight_standardization


@keras.saving.register_keras_serializable(package="bn_keras")
class WeightStandardization(KernelLayer):
    r"""Gives each output channel of a linear layer's kernel the mean 0 and the variance 1.

    $$ y = \operatorname{layer}_w(x) \qquad w = \gamma \frac{v - \mu}{\sqrt{\sigma^2 + \epsilon}} $$

    The mean μ and the biased variance σ² are taken over the fan-in of one output channel. The wrapped layer computes
    with w. Its kernel is v, which starts as `kernel_initializer` says; the size of the first values does not matter.

    With `GroupNorm` behind each convolution it trains well with one example per device. The outputs have a variance of
    the fan-in times the mean square of the inputs, so put a normalization behind it, or divide by the root of the
    fan-in with `scaled=True`. `scaled=True, use_gain=True` is the scaled weight standardization of NFNets.

    - Training and inference compute the same; the batch plays no part.
    - The regularizer and the constraint of the kernel apply to v, whose mean and size do not change w.
    - `bn_keras.surgery.fold` replaces the wrapper by the plain layer with the kernel w.
    - A layer with LoRA weights and a quantized layer are refused: fold first.

    Moments are float32 at least, and the output has the compute dtype of the wrapped layer. The weights are those of
    the wrapped layer; with `use_gain=True` also `gain`, of the sizes of the kernel along the output channels:
    `(units,)`, `(filters,)`, or `(channels, depth_multiplier)` of a depthwise convolution. A separable convolution has
    a `depthwise_gain` and a `pointwise_gain`.

    Args:
        layer: Keras layer: `Dense`, `EinsumDense`, `Conv1D` to `Conv3D`, or a transposed, depthwise or separable
            convolution. It may be built. The wrapper has its dtype policy.
        epsilon: Float ≥ 0 that is added to the variance. Defaults to `1e-06`.
        scaled: Bool, whether to divide w by the root of the fan-in, so that the norm of each channel is γ. Defaults to
            `False`.
        use_gain: Bool, whether to multiply by a trainable γ per output channel. Defaults to `False`.
        gain_initializer: Initializer of `gain`. Defaults to `"ones"`.
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
            the wrapper; if the fan-in is 1, as one weight minus its mean is 0.

    References:
        - [Qiao et al. 2019](https://arxiv.org/abs/1903.10520), section 3.
        - [Brock et al. 2021](https://arxiv.org/abs/2101.08692), section 4, for `scaled` and `use_gain`.

    Example:

    >>> layer = WeightStandardization(keras.layers.Dense(1), epsilon=0.0)
    >>> layer.build((None, 2))
    >>> layer.set_weights([keras.ops.array([[3.0], [5.0]]), keras.ops.array([0.5])])
    >>> layer(keras.ops.array([[1.0, 10.0]])).numpy().tolist()
    [[9.5]]
    """

    arguments = (
        wrapped_layer("WeightStandardization"),
        number("epsilon", 1e-6),
        flag("scaled", False),
        flag("use_gain", False),
        initializer("gain_initializer", "ones"),
    )

    if typing.TYPE_CHECKING:  # what a type checker sees; `arguments` makes the constructor

        def __init__(
            self,
            layer: keras.layers.Layer,
            epsilon: float = 1e-6,
            scaled: bool = False,
            use_gain: bool = False,
            gain_initializer: Initializer = "ones",
            **kwargs: typing.Any,
        ) -> None: ...

    def build_kernel(self, name: str, kernel: keras.Variable, axes: tuple[int, ...]) -> None:
        if fan_in(kernel.shape, axes) < 2:
            raise ValueError(
                f"WeightStandardization cannot take the {name} of {self.layer.name!r} of shape {tuple(kernel.shape)}: "
                "each output has one weight, and one weight minus its mean is 0. Use WeightNorm, or the plain layer."
            )
        if self.use_gain:
            gain = f"{prefix_of(name)}gain"
            shape = shape_of_outputs(kernel, axes)
            weight = self.add_weight(name=gain, shape=shape, initializer=self.gain_initializer, autocast=False)
            setattr(self, gain, weight)

    def effective_kernel(self, name: str, kernel: tf.Tensor, axes: tuple[int, ...]) -> tf.Tensor:
        gain = tf.convert_to_tensor(getattr(self, f"{prefix_of(name)}gain")) if self.use_gain else None
        return weight_standardization(kernel, gain, axes, self.epsilon, self.scaled)
