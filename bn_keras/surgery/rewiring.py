"""A copy of a functional model that takes other inputs: with a `domain`, or without the inputs that only tell one."""

import itertools

import keras
import numpy as np

from bn_keras.surgery.account import settle
from bn_keras.surgery.changed import mark
from bn_keras.surgery.copying import Copier
from bn_keras.surgery.tree import is_graph, layers_of

DOMAIN = "domain"
# Layers and operations whose output is their input in another shape, order or dtype.
KEEPING_VALUES = {
    "Cast",
    "ExpandDims",
    "Flatten",
    "GetItem",
    "Identity",
    "Permute",
    "RepeatVector",
    "Reshape",
    "Squeeze",
    "Transpose",
}


class Rewiring:
    """A copy of a functional model with other inputs, made by the same calls again.

    Attributes:
        dropped: The rows of layers whose variables have no successor.
    """

    def __init__(self, model, plan):
        self.model, self.plan, self.copier = model, plan, Copier(model, plan)

    def made(self):
        """The copy, with the weights of the model."""
        copy = self.rewired(self.model)
        self.copier.finish(self.model)
        self.dropped = settle(self.model, self.plan, self.copier.copies)
        mark(self.copier)
        return copy

    def is_concerned(self, layer) -> bool:
        """Whether a layer is a model inside the model, and its inputs change."""
        return is_plain_graph(layer) and any(inner in self.plan for inner in layers_of(layer))

    def copy_of_layer(self, layer):
        if not isinstance(layer, keras.layers.Layer):
            return type(layer).from_config(layer.get_config())
        if self.is_concerned(layer):
            return self.copier.copies[layer] if layer in self.copier.copies else self.rewired(layer)
        return self.copier.copy_to_call(layer)

    def called_again(self, plain, tensors, call):
        """The outputs of the same calls, in which `call(old, new, args, kwargs)` makes each."""
        old_of = {}

        def copy(operation):
            new = self.copy_of_layer(operation)
            old_of[id(new)] = operation
            return new

        again = lambda new, *args, **kwargs: call(old_of[id(new)], new, args, kwargs)  # noqa: E731
        return keras.models.clone_model(plain, tensors, clone_function=copy, call_function=again).output

    def finished(self, model, inputs, outputs):
        copy = keras.Model(inputs, outputs, name=model.name)
        self.copier.copies[model] = copy
        return copy


class Splitting(Rewiring):
    """Every model with a batch norm of the plan gets a `domain` as its last input.

    Attributes:
        names: By model, the name of its new input: a model inside the model may have used `domain` already.
    """

    def __init__(self, model, plan):
        super().__init__(model, plan)
        self.names = {}

    def rewired(self, model):
        structure, name = structure_of(model), free_name(model)
        self.names[model] = name
        domain = keras.Input((), dtype="int32", name=name)
        plain = keras.Model(with_domain(structure, domain, name), outputs_in(model))
        tensors = keras.tree.map_structure(input_like, plain.input)
        domain = keras.tree.flatten(tensors[name] if isinstance(tensors, dict) else tensors)[-1]

        def call(old, new, args, kwargs):
            if old in self.plan:
                return new(*args, **kwargs, domain=domain)
            if self.is_concerned(old):
                args, kwargs = inputs_first(args, kwargs)
                return new(with_domain(as_structure_of(old, args[0]), domain, self.names[old]), *args[1:], **kwargs)
            return new(*args, **kwargs)

        return self.finished(model, tensors, self.called_again(plain, tensors, call))


class Merging(Rewiring):
    """Every model with a layer of the plan loses the inputs that reach nothing but a domain.

    Attributes:
        kept: By model, whether each of its inputs stays, in their flat order.
        tells: By model, whether the values of each of its inputs are domains, themselves or in another shape or dtype.
    """

    def __init__(self, model, plan, domain):
        super().__init__(model, plan)
        self.domain, self.kept, self.tells = domain, {}, {}

    def rewired(self, model):
        plain = keras.Model(structure_of(model), outputs_in(model))
        tensors = keras.tree.map_structure(input_like, plain.input)
        domains, lost, sources, same = set(), set(), {}, {}

        def call(old, new, args, kwargs):
            if old in self.plan:
                args, kwargs = inputs_first(args, kwargs)
                given = args[1] if len(args) > 1 else kwargs.pop("domain", None)
                self.refuse_another(old, given)
                domains.add(id(given))
                lost.add(id(given))
                args = args[:1]
            elif self.is_concerned(old):
                args, kwargs = inputs_first(args, kwargs)
                inputs = as_structure_of(old, args[0])
                domains.update(id(each) for each, tells in zip(flat(inputs), self.tells[old], strict=True) if tells)
                lost.update(id(each) for each, keep in zip(flat(inputs), self.kept[old], strict=True) if not keep)
                args = (only(inputs, self.kept[old]), *args[1:])
            taken = {id(each) for each in flat((args, kwargs)) if is_symbolic(each)}
            outputs = new(*args, **kwargs)
            sources.update((id(each), taken) for each in flat(outputs))
            if type(old).__name__ in KEEPING_VALUES:
                same.update((id(each), taken) for each in flat(outputs))
            return outputs

        outputs = self.called_again(plain, tensors, call)
        told, lost = origins(domains, same), origins(lost, sources)
        used = origins({id(each) for each in flat(outputs)}, sources)
        self.tells[model] = [id(each) in told for each in flat(tensors)]
        self.kept[model] = [id(each) not in lost or id(each) in used for each in flat(tensors)]
        return self.finished(model, only(tensors, self.kept[model]), outputs)

    def refuse_another(self, layer, domain):
        fixed = [] if is_symbolic(domain) else np.unique(keras.ops.convert_to_numpy(domain)).tolist()
        if any(each != self.domain for each in fixed):
            there = ", ".join(map(str, fixed))
            raise ValueError(
                f"The layer {layer.name!r} is called with domain={there}, which is fixed. Received: "
                f"domain={self.domain}. Pass domain={there}, or make the domain an input of the model."
            )


def origins(tensors: set[int], sources: dict[int, set[int]]) -> set[int]:
    """Tensors, and those that they are made from, by id.

    >>> sorted(origins({4}, {4: {3}, 3: {1, 2}, 6: {5}}))
    [1, 2, 3, 4]
    """
    found, waiting = set(), list(tensors)
    while waiting:
        tensor = waiting.pop()
        if tensor not in found:
            found.add(tensor)
            waiting += sources.get(tensor, ())
    return found


def free_name(model) -> str:
    """The name of a new input: `domain`, or `domain_1` and so on where the model uses the name."""
    taken = names_in(model)
    numbered = (f"{DOMAIN}_{i}" for i in itertools.count(1))
    return next(name for name in itertools.chain([DOMAIN], numbered) if name not in taken)


def names_in(model) -> set[str]:
    """The names that a new input must not have: those of inputs and their keys, and of layers."""
    structure = structure_of(model)
    keys = set(structure) if isinstance(structure, dict) else set()
    return keys | {tensor.name for tensor in model.inputs} | {layer.name for layer in model.layers}


def as_structure_of(model, inputs):
    """The inputs of a call as the dict that the model was made with: Keras takes them in order too."""
    structure = structure_of(model)
    if isinstance(structure, dict) and not isinstance(inputs, dict):
        return keras.tree.pack_sequence_as(structure, flat(inputs))
    return inputs


def structure_of(model):
    """The inputs of a model as it is called; a Sequential model has one."""
    return model.inputs[0] if isinstance(model, keras.Sequential) else model.input


def outputs_in(model):
    return model.outputs[0] if isinstance(model, keras.Sequential) else model.output


def input_like(tensor):
    return keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, sparse=tensor.sparse, name=tensor.name)


def inputs_first(args, kwargs):
    """The arguments of a call with the inputs as the first positional one."""
    if args:
        return args, dict(kwargs)
    name, *_ = kwargs
    return (kwargs[name],), {key: value for key, value in kwargs.items() if key != name}


def is_symbolic(value) -> bool:
    return isinstance(value, keras.KerasTensor)


def flat(structure) -> list:
    return keras.tree.flatten(structure)


def with_domain(inputs, domain, name=DOMAIN):
    """A structure of inputs with the domain as the last one; `name` is its key in a dict."""
    if isinstance(inputs, dict):
        return inputs | {name: domain}
    return [*inputs, domain] if isinstance(inputs, (list, tuple)) else [inputs, domain]


def only(inputs, kept):
    """A structure without some of its inputs; one that is left of a list stands for itself."""
    if isinstance(inputs, dict):
        names = [name for name, keep in zip(sorted(inputs), kept, strict=True) if keep]
        return {name: inputs[name] for name in names}
    left = [each for each, keep in zip(flat(inputs), kept, strict=True) if keep]
    return left[0] if len(left) == 1 else left


def is_plain_graph(layer) -> bool:
    """Whether Keras calls the layers of a model, and no code of a user."""
    graph = is_graph(layer) or (isinstance(layer, keras.Sequential) and layer.built)
    return graph and type(layer).__module__.partition(".")[0] == "keras"
