"""Which layer gets its input from which, as far as a model says it: in functional and Sequential models."""

import typing

import keras

from bn_keras.surgery.rewrite import held_by, is_graph, layers_of

OUTPUT = "the output of a model"


class Wiring(typing.NamedTuple):
    """The calls of all layers in a model, nested ones too.

    Attributes:
        sources: By layer, for each of its calls, the layer whose output it gets first (a mask may follow); `None` if
            that is not a layer.
        users: By layer, for each use of an output, the layer that gets it; `None` if that is not a layer, or `OUTPUT`.
        hidden: Layers that are held by one whose calls are its own affair.
        arguments: By layer, for each of its calls, the keyword arguments.
    """

    sources: dict
    users: dict
    hidden: set
    arguments: dict


def wiring_of(model):
    every = layers_of(model)
    wiring = Wiring({layer: [] for layer in every}, {layer: [] for layer in every}, set(), {})
    for layer in every:
        if isinstance(layer, keras.Sequential):
            wire_row(layer.layers, wiring)
        elif is_graph(layer):
            wire_graph(layer, wiring)
        else:
            wiring.hidden.update(held_by(layer))
    return wiring


def wire_row(layers, wiring):
    for source, layer in zip([None, *layers], [*layers, OUTPUT], strict=True):
        if layer is not OUTPUT:
            wiring.sources[layer].append(source)
        if source is not None:
            wiring.users[source].append(layer)


def wire_graph(model, wiring):
    layers = {layer.name: layer for layer in model.layers}
    config = keras.Model(model.input, model.output).get_config()
    for entry in config["layers"]:
        layer = layers.get(entry["name"])
        for node in entry["inbound_nodes"]:
            names = list(origins([node["args"], node["kwargs"]]))
            for name in names:
                connect(wiring.users, layers.get(name), layer)
            connect(wiring.sources, layer, layers.get(names[0]))
            connect(wiring.arguments, layer, node["kwargs"])
    for name in output_names(config["output_layers"]):
        connect(wiring.users, layers.get(name), OUTPUT)


def connect(found, layer, other):
    if isinstance(layer, keras.layers.Layer) and not isinstance(layer, keras.layers.InputLayer):
        found.setdefault(layer, []).append(other)


def origins(value):
    """The names of the layers that the tensors in a call come from."""
    if isinstance(value, dict):
        if value.get("class_name") == "__keras_tensor__":
            yield value["config"]["keras_history"][0]
        else:
            for each in value.values():
                yield from origins(each)
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from origins(each)


def output_names(value):
    """The names in `output_layers` of a config: `[name, call, tensor]`, in lists or dicts."""
    if isinstance(value, (list, tuple)) and value and isinstance(value[0], str):
        yield value[0]
    else:
        for each in value.values() if isinstance(value, dict) else value:
            yield from output_names(each)
