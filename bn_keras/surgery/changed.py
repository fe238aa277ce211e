"""Layers and models of custom classes whose inner layers surgery has changed: how they are saved and loaded.

A custom class makes its inner layers itself, so its config does not tell what surgery has put in their place. The
copy gets a class that derives from `Changed` and from its own class. Its config holds the config of the original class
and the changed layers; loading makes the original and puts the changed layers in.
"""

import functools

import keras

from bn_keras.surgery.copying import Change, Copier
from bn_keras.surgery.likeness import is_plain, original_class, original_config, same
from bn_keras.surgery.persisting import made_by_config
from bn_keras.surgery.tree import at_deep, is_graph, put_deep


@keras.saving.register_keras_serializable(package="bn_keras")
class Changed:
    """Mixin of the classes that `mark` derives.

    Attributes:
        class_before_surgery: The class of the layer in the given model.
        changed_paths: Where the layer holds what this class does not make from its config; of a functional model the
            positions in the graph.
        changed_inside: Of a functional model, the positions in the graph where only inner layers are changed.
        names_in_graph: Of a functional model, for each layer of the graph that this class makes, the name of the layer
            in its place, or `None` where it is dropped.
    """

    class_before_surgery: type

    def get_config(self):
        kind = self.class_before_surgery
        original = {
            "module": kind.__module__,
            "class_name": kind.__name__,
            "registered_name": keras.saving.get_registered_name(kind),
            "config": original_config(self),
        }
        changes = changes_in_graph(self) if is_graph(self) else changes_by_path(self)
        return {"name": self.name, "original": original, "changes": changes}

    @classmethod
    def from_config(cls, config):
        layer = keras.saving.deserialize_keras_object(config["original"])
        if is_graph(layer):
            return graph_with(layer, config["changes"])
        put_changes(layer, config["changes"])
        return layer


def mark(copier: Copier) -> None:
    """Derives a class for each copy that its own class would not make from its config."""
    for copy, paths in copier.paths.items():
        paths = tuple(paths) if copy in copier.made_by_model else paths_not_made(copy, paths)
        if paths:
            derive(copy, changed_paths=paths)
    for copy, names in copier.graphs.items():
        positions = () if is_plain(copy) else positions_not_made(copy, names)
        if positions:
            layers = {layer.name: layer for layer in copy.layers}
            inside = tuple(i for i in positions if layers.get(names[i]) in copier.made_by_model)
            derive(copy, changed_paths=positions, changed_inside=inside, names_in_graph=names)


def derive(layer, **record) -> None:
    """Changes the class of a layer into one that derives from `Changed` and from its own."""
    kind = changed_class(original_class(layer))
    for name, value in {"__class__": kind, **record}.items():
        object.__setattr__(layer, name, value)  # no state of the layer, which Keras would track


@functools.cache
def changed_class(kind: type) -> type:
    # Named as the class before, so that weights files fit both; registered under the name of `Changed`, whose
    # `from_config` loads all of these classes.
    names = {"__module__": kind.__module__, "__qualname__": kind.__qualname__}
    register = keras.saving.register_keras_serializable(package="bn_keras", name="Changed")
    return register(type(kind)(kind.__name__, (Changed, kind), {"class_before_surgery": kind, **names}))


def paths_not_made(copy, paths) -> tuple:
    """Those of the changed paths where the config does not tell the layer, as that of a wrapper does."""
    made = made_by_config(copy)
    found = {path: at_deep(made, path) if made is not None else None for path in paths}
    return tuple(path for path in paths if found[path] is None or not same(found[path], at_deep(copy, path)))


def positions_not_made(copy, names) -> tuple:
    """The positions in the graph of the class where the copy has another layer, or none.

    There are none for a class that makes no such graph from its config: Keras cannot load its models either.
    """
    made, layers = made_by_config(copy), {layer.name: layer for layer in copy.layers}
    if made is None or len(made.layers) != len(names):
        return ()
    pairs = enumerate(zip(made.layers, names, strict=True))
    return tuple(i for i, (layer, name) in pairs if name is None or not same(layer, layers[name]))


def changes_by_path(layer) -> list:
    """`[paths, layer]` of each changed inner layer."""
    paths_of: dict = {}
    for path in layer.changed_paths:
        paths_of.setdefault(at_deep(layer, path), []).append(path)
    return [[paths, unbuilt(inner)] for inner, paths in paths_of.items()]


def changes_in_graph(model) -> list:
    """`[name, layer, inside]` for each layer that the class makes.

    There is no layer where the class makes the same, and where only layers inside of it are changed: those in `inside`.
    """
    layers, changes = {layer.name: layer for layer in model.layers}, []
    for i, name in enumerate(model.names_in_graph):
        changed = name is not None and i in model.changed_paths
        inside = changed and i in model.changed_inside
        whole = unbuilt(layers[name]) if changed and not inside else None
        changes.append([name, whole, changes_by_path(layers[name]) if inside else []])
    return changes


def unbuilt(layer) -> dict:
    """A layer as Keras serializes it, for its holder or a call to build."""
    return keras.saving.serialize_keras_object(layer) | {"build_config": None}


def graph_with(model, changes):
    """A functional model like this one with other layers in its graph."""
    plan = {}
    for layer, (name, inner, inside) in zip(model.layers, changes, strict=True):
        if name is None:
            plan[layer] = Change(None)
        elif inner is not None:
            plan[layer] = Change(functools.partial(keras.saving.deserialize_keras_object, inner))
        elif not isinstance(layer, keras.layers.InputLayer):
            layer.name = name
        if inside:
            put_changes(layer, inside)
    positions = tuple(i for i, (name, inner, inside) in enumerate(changes) if name is None or inner or inside)
    inside = tuple(i for i, change in enumerate(changes) if change[2])
    copy, names = model, tuple(name for name, _, _ in changes)
    if plan:
        copier = Copier(model, plan)
        copy = copier.copy(model)
        copier.finish(model)
        mark(copier)
        names = copier.graphs[copy]
    derive(copy, changed_paths=positions, changed_inside=inside, names_in_graph=names)
    return copy


def put_changes(layer, changes) -> None:
    """Puts changed layers into a layer that its class has made, those that it makes in `build` right after it."""
    pending: dict = {}
    for paths, inner in changes:
        inner = keras.saving.deserialize_keras_object(inner)
        pending |= {tuple(map(tuple, path)): inner for path in paths}
    derive(layer, changed_paths=tuple(pending))
    for path in [path for path in pending if isinstance(at_deep(layer, path), keras.layers.Layer)]:
        put_built(layer, path, pending.pop(path))
    if pending:
        put_when_built(layer, pending)


def put_when_built(layer, pending) -> None:
    build = layer.build

    @functools.wraps(build)
    def build_and_put(*args, **kwargs):
        build(*args, **kwargs)
        for path in list(pending):
            put_built(layer, path, pending.pop(path))

    layer.build = build_and_put


def put_built(layer, path, inner) -> None:
    """Puts a layer in the place of another one, built where that one is."""
    made = at_deep(layer, path)
    put_deep(layer, path, inner)
    if made is not None and made.built and not inner.built:
        inner.build_from_config(made.get_build_config())
