"""The walker that all surgery stands on: every layer of a model, and a copy of it with some of them changed."""

import contextlib
import inspect
import typing

import keras

# Attributes in which Keras and TensorFlow keep a second account of a layer's layers.
BOOKKEEPING = ("_layers", "_compiled_trainable_state", "_functional", "_self_")


class Change(typing.NamedTuple):
    """What comes in the place of a layer.

    Attributes:
        make: Called without arguments, gives the new layer. `None` drops the layer: its input is its output.
        values: Of the new layer's variables, by name. `None` for those of the old layer that have the same
            name and shape; the others are as they were initialized.
    """

    make: typing.Callable | None
    values: dict | None = None


def layers_of(model):
    """Every layer in a model, once, in the order in which they are held: containers before what they hold."""
    if not isinstance(model, keras.layers.Layer):
        raise TypeError(f"Expected a Keras model. Received: {model!r} (of type {type(model).__name__}).")
    found = {}

    def visit(layer):
        if layer not in found:
            found[layer] = None
            for inner in held_by(layer):
                visit(inner)

    visit(model)
    return list(found)


def held_by(layer):
    """The layers that a layer holds itself."""
    if is_graph(layer) or isinstance(layer, keras.Sequential):
        return [each for each in layer.layers if not isinstance(each, keras.layers.InputLayer)]
    return [inner for _, inner in slots(layer)]


def is_graph(layer):
    """Whether a layer is a functional model, whose calls are known."""
    return isinstance(layer, keras.Model) and not isinstance(layer, keras.Sequential) and hasattr(layer, "operations")


def rewrite(model, plan):
    """A copy of a model, with its weights, in which some layers are changed.

    Functional and Sequential models, at any depth, are copied layer by layer. Any other layer or model is made
    again from its config, and the layers that it holds as attributes (or in lists, tuples and dicts there) are
    changed in the copy. The copy is not compiled.

    Args:
        model: A Keras model or layer that has been built.
        plan: A dict of `Change` by layer.

    Returns:
        `(copy, copies)`: the new model, and a dict of the new layer by the old one, without those that are dropped.

    Raises:
        ValueError: For a model without weights yet; for a layer that cannot be made again from its config or that
            cannot be reached to be changed, with its name and what to do instead.
    """
    if not isinstance(model, keras.Model):
        raise TypeError(f"Expected a Keras model. Received: {model!r} (of type {type(model).__name__}).")
    if not model.built:
        raise ValueError(
            f"The model {model.name!r} has no weights yet. Build it first: model.build(input_shape), or call it once."
        )
    copies = {}
    copy = copied(model, plan, copies)
    if not copy.built:
        build_alike(model, copy)
    carry(plan, copies)
    return copy, copies


def build_alike(model, copy):
    """Gives the copy of a model of a class of its own its weights, with the paths that a call gives them."""
    called = model.variables and model.variables[0].path.startswith(f"{model.name}/")
    with keras.name_scope(model.name) if called else contextlib.nullcontext():
        copy.build_from_config(model.get_build_config())
    copy.built = True


def copied(layer, plan, copies):
    """The copy of a layer, the same one each time; weights come later, as not all copies have theirs yet."""
    if layer not in copies:
        if layer in plan:
            copies[layer] = plan[layer].make()
        elif isinstance(layer, keras.Sequential):
            copies[layer] = sequential(layer, plan, copies)
        elif is_graph(layer):
            copies[layer] = functional(layer, plan, copies)
        else:
            copies[layer] = from_config(layer, plan, copies)
    return copies[layer]


def sequential(model, plan, copies):
    """A Sequential model without the layers that are dropped."""
    layers = [copied(layer, plan, copies) for layer in model.layers if not dropped(layer, plan)]
    kind = type(model) if type(model).__init__ is keras.Sequential.__init__ else keras.Sequential
    if model.built and not scope_of(model):  # else it is built where it is called, as the given one was
        given = model.inputs[0]
        layers.insert(0, keras.Input(batch_shape=given.shape, dtype=given.dtype, name=given.name))
    return kind(layers, name=model.name)


def functional(model, plan, copies):
    """A functional model: the same calls again, with the copies."""
    inputs = {id(each.output): each for each in model.layers if isinstance(each, keras.layers.InputLayer)}
    dropping, scopes, taken = {}, {}, {}

    def copy(operation):
        if not isinstance(operation, keras.layers.Layer):
            return type(operation).from_config(operation.get_config())
        if dropped(operation, plan):
            return dropping.setdefault(operation, keras.layers.Identity())
        new = copied(operation, plan, copies)
        scopes[new] = scope_of(operation)
        if operation in plan:
            taken[new] = inspect.signature(new.call).parameters
        return new

    def call(operation, *args, **kwargs):
        if operation in dropping.values():
            return args[0]
        with contextlib.ExitStack() as stack:
            for name in scopes.get(operation, ()):
                stack.enter_context(keras.name_scope(name))
            taking = taken.get(operation, kwargs)
            return operation(*args, **{name: value for name, value in kwargs.items() if name in taking})

    tensors = keras.tree.map_structure(lambda given: keras.Input(**inputs[id(given)].get_config()), model.input)
    # Without the class and the compilation of the model, which Keras would try to copy.
    plain = keras.Model(model.input, model.output, name=model.name)
    clone = keras.models.clone_model(plain, tensors, clone_function=copy, call_function=call)
    kind = type(model)
    if kind is type(plain) or not {"inputs", "outputs"} <= set(inspect.signature(kind.__init__).parameters):
        return clone
    return kind(inputs=clone.input, outputs=clone.output, name=model.name)


def scope_of(layer):
    """The names that lead to a layer in the paths of its variables."""
    names = layer.variables[0].path.split("/") if layer.variables else []
    return names[: names.index(layer.name)] if layer.name in names else ()


def dropped(layer, plan):
    return layer in plan and plan[layer].make is None


def from_config(layer, plan, copies):
    """A layer of which only the config is known; those that it holds are changed in the copy, before it is built."""
    inner = layers_of(layer)[1:]
    try:
        with keras.saving.custom_object_scope({type(each).__name__: type(each) for each in inner}):
            # The code of a Lambda is this process's own, and not read from a file that someone else may have made.
            trusted = {"safe_mode": False} if isinstance(layer, keras.layers.Lambda) else {}
            copy = type(layer).from_config(layer.get_config(), **trusted)
    except (NotImplementedError, TypeError, ValueError) as error:
        raise ValueError(
            f"The layer {layer.name!r} ({type(layer).__name__}) cannot be made again from its config: {error}\n"
            "Give its class a `get_config` that returns the arguments of `__init__`, or build the model from layers "
            "with the functional API."
        ) from error
    copy.name = layer.name
    made = dict(slots(copy))
    for path, old in slots(layer):
        change = old in plan or any(each in plan for each in layers_of(old))
        if path not in made:
            if change:
                raise ValueError(
                    f"The layer {old.name!r} cannot be changed: {layer.name!r} ({type(layer).__name__}) makes it in "
                    "`build` or in a call. Make it in `__init__`, or build the model with the functional API."
                )
        elif change and not dropped(old, plan):
            put(copy, path, made[path], copied(old, plan, copies))
        else:
            pair(old, made[path], copies)
    return copy


def pair(old, new, copies):
    """Two layers that are made alike, and all that they hold."""
    new.name = old.name
    copies[old] = new
    if is_graph(old) or isinstance(old, keras.Sequential):
        inner = zip(held_by(old), held_by(new), strict=True)
    else:
        made = dict(slots(new))
        inner = [(each, made[path]) for path, each in slots(old) if path in made]
    for each, other in inner:
        pair(each, other, copies)


def slots(layer):
    """Where a layer holds others: `(path, layer)`, a path being the name of an attribute and what leads on from it."""

    def visit(path, value):
        if isinstance(value, keras.layers.Layer):
            yield path, value
        elif isinstance(value, dict):
            for key, each in value.items():
                yield from visit((*path, key), each)
        elif isinstance(value, (list, tuple)):
            for i, each in enumerate(value):
                yield from visit((*path, i), each)

    for name, value in vars(layer).items():
        if not name.startswith(BOOKKEEPING):
            yield from visit((name,), value)


def put(holder, path, old, new):
    """Puts a layer where another one is held, at the same place in the order of weights.

    That order is kept by a private part of Keras' layers: this is the only place that touches it.
    """
    if holder._tracker.is_in_store("layers", old):
        holder._tracker.replace_tracked_value("layers", old, new)

    def with_new(value, path):
        if not path:
            return new
        changed = with_new(value[path[0]], path[1:])
        if isinstance(value, tuple):
            return (*value[: path[0]], changed, *value[path[0] + 1 :])
        value[path[0]] = changed
        return value

    setattr(holder, path[0], with_new(getattr(holder, path[0]), path[1:]))


def carry(plan, copies):
    """The values of all variables, and what is trainable: containers first, as theirs reaches what they hold."""
    wanted = {new: new.trainable if old in plan else old.trainable for old, new in copies.items()}
    for new, trainable in reversed(wanted.items()):
        match_trainable(new, trainable)
    for old, new in copies.items():
        if old in plan:
            carry_by_name(old, new, plan[old].values)
        elif not is_graph(old):
            carry_in_order(old, new)


def match_trainable(holder, trainable):
    """Only where it differs, as it reaches all that a layer holds."""
    if holder.trainable != trainable:
        holder.trainable = trainable


def carry_by_name(old, new, values):
    if values is None:
        values = {variable.name: variable for variable in old.variables}
    for variable in new.variables:
        value = values.get(variable.name)
        if value is not None and tuple(value.shape) == tuple(variable.shape):
            variable.assign(keras.ops.convert_to_numpy(value))
            if old.trainable == new.trainable:  # else the change is what was asked for
                match_trainable(variable, getattr(value, "trainable", variable.trainable))


def carry_in_order(old, new):
    if len(state(old)) != len(state(new)):
        raise ValueError(
            f"The copy of the layer {old.name!r} ({type(old).__name__}) has {len(state(new))} variables where the "
            f"layer has {len(state(old))}. Make its `get_config` return all arguments of `__init__`."
        )
    for value, variable in zip(state(old), state(new), strict=True):
        variable.assign(keras.ops.convert_to_numpy(value))
        match_trainable(variable, value.trainable)


def state(layer):
    """The variables that a layer has of its own: not those of layers that it holds, nor what metrics count."""
    others = [*layer.metrics_variables, *(variable for inner in layers_of(layer)[1:] for variable in inner.variables)]
    others = {id(variable) for variable in others}
    return [variable for variable in layer.variables if id(variable) not in others]
