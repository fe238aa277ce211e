"""The multiply-adds of a network for one example, counted from its linear layers."""

import math

import keras

from bn_keras.layers.kernel_layer import KernelLayer
from bn_keras.models.features import has_kernel, nodes_of
from bn_keras.surgery.tree import is_graph

CONVOLUTIONS = (
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    keras.layers.DepthwiseConv1D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv1D,
    keras.layers.SeparableConv2D,
)
TRANSPOSED = keras.layers.Conv1DTranspose, keras.layers.Conv2DTranspose, keras.layers.Conv3DTranspose


def multiply_adds(model: keras.Model) -> tuple[int, tuple[str, ...]]:
    """Counts the multiply-adds of dense layers, convolutions and attention for one example.

    Attention counts every pair of positions, with a causal mask too.

    Args:
        model: A functional or Sequential model with fixed shapes.

    Returns:
        The number, and the names of the layers with a kernel that it leaves out because their count is not known.

    >>> images = keras.Input((4, 4, 3))
    >>> multiply_adds(keras.Model(images, keras.layers.Conv2D(5, 3, padding="same", name="conv")(images)))
    (2160, ())
    """
    total = 0
    unknown: list[str] = []
    for layer, shape in calls_in(model):
        if is_graph(layer) or isinstance(layer, keras.Sequential):
            inner_total, inner_unknown = multiply_adds(layer)
            total += inner_total
            unknown += inner_unknown
        elif has_kernel(layer):
            count = count_of(layer, shape)
            if count is None:
                unknown.append(layer.name)
            else:
                total += count
    return total, tuple(unknown)


def calls_in(model) -> list[tuple]:
    """Each call of a layer in a model, with the shape of its output."""
    if isinstance(model, keras.Sequential):
        return [(layer, layer.output.shape) for layer in model.layers]
    return [(node.layer, node.shape) for node in nodes_of(model)]


def count_of(layer, shape: tuple) -> int | None:
    """The multiply-adds of one call that gives an output of a shape; `None` for a layer of an unknown kind."""
    outer, layer = layer, layer.layer if isinstance(layer, KernelLayer) else layer
    kernels = sum(math.prod(weight.shape) for weight in layer.weights if "kernel" in weight.name)
    if isinstance(layer, keras.layers.Dense):
        return kernels * math.prod(shape[1:-1])
    if isinstance(layer, CONVOLUTIONS):
        return kernels * positions(layer, shape)
    if isinstance(layer, TRANSPOSED):
        return kernels * positions(layer, outer.input.shape)
    if isinstance(layer, keras.layers.EinsumDense):
        return kernels * repeats_of(layer, outer.input.shape)
    if isinstance(layer, keras.layers.MultiHeadAttention):
        return attention(layer)
    return None


def positions(layer, shape: tuple) -> int:
    """The number of positions of a tensor that a convolution takes or gives."""
    return math.prod(shape[2:] if layer.data_format == "channels_first" else shape[1:-1])


def repeats_of(layer, shape: tuple) -> int:
    """How many times an EinsumDense layer uses its kernel: the size of the input along the axes it does not sum."""
    inputs, _, rest = layer.equation.replace(" ", "").partition(",")
    kernel = rest.partition("->")[0]
    if "..." in inputs:  # the axes that are not named come first
        count = len(shape) - len(inputs.replace("...", ""))
        inputs = inputs.replace("...", "?" * count)
    sizes = zip(inputs[1:], shape[1:], strict=True)
    return math.prod(size for label, size in sizes if label not in kernel)


def attention(layer) -> int:
    """The multiply-adds of the projections, of the scores and of the weighted sum."""
    config = layer.get_config()
    heads, key_size = config["num_heads"], config["key_dim"]
    value_size = config["value_dim"] or key_size
    inputs = [tensor.shape for tensor in keras.tree.flatten(layer.input)]
    (_, queries, query_width), (_, values, value_width) = inputs[:2]
    key_width = inputs[2][-1] if len(inputs) > 2 else value_width
    projections = values * heads * (key_width * key_size + value_width * value_size)
    projections += queries * heads * (query_width * key_size + value_size * layer.output.shape[-1])
    return projections + queries * values * heads * (key_size + value_size)
