"""The kernels of Keras' linear layers: where their output channels lie, and a call with other values."""

import keras
import tensorflow as tf

LAYERS = keras.layers
OUTPUTS_LAST = (LAYERS.Dense, LAYERS.Conv1D, LAYERS.Conv2D, LAYERS.Conv3D)
TRANSPOSED = (LAYERS.Conv1DTranspose, LAYERS.Conv2DTranspose, LAYERS.Conv3DTranspose)
DEPTHWISE = (LAYERS.DepthwiseConv1D, LAYERS.DepthwiseConv2D)
SEPARABLE = (LAYERS.SeparableConv1D, LAYERS.SeparableConv2D)
LINEAR = (*OUTPUTS_LAST, *TRANSPOSED, *DEPTHWISE, *SEPARABLE, LAYERS.EinsumDense)


def kernels_of(layer: keras.layers.Layer) -> dict[str, tuple[int, ...]]:
    """The axes of the fan-in of each kernel of a built layer, by the name of the kernel.

    >>> layer = keras.layers.Conv2DTranspose(8, 3)
    >>> layer.build((None, 16, 16, 4))
    >>> layer.kernel.shape, kernels_of(layer)
    (TensorShape([3, 3, 8, 4]), {'kernel': (0, 1, 3)})
    """
    if type(layer) in SEPARABLE:
        outputs = {"depthwise_kernel": (-2, -1), "pointwise_kernel": (-1,)}
    elif type(layer) in DEPTHWISE:
        outputs = {"kernel": (-2, -1)}
    elif type(layer) in TRANSPOSED:
        outputs = {"kernel": (-2,)}
    elif type(layer) is LAYERS.EinsumDense:
        _, kernel, output = einsum_labels(layer)
        return {"kernel": tuple(i for i, label in enumerate(kernel) if label not in output)}
    else:
        outputs = {"kernel": (-1,)}
    return {name: all_but(axes, len(getattr(layer, name).shape)) for name, axes in outputs.items()}


def all_but(axes: tuple[int, ...], rank: int) -> tuple[int, ...]:
    return tuple(i for i in range(rank) if i - rank not in axes)


def einsum_labels(layer: keras.layers.Layer) -> tuple[str, str, str]:
    """The labels of input, kernel and output in the equation of an `EinsumDense`."""
    operands, output = layer.equation.replace(" ", "").split("->")
    inputs, kernel = operands.split(",")
    return inputs, kernel, output


def called_with(layer: keras.layers.Layer, values: dict[str, tf.Tensor], inputs: tf.Tensor) -> tf.Tensor:
    """The output of a layer with other values of some variables, by name; gradients flow through them.

    The scope hides a scope around it, such as that of `stateless_call`, so it holds all variables of the layer.
    """
    state = [(variable, values.get(variable.name, variable.value)) for variable in layer.variables]
    with keras.StatelessScope(state):
        return layer(inputs)


class AsStored(keras.layers.Layer):
    """Calls a function that reads variables, which have the dtype that they are stored in.

    Keras casts the variables of the outermost layer of a call to its compute dtype, even with `autocast=False`. Within
    that layer, this one ends it.
    """

    def call(self, inputs, read):
        return read()


AS_STORED = AsStored(autocast=False, dtype="float32", name="as_stored")


def checked_linear(owner: str, layer: keras.layers.Layer | dict) -> keras.layers.Layer:
    """A linear layer of Keras that computes by its kernels alone; a dict is its configuration in a stored model.

    Raises:
        TypeError, ValueError: For any other layer, with the way out.
    """
    if isinstance(layer, dict):
        layer = keras.saving.deserialize_keras_object(layer)
    if type(layer) not in LINEAR:
        raise TypeError(
            f"`layer` must be one of {', '.join(kind.__name__ for kind in LINEAR)} of keras.layers. "
            f"Received: layer={layer!r} (of type {type(layer).__name__}). Wrap each linear layer by itself: "
            f"{owner}(keras.layers.Dense(8))."
        )
    if layer.activity_regularizer is not None:
        raise ValueError(
            f"`layer` must have no activity regularizer. Received: {layer.name!r} with {layer.activity_regularizer!r}. "
            f"Pass it to the wrapper instead: {owner}(layer, activity_regularizer=…)."
        )
    refuse_other_kernels(owner, layer)
    return layer


def refuse_other_kernels(owner: str, layer: keras.layers.Layer) -> None:
    """Refuses a layer whose kernel is more or less than a variable of floats."""
    if getattr(layer, "lora_enabled", False):
        raise ValueError(
            f"{owner} cannot normalize {layer.name!r}, which has LoRA weights beside its kernel. "
            "Fold the model with `bn_keras.surgery.fold`, and enable LoRA in the folded model."
        )
    if getattr(layer.dtype_policy, "quantization_mode", None) is not None:
        raise ValueError(
            f"{owner} cannot normalize {layer.name!r}, which is quantized ({layer.dtype_policy.name}). "
            "Fold the model with `bn_keras.surgery.fold`, and quantize the folded model."
        )
