"""The stages of an image network: what a detector or a segmenter takes from it."""

import dataclasses
import graphlib
import math
import typing

import keras

from bn_keras.surgery.tree import is_graph, layers_of

# Layers that drop the positions, and layers that change the size without a stride.
WITHOUT_POSITIONS = (
    keras.layers.GlobalAveragePooling2D,
    keras.layers.GlobalMaxPooling2D,
    keras.layers.Reshape,
    keras.layers.Flatten,
)
WITHOUT_STRIDE = keras.layers.ZeroPadding2D, keras.layers.Cropping2D


def features(model: keras.Model) -> keras.Model:
    """Returns a model of the stage outputs of an image network, one for each stride.

    A stage output is the last tensor of its size that every path from the images to the outputs goes through. Where a
    size has no such tensor, as in NASNet, whose cells take two tensors each, it is the last addition or concatenation
    of this size. The new model shares its layers with `model`, so training one trains both.

    Args:
        model: A functional model of images `(batch, height, width, channels)` of a fixed size: a preset, a model of
            `keras.applications`, or your own.

    Returns:
        A functional `keras.Model` from the images to a dict: `"stride_2"` names the output at half the height and
        width, `"stride_4"` at a quarter, and so on. A stride is the product of the strides of the layers before.

    Raises:
        TypeError: If `model` is no functional model.
        ValueError: If `model` takes no images of a fixed size, or if a stage is inside of a model in it.

    >>> from bn_keras.models import build
    >>> {name: output.shape for name, output in features(build("resnet20")).output.items()}
    {'stride_1': (None, 32, 32, 16), 'stride_2': (None, 16, 16, 32), 'stride_4': (None, 8, 8, 64)}
    """
    check_images(model)
    stages = stages_of(model)
    if not stages:
        raise ValueError(
            f"`model` must be a network of convolutions. Received: {model.name!r}, "
            "which has no convolution whose outputs have positions."
        )
    outputs = {f"stride_{stride:g}": output for stride, output in stages.items()}
    return keras.Model(model.input, outputs, name=f"{model.name}_features")


def stages_of(model: keras.Model) -> dict[float, keras.KerasTensor]:
    """The stage outputs of an image network by stride, the smallest stride first."""
    cuts, merges = {}, {}
    for node in nodes_of(model):
        if is_stage(node):
            if node.is_cut:
                cuts[node.stride] = node.layer.output
            elif node.inputs > 1:
                merges[node.stride] = node.layer.output
    return dict(sorted((merges | cuts).items()))


@dataclasses.dataclass(frozen=True)
class Node:
    """A call of a layer in the graph of a model.

    Args:
        layer: The layer, or the operation of `keras.ops`.
        inputs: The number of tensors that it takes.
        shape: The shape of its output.
        stride: By how much the height of the images was divided up to here.
        is_cut: Whether every path from the images to the outputs goes through it.
        has_learned: Whether a layer with a kernel comes before it, or is it.
        has_positions: Whether the positions of the images are still there.
        is_shared: Whether the layer is called more than once.
    """

    layer: typing.Any
    inputs: int
    shape: tuple[int | None, ...]
    stride: float
    is_cut: bool
    has_learned: bool
    has_positions: bool
    is_shared: bool


def nodes_of(model: keras.Model) -> list[Node]:
    """The calls in the graph of a functional model, each behind those that it depends on."""
    layers = {operation.name: operation for operation in model.operations}
    sources, shapes, ends = calls_of(model)
    order = list(graphlib.TopologicalSorter(sources).static_order())
    last_use = {key: i for i, user in enumerate(order) for key in sources[user]} | dict.fromkeys(ends, len(order))
    nodes: dict = {}
    reach = 0  # the last call that takes a tensor from before this one
    for i, key in enumerate(order):
        layer, before = layers[key[0]], [nodes[source] for source in sources[key]]
        with_positions = [node for node in before if node.has_positions]
        shape = tuple(shapes.get(key, ()) or layer.output.shape)
        nodes[key] = Node(
            layer=layer,
            inputs=len(before),
            shape=shape,
            stride=stride_behind(with_positions[0], layer, shape) if with_positions else 1,
            is_cut=reach <= i,
            has_learned=has_kernel(layer) or any(node.has_learned for node in before),
            has_positions=len(shape) == 4
            and not isinstance(layer, WITHOUT_POSITIONS)
            and bool(with_positions or not before),
            is_shared=(key[0], 1) in sources,
        )
        reach = max(reach, last_use[key])
    return list(nodes.values())


def stride_behind(before: Node, layer, shape: tuple) -> float:
    """The stride behind a layer: by its `strides`, or by the power of two nearest to the ratio of the sizes."""
    height, smaller = before.shape[1], shape[1] if len(shape) == 4 else None
    if smaller is None or height is None or isinstance(layer, WITHOUT_STRIDE):
        return before.stride
    strides = getattr(getattr(layer, "layer", layer), "strides", None)  # of a wrapper those of its layer
    if strides is not None and (smaller < height or smaller == height == 1):
        return before.stride * (strides if isinstance(strides, int) else strides[0])
    return before.stride * 2 ** round(math.log2(height / smaller))


def calls_of(model: keras.Model) -> tuple[dict, dict, list]:
    """For each call of a layer, `(name, number)`, the calls that it takes tensors from, and the shape of its output.

    Read from the configuration, where Keras writes the graph down: `layer.input` of a model within a model is the
    input of its own graph, and a shared layer has one for each call.

    Returns:
        `(sources, shapes, ends)`; `ends` are the calls that make the outputs of the model, which have no shape here.
    """
    config = model.get_config()
    sources: dict = {}
    shapes: dict = {}
    for layer in config["layers"]:
        for i, call in enumerate(layer["inbound_nodes"] or [[]]):
            tensors = [tensor["config"] for tensor in dicts_in(call) if tensor.get("class_name") == "__keras_tensor__"]
            made_by = [tuple(tensor["keras_history"][:2]) for tensor in tensors]
            sources[layer["name"], i] = made_by
            shapes |= {key: tensor["shape"] for key, tensor in zip(made_by, tensors, strict=True)}
    return sources, shapes, histories_in(config["output_layers"])


def dicts_in(value) -> list[dict]:
    """The dicts in nested lists and dicts, the outer ones first."""
    if isinstance(value, dict):
        return [value, *dicts_in(list(value.values()))]
    if isinstance(value, (list, tuple)):
        return [found for each in value for found in dicts_in(each)]
    return []


def histories_in(outputs) -> list[tuple[str, int]]:
    """The calls that made the outputs of a model, in a configuration: one `[name, call, tensor]`, or nested ones."""
    if isinstance(outputs, dict):
        outputs = list(outputs.values())
    if len(outputs) == 3 and isinstance(outputs[0], str):
        return [(outputs[0], outputs[1])]
    return [key for value in outputs for key in histories_in(value)]


def has_kernel(layer) -> bool:
    """Whether a layer, or a layer in it, has a kernel."""
    return isinstance(layer, keras.layers.Layer) and any("kernel" in weight.name for weight in layer.weights)


def is_stage(node: Node) -> bool:
    """Whether the output of a call can be that of a stage."""
    layer = node.layer
    if not node.has_learned or not node.has_positions or node.is_shared:
        return False
    return not isinstance(layer, (*WITHOUT_STRIDE, keras.Model)) and isinstance(layer.output, keras.KerasTensor)


def check_images(model) -> None:
    """Refuses models without images, and those that hold their stages in another model."""
    if not is_graph(model):
        raise TypeError(
            f"`model` must be a functional keras model. Received: {model!r} (of type {type(model).__name__}). "
            "Build it as keras.Model(inputs, outputs)."
        )
    shapes = [each.shape for each in model.inputs]
    if len(shapes) != 1 or len(shapes[0]) != 4 or None in shapes[0][1:]:
        raise ValueError(
            "`model` must take images (batch, height, width, channels) of a fixed size. "
            f"Received: {model.name!r}, which takes {shapes}. Build the model with a fixed input_shape."
        )
    for layer in layers_of(model)[1:]:
        if is_graph(layer) and has_kernel(layer):
            raise ValueError(
                f"{model.name!r} holds the model {layer.name!r}, whose stages are not in the graph of {model.name!r}. "
                f"Call features(model.get_layer({layer.name!r}))."
            )
