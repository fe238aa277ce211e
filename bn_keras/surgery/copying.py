"""A copy of a model in which some layers are others.

The copy is made as Keras persists a model: each layer from its config and build config, functional models by the same
calls again. Layers that a custom class makes itself stay where the class has put them, unless they have to differ;
then the changed layer takes their place, and `bn_keras.surgery.changed` makes the copy one that can be saved. A layer
of the given model has one copy, wherever the model holds it.
"""

import dataclasses
import functools
import inspect
import types
import typing

import keras

from bn_keras.surgery.likeness import alike, is_plain, made_alike, original_class, same
from bn_keras.surgery.persisting import (
    CannotCopyError,
    build_alike,
    from_config,
    has_build,
    made_by_class,
    made_by_config,
    scope,
    scope_of,
    stand_in,
    weight_like,
)
from bn_keras.surgery.tree import (
    at,
    containers_of,
    graph_layers,
    is_graph,
    layers_of,
    leaves_of,
    own_attributes,
    put,
    slots,
)

SETTINGS = ("supports_masking", "supports_jit")


@dataclasses.dataclass(frozen=True)
class Change:
    """What comes in the place of a layer.

    Attributes:
        make: Called without arguments, returns the new layer. `None` drops the layer: its input is its output.
        values: The values of the new layer's variables by name. `None` for the values of the old layer's variables of
            the same name.
        anew: Whether variables of the new layer that have no value of their shape may start as they are initialized.
    """

    make: typing.Callable[[], keras.layers.Layer] | None
    values: dict | None = None
    anew: bool = False


class Copier:
    """Makes the copies of the layers of a model, each once.

    Attributes:
        plan: A dict of `Change` by layer.
        copies: The new layer by the old one. A dropped layer has none where nothing holds it but a graph.
        paths: By new layer, where it holds a layer that its class does not make: tuples of paths, each within the
            layer at the end of the one before.
        graphs: By new functional model, for each layer of the graph that its class makes, the name of the layer in
            its place in the copy, or `None` where it is dropped.
        made_by_model: The new layers that the class of a functional model has made, as their own config is of no use.
    """

    def __init__(self, model, plan):
        self.model, self.plan, self.copies, self.paths, self.graphs = model, plan, {}, {}, {}
        self.made_by_model, self.made_again, self.holder_of = set(), {}, {}
        self.touched = containers_of(plan, model)

    def copy(self, layer):
        if layer not in self.copies:
            if layer in self.plan:
                make = self.plan[layer].make
                self.copies[layer] = stand_in(layer) if make is None else make()
            elif isinstance(layer, keras.Sequential):
                self.sequential(layer)
            elif is_graph(layer):
                self.functional(layer)
            else:
                self.custom(layer)
        return self.copies[layer]

    def sequential(self, model):
        """A Sequential model without the layers that are dropped."""
        layers = [self.copy_to_call(layer) for layer in model.layers if not self.is_dropped(layer)]
        if model.built and not scope_of(model):  # else it is built where it is called, as the given one was
            first_input = model.inputs[0]
            layers.insert(0, keras.Input(batch_shape=first_input.shape, dtype=first_input.dtype, name=first_input.name))
        kind = original_class(model)
        self.copies[model] = copy = kind.__new__(kind)
        keras.Sequential.__init__(copy, layers, name=model.name)
        self.adopt(model, copy, {})

    def functional(self, model):
        """A functional model: the same calls again, with the copies."""
        tensors = [each for _, each in leaves_of(model) if isinstance(each, keras.KerasTensor)]
        try:
            again = self.called_again(model, tensors)
        except ValueError:  # an attribute holds tensors of another graph
            tensors = []
            again = self.called_again(model, tensors)
        outputs, of_attributes = again.output
        kind = original_class(model)
        self.copies[model] = copy = kind.__new__(kind)
        # Not by the constructor of the class, which may make layers of its own.
        type(again).__init__(copy, inputs=again.input, outputs=outputs, name=model.name)
        self.adopt(model, copy, dict(zip(map(id, tensors), of_attributes, strict=True)))
        if model in self.touched or original_class(model) is not type(model):
            self.graphs[copy] = tuple(map(self.name_of_copy, made_by_class(model)))

    def name_of_copy(self, layer):
        if layer is None or self.is_dropped(layer):
            return None
        return self.copies[layer].name if layer in self.copies else layer.name  # an InputLayer keeps its name

    def called_again(self, model, tensors):
        """A functional model of the same calls, whose outputs are those of the model and other tensors of its graph."""
        inputs = {id(each.output): each for each in model.layers if isinstance(each, keras.layers.InputLayer)}
        dropping, scopes, taken = {}, {}, {}

        def copy(operation):
            if not isinstance(operation, keras.layers.Layer):
                return type(operation).from_config(operation.get_config())
            if self.is_dropped(operation):
                return dropping.setdefault(operation, keras.layers.Identity())
            new = self.copy_to_call(operation)
            scopes[new] = scope_of(operation)
            if operation in self.plan:
                taken[new] = inspect.signature(new.call).parameters
            return new

        def call(operation, *args, **kwargs):
            if operation in dropping.values():
                return args[0] if args else kwargs["inputs"]
            with scope(scopes.get(operation, ())):
                taking = taken.get(operation, kwargs)
                return operation(*args, **{name: value for name, value in kwargs.items() if name in taking})

        def copy_of(tensor):
            return keras.Input(**inputs[id(tensor)].get_config())

        # Without the class and the compilation of the model, which Keras would try to copy.
        plain = keras.Model(model.input, [model.output, list(tensors)], name=model.name)
        tensors = keras.tree.map_structure(copy_of, model.input)
        return keras.models.clone_model(plain, tensors, clone_function=copy, call_function=call)

    def adopt(self, model, copy, tensors):
        """Gives the copy of a functional or Sequential model the attributes that its class or its user has set."""
        for name in own_attributes(model):
            value, made = vars(model)[name], vars(copy).get(name)
            if isinstance(value, keras.layers.Layer):
                put(copy, (name,), self.copy(value))
            elif not isinstance(value, keras.Variable) or made is None:  # `build` may have made it
                setattr(copy, name, self.adopted(value, model, copy, tensors))
        for name in SETTINGS:
            if getattr(copy, name) != getattr(model, name):
                setattr(copy, name, getattr(model, name))
        if copy.dtype_policy != model.dtype_policy:
            copy.dtype_policy = model.dtype_policy

    def adopted(self, value, model, copy, tensors):
        """What stands for a value of the given model in its copy."""
        if isinstance(value, keras.layers.Layer):
            return self.copy(value)
        if isinstance(value, keras.Variable):
            return weight_like(value, copy)
        if isinstance(value, (keras.metrics.Metric, keras.random.SeedGenerator)):
            return type(value).from_config(value.get_config())
        if isinstance(value, keras.optimizers.Optimizer):
            return None  # the copy is not compiled
        if isinstance(value, keras.KerasTensor):
            return tensors.get(id(value), value)
        if isinstance(value, types.MethodType) and value.__self__ is model:
            return types.MethodType(value.__func__, copy)
        again = functools.partial(self.adopted, model=model, copy=copy, tensors=tensors)
        if isinstance(value, dict):
            return {key: again(each) for key, each in value.items()}
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return value._make(map(again, value))
        for kind in (list, tuple, set, frozenset):
            if isinstance(value, kind):
                return kind(map(again, value))
        return value

    def copy_to_call(self, layer):
        """The copy of a layer, built as the layer was where it holds others: a call might not build all of them."""
        copy = self.copy(layer)
        if layer not in self.plan and slots(layer):
            self.build(layer, copy)
        return copy

    def custom(self, layer):
        """A layer of which only the config is known. Layers that it holds are changed where its class has put them."""
        try:
            copy = from_config(layer)
        except CannotCopyError:
            copy = self.from_model(layer)
            if copy is None:
                raise
            self.made_by_model.add(copy)
        self.copies[layer] = copy
        copy.name = layer.name
        self.match(layer, copy)

    def from_model(self, layer):
        """A layer like this one that the class of a functional model makes; `None` if there is no such class."""
        for model in layers_of(self.model):
            if is_graph(model) and layer in model.layers and not is_plain(model):
                if model not in self.made_again:
                    self.made_again[model] = made_by_config(model)
                again = self.made_again[model]
                layers = again.layers if again is not None else []
                made = dict(zip(made_by_class(model), layers, strict=False)).get(layer)
                if type(made) is original_class(layer):
                    return made
        return None

    def match(self, layer, copy):
        """Puts copies where the copy of a holder has to have other layers than its class makes."""
        for path, old in slots(layer):
            made = at(copy, path)
            if made is None and not copy.built and old not in self.copies:
                continue  # until the copy is built
            if old not in self.copies and made is not None and old not in self.plan:
                if old not in self.touched and alike(old, made):
                    self.pair(old, made)
                    continue
                if self.is_custom(old) and made_alike(old, made):
                    self.copies[old], self.holder_of[made] = made, (copy, path)
                    made.name = old.name
                    self.match(old, made)
                    continue
            new = self.copy(old)
            if new is not made:
                self.place(layer, copy, path, new)
                if made is None or new in self.paths or new in self.graphs or not same(made, new):
                    self.record(copy, (path,))

    def record(self, copy, paths):
        """Notes a layer that a class does not make, for the outermost layer whose class makes its holder."""
        while copy in self.holder_of:
            copy, path = self.holder_of[copy]
            paths = (path, *paths)
        self.paths.setdefault(copy, {})[paths] = None

    def place(self, layer, copy, path, new):
        try:
            put(copy, path, new)
        except (LookupError, TypeError) as error:
            raise CannotCopyError(
                f"The layer {new.name!r} cannot be put into the copy of {layer.name!r} ({type(layer).__name__}): the "
                f"class makes no {'.'.join(map(str, path))} from its config and build config. Make the layer in "
                "`__init__` or `build`, or build the model with the functional API."
            ) from error

    def pair(self, old, new):
        """Takes a layer that a class has made for the copy of one like it, with all that they hold."""
        if old in self.copies:
            return
        self.copies[old] = new
        new.name = old.name
        for each, other in zip(graph_layers(old), graph_layers(new), strict=False):
            self.pair(each, other)
        for path, each in slots(old):
            other = at(new, path)
            if isinstance(other, keras.layers.Layer):  # else until the holder is built
                self.pair(each, other)

    def build(self, layer, copy):
        """Builds the copy of a layer as the layer was built, and then what its `build` has left to a call."""
        if layer.built and not copy.built and not is_graph(layer):
            if not has_build(layer):  # a call of the layer has built what it holds
                self.build_inside(layer, copy)
            build_alike(layer, copy)
        if self.is_custom(layer):
            self.match(layer, copy)
        self.build_inside(layer, copy)

    def build_inside(self, layer, copy):
        for path, old in slots(layer):
            new = at(copy, path)
            if isinstance(new, keras.layers.Layer) and old.built and not new.built:
                if old not in self.copies:
                    self.pair(old, new)
                self.build(old, new)

    def is_custom(self, layer):
        return layer not in self.plan and not is_graph(layer) and not isinstance(layer, keras.Sequential)

    def is_dropped(self, layer):
        return layer in self.plan and self.plan[layer].make is None

    def finish(self, model):
        """Builds what is left, and puts or pairs the layers that exist since their holders are built."""
        self.build(model, self.copies[model])
        for old in layers_of(model):
            if old in self.copies and self.is_custom(old):
                self.build(old, self.copies[old])
            if old in self.copies and old not in self.plan:
                for path, each in slots(old):
                    new = at(self.copies[old], path)
                    if each not in self.copies and isinstance(new, keras.layers.Layer):
                        self.pair(each, new)
