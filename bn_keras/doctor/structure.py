"""What stands before each batch norm: a linear layer with a bias, dropout, a layer that drops the mask."""

import dataclasses
import math
import typing

import keras
import numpy as np

from bn_keras.doctor.data import Batch
from bn_keras.doctor.measuring import norms_of
from bn_keras.doctor.watching import mask_of, untouched, watched
from bn_keras.surgery import linear
from bn_keras.surgery.fold import BATCH_NORMS, Folding
from bn_keras.surgery.freeze import WITH_STATISTICS
from bn_keras.surgery.trace import Trace, trace_of
from bn_keras.surgery.tree import is_graph, layers_of
from bn_keras.surgery.verify import Example, brief
from bn_keras.surgery.weight_decay import NORMALIZATIONS

DROPOUTS = (
    keras.layers.Dropout,
    keras.layers.SpatialDropout1D,
    keras.layers.SpatialDropout2D,
    keras.layers.SpatialDropout3D,
    keras.layers.AlphaDropout,
    keras.layers.GaussianDropout,
)


@dataclasses.dataclass
class Structure:
    """How the batch norms of a model are wired.

    Attributes:
        biased: The linear layer with a bias by the batch norm that it feeds, and nothing else.
        dropouts: The dropout layers by the batch norm that they reach, with no normalization in between.
        unmasked: By batch norm, `(layer, share)`: the layer that drops the mask, and the share of padding.
        told_inference: The batch norms within a call with `training=False` of a functional model.
        why: Why the model could not be traced; "" if it could.
    """

    biased: dict = dataclasses.field(default_factory=dict)
    dropouts: dict = dataclasses.field(default_factory=dict)
    unmasked: dict = dataclasses.field(default_factory=dict)
    told_inference: list = dataclasses.field(default_factory=list)
    why: str = ""


def structure_of(model, batch: Batch) -> Structure:
    """The structure of a model, from one call on a batch and one trace of it; the model stays as it is."""
    found, norms = Structure(told_inference=told_inference(model)), norms_of(model)
    dropping, shapes = drops_of_masks(model, norms, batch)
    kinds = (*NORMALIZATIONS, *WITH_STATISTICS, *DROPOUTS, *linear.FAMILY_OF, *{type(layer) for layer in dropping})
    try:
        with untouched(model):
            trace = trace_of(model, Example((batch.x,), {}), kinds)
    except Exception as error:
        found.why = f"the model cannot be traced, so what feeds its batch norms is not known: {brief(error)}"
        return found
    folding = Folding(model, trace, "")
    for norm in norms:
        before = folding.layer_before(norm)[0] if isinstance(norm, BATCH_NORMS) else None
        if getattr(before, "use_bias", False) and getattr(before, "bias", None) is not None:
            found.biased[norm] = before
        above = upstream(trace, norm, stops=NORMALIZATIONS)
        found.dropouts[norm] = [each for each in above if isinstance(each, DROPOUTS) and each.rate > 0]
        found.dropouts = {norm: layers for norm, layers in found.dropouts.items() if layers}
        for layer in upstream(trace, norm, stops=()):
            if layer in dropping and norm in shapes and is_masked_by(shapes[norm], dropping[layer][0]):
                found.unmasked[norm] = (layer, dropping[layer][1])
                break
    return found


def is_masked_by(shape: tuple, mask: tuple) -> bool:
    """Whether a mask has the leading axes of an input, and the input has channels besides."""
    return len(shape) > len(mask) and shape[: len(mask)] == mask


def upstream(trace: Trace, norm, stops: tuple) -> list:
    """The layers, of the kinds of a trace, whose outputs the inputs of a layer are made from, the nearest first.

    The search ends at layers of the classes `stops`.
    """
    makers: dict = {}
    for calls in trace.calls.values():
        for call in calls:
            makers.setdefault(call.outputs.ref(), []).append(call)
    found: dict = {}
    seen: set = set()
    waiting = [call.inputs for call in trace.calls.get(norm, [])]
    while waiting:
        tensor = waiting.pop(0)
        if tensor.ref() in seen:
            continue
        seen.add(tensor.ref())
        calls = [call for call in makers.get(tensor.ref(), []) if call.layer is not norm]
        found |= dict.fromkeys(call.layer for call in calls)
        if not any(isinstance(call.layer, stops) for call in calls):
            waiting += tensor.op.inputs
    return list(found)


def drops_of_masks(model, norms, batch: Batch) -> tuple[dict, dict]:
    """`({layer: (shape of the mask, share of padding)}, {norm: shape})`: who drops a mask, and who gets none."""
    dropping, shapes = {}, {}

    def around(seen):
        outputs = seen.go()
        first = keras.tree.flatten(seen.inputs)[0] if keras.tree.flatten(seen.inputs) else None
        if seen.layer in norms:
            if seen.arguments.get("mask") is None:
                shapes[seen.layer] = tuple(first.shape)
            return outputs
        mask, after = mask_of(first), keras.tree.flatten(outputs)
        lost = mask is not None and not seen.layer.supports_masking and all(mask_of(each) is None for each in after)
        if lost and hasattr(mask, "numpy"):
            dropping[seen.layer] = tuple(mask.shape), float(1 - np.mean(mask.numpy()))
        return outputs

    layers = [layer for layer in layers_of(model) if layer is not model]
    with untouched(model), watched(layers, around):
        model(batch.x, training=False)
    return dropping, shapes


def told_inference(model) -> list:
    """The batch norms within a call with `training=False` of a functional model, by the model's config."""
    found: dict = {}
    for graph in layers_of(model):
        for layer in called_for_inference(graph) if is_graph(graph) else []:
            found |= dict.fromkeys(norms_of(layer))
    return list(found)


def called_for_inference(graph) -> list:
    try:
        layers = graph.get_config()["layers"]
    except Exception:  # a layer without a config: the model cannot be saved either
        return []
    names = [each["name"] for each in layers if any(map(is_for_inference, nodes_of(each)))]
    return [layer for layer in graph.layers if layer.name in names]


def nodes_of(config: dict) -> list[typing.Any]:
    return [node for node in config.get("inbound_nodes", []) if isinstance(node, dict)]


def is_for_inference(node: dict) -> bool:
    arguments = node.get("args", [])
    return node.get("kwargs", {}).get("training") is False or (len(arguments) > 1 and arguments[1] is False)


def parameters_of(layers) -> int:
    """The number of parameters in the biases of layers."""
    return sum(math.prod(layer.bias.shape) for layer in layers)
