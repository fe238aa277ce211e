"""The layers of a model, and the places where other layers hold them."""

import functools
import re
import typing

import keras

Path = tuple[str | int, ...]


def layers_of(model) -> list:
    """Every layer in a model, once, in the order in which they are held: a container before its content.

    Raises:
        TypeError: If `model` is no Keras layer.

    Example:

    >>> dense = keras.layers.Dense(2, name="dense")
    >>> [layer.name for layer in layers_of(keras.Sequential([keras.Input((3,)), dense], name="model"))]
    ['model', 'dense']
    """
    if not isinstance(model, keras.layers.Layer):
        raise TypeError(f"Expected a Keras model. Received: {model!r} (of type {type(model).__name__}).")
    found: dict = {}

    def visit(layer):
        if layer not in found:
            found[layer] = None
            for inner in held_by(layer):
                visit(inner)

    visit(model)
    return list(found)


def held_by(layer) -> list:
    """The layers that a layer holds itself: those of its graph or row first, then those of its attributes."""
    inner = [each for each in graph_layers(layer) if not isinstance(each, keras.layers.InputLayer)]
    return list(dict.fromkeys([*inner, *(each for _, each in slots(layer))]))


def graph_layers(layer) -> list:
    """The layers that Keras calls on behalf of a functional or Sequential model."""
    return layer.layers if is_graph(layer) or isinstance(layer, keras.Sequential) else []


def is_graph(layer) -> bool:
    """Whether a layer is a functional model, whose calls Keras knows."""
    return isinstance(layer, keras.Model) and not isinstance(layer, keras.Sequential) and hasattr(layer, "operations")


def containers_of(plan, model):
    """The layers that are changed, and all that hold one of them."""
    holders = {}
    for layer in layers_of(model):
        for inner in held_by(layer):
            holders.setdefault(inner, []).append(layer)
    found, waiting = set(), list(plan)
    while waiting:
        layer = waiting.pop()
        if layer not in found:
            found.add(layer)
            waiting += holders.get(layer, [])
    return found


def slots(layer) -> list[tuple[Path, keras.layers.Layer]]:
    """Where a layer holds others: `(path, inner)`; a path is the name of an attribute and what leads on from it.

    Attributes and the lists, tuples, dicts and sets in them are searched. The layers of a set count in the order of
    their names.
    """
    return [(path, each) for path, each in leaves_of(layer) if isinstance(each, keras.layers.Layer)]


def leaves_of(layer) -> typing.Iterator[tuple[Path, typing.Any]]:
    """Everything that the own attributes of a layer hold, containers searched, with the path to it."""
    seen = set()

    def visit(path, value):
        if isinstance(value, (dict, list, tuple, set, frozenset)):
            if id(value) in seen:
                return
            seen.add(id(value))
            for key, each in items_of(value):
                yield from visit((*path, key), each)
        else:
            yield path, value

    for name in own_attributes(layer):
        yield from visit((name,), vars(layer)[name])


def items_of(container) -> list[tuple[str | int, typing.Any]]:
    if isinstance(container, dict):
        return list(container.items())
    if isinstance(container, (set, frozenset)):
        return list(enumerate(sorted(container, key=natural_order)))
    return list(enumerate(container))


def natural_order(member) -> list:
    """A key that puts `dense_9` before `dense_10`."""
    parts = re.split(r"(\d+)", str(getattr(member, "name", member)))
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


def own_attributes(layer) -> list[str]:
    """The names of the instance attributes that the class or the user of a layer has set, not Keras or TensorFlow."""
    return [name for name in vars(layer) if name not in bookkeeping()]


@functools.cache
def bookkeeping() -> frozenset[str]:
    """The names of the attributes in which Keras, TensorFlow and surgery keep their own account of a layer or model."""

    class Holder(keras.layers.Layer):
        def __init__(self):
            super().__init__(name="holder")
            self.inner = keras.layers.Identity(name="inner")

    x = keras.Input((1,), name="x")
    row = keras.Sequential([keras.Input((1,), name="x"), keras.layers.Identity(name="row_inner")], name="row")
    graph = keras.Model(x, keras.layers.Identity(name="graph_inner")(x), name="graph")
    for model in (row, graph):
        model.compile("sgd", "mse")
    names = {name for each in (Holder(), row, graph) for name in vars(each)} - {"inner"}
    return frozenset(
        names | {"changed_paths", "changed_inside", "names_in_graph"}
    )  # the record of `bn_keras.surgery.changed`


def at(layer, path: Path):
    """The object at a path of `slots`, or `None`."""
    value = vars(layer)
    for key in path:
        if not isinstance(value, (dict, list, tuple, set, frozenset)):
            return None
        value = dict(items_of(value)).get(key)
    return value


def at_deep(layer, paths: tuple[Path, ...]):
    """The object at the end of several paths, each within the layer at the end of the one before; or `None`."""
    for path in paths:
        if not isinstance(layer, keras.layers.Layer):
            return None
        layer = at(layer, path)
    return layer


def put_deep(holder, paths: tuple[Path, ...], new) -> None:
    """`put` at the end of several paths."""
    put(at_deep(holder, paths[:-1]), paths[-1], new)


def put(holder, path: Path, new) -> None:
    """Puts a layer where the holder holds another one, or where it holds none yet."""
    track_in_place(holder, at(holder, path), new)

    def with_new(value, rest):
        if not rest:
            return new
        key, *rest = rest
        if isinstance(value, (set, frozenset)):
            members = [with_new(each, rest) if i == key else each for i, each in items_of(value)]
            return type(value)(members)
        changed = with_new(value[key] if rest else None, rest)
        if isinstance(value, tuple):
            members = [*value[:key], changed, *value[key + 1 :]]
            return value._make(members) if hasattr(value, "_fields") else tuple(members)
        value[key] = changed
        return value

    first, *rest = path
    setattr(holder, str(first), with_new(vars(holder).get(first), rest))


def track_in_place(holder, old, new) -> None:
    """Gives a layer the place of another one in Keras' account of the layers that a holder holds.

    The order of this account is the order of the weights. Keras has no public name for it:
    `tests/surgery/test_tree.py` fails when the private one moves.
    """
    tracker = holder._tracker
    if tracker.is_in_store("layers", new):
        tracker.untrack(old)
    elif old is not None and tracker.is_in_store("layers", old):
        tracker.replace_tracked_value("layers", old, new)
    else:
        locked = tracker.locked
        tracker.unlock()
        tracker.track(new)
        if locked:
            tracker.lock()
