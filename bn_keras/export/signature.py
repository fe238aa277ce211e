"""The inputs of a model: the arguments of its call, and the shape, dtype and name of each tensor in them."""

import dataclasses
import inspect
import re

import keras
import tensorflow as tf

from bn_keras.export.formats import ExportError, brief
from bn_keras.surgery.tree import is_graph

# Keras numbers these names by what else the process has made, and a .keras file keeps the number.
AUTOMATIC = re.compile(r"(keras_tensor|input_layer)(_\d+)?")
FILLED_IN_BY_KERAS = {"training", "mask"}
ONLY_INPUT = "inputs"
# Ops that pass values on, and ops that look at an input without computing with its values.
PASSING_ON = {"Identity", "StridedSlice", "Slice", "Reshape", "ExpandDims", "Squeeze", "Transpose"}
LOOKING_AT = {"Shape", "ShapeN", "Size", "Rank", "Equal", "NotEqual"}


@dataclasses.dataclass(frozen=True)
class Signature:
    """The inputs of an exported model.

    Attributes:
        arguments: By the name of the argument of the model's `call`, in the order of `call`, a structure of
            `tf.TensorSpec`. Every spec has a name of its own, and the batch as its first dimension.
    """

    arguments: dict

    @property
    def specs(self) -> list[tf.TensorSpec]:
        """All specs, in the order of `tf.nest.flatten`."""
        return tf.nest.flatten(list(self.arguments.values()))

    @property
    def batch(self) -> int | None:
        """The size of a batch; `None` for any."""
        return self.specs[0].shape[0]

    def pack(self, values: list) -> dict:
        """Values in the place of the specs, by argument."""
        packed = tf.nest.pack_sequence_as(list(self.arguments.values()), values)
        return dict(zip(self.arguments, packed, strict=True))


def called(model, arguments: dict):
    """The outputs of a model in inference for values by argument."""
    (first, value), *others = arguments.items()
    if first == next(iter(parameters_of(model))):
        return model(value, **dict(others), training=False)
    return model(**arguments, training=False)


def signature_of(model, input_signature=None) -> Signature:
    """The signature of a model.

    Args:
        model: A Keras model that has been built.
        input_signature: That of `export`, or `None`.

    Raises:
        ExportError: If the inputs of a subclassed model cannot be known.
        ValueError: If `input_signature` does not fit the model.

    Example:

    >>> signature_of(keras.Sequential([keras.Input((3,), name="x"), keras.layers.Dense(2)])).arguments
    {'inputs': TensorSpec(shape=(None, 3), dtype=tf.float32, name='x')}
    """
    known = declared(model)
    if input_signature is None and known is None:
        arguments = found_by_tracing(model)
    elif input_signature is None:
        arguments = known
    else:
        arguments = {
            name: specs_given(value) for name, value in by_argument(model, input_signature, "input_signature").items()
        }
        if known is not None:
            arguments = with_names_of(known, arguments)
    signature = Signature(with_names(arguments))
    sizes = {spec.shape[0] for spec in signature.specs}
    if len(sizes) > 1:
        raise ValueError(
            "All inputs of an exported model have the same batch size, None or a number. Received: an "
            f"`input_signature` with batch sizes {sorted(sizes, key=str)}."
        )
    return signature


def declared(model):
    """The inputs that a functional or Sequential model declares, for a batch of any size; of other models `None`."""
    if is_graph(model):
        tensors = model.input
    elif isinstance(model, keras.Sequential):
        (tensors,) = model.inputs
    else:
        return None
    specs = tf.nest.map_structure(lambda each: tf.TensorSpec([None, *each.shape[1:]], each.dtype, each.name), tensors)
    return {next(iter(parameters_of(model))): specs}


def parameters_of(model) -> dict[str, inspect.Parameter]:
    """The arguments of a model's `call` that can be inputs."""
    found = {
        name: parameter
        for name, parameter in inspect.signature(model.call).parameters.items()
        if name not in FILLED_IN_BY_KERAS and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    }
    if not found:
        raise ExportError(
            f"The call of the model {model.name!r} names no argument that can be an input: "
            f"call{inspect.signature(model.call)}. Name its arguments."
        )
    return found


def by_argument(model, value, what: str) -> dict:
    """What a user gave for all inputs, by argument of the model's `call`.

    For a `call` with several arguments, a tuple has a value for each in their order, and a dict with their names has a
    value by name. Anything else is the value of the first argument.
    """
    parameters = parameters_of(model)
    names = list(parameters)
    if len(names) > 1 and isinstance(value, dict) and set(value) <= set(names):
        found = {name: value[name] for name in names if name in value}
    elif len(names) > 1 and isinstance(value, tuple) and len(value) <= len(names):
        found = dict(zip(names, value, strict=False))
    else:
        found = {names[0]: value}
    missing = [name for name in names if parameters[name].default is inspect.Parameter.empty and name not in found]
    if missing:
        raise ValueError(
            f"`{what}` must have a value for each argument of the model's call{inspect.signature(model.call)}, as a "
            f"tuple or as a dict by name. Missing: {', '.join(missing)}."
        )
    return found


def specs_given(structure):
    """A structure of objects with a shape and a dtype, as a structure of `tf.TensorSpec`."""

    def spec(each):
        shape, dtype = getattr(each, "shape", None), getattr(each, "dtype", None)
        if shape is None or dtype is None or tf.TensorShape(shape).rank in (None, 0):
            raise ValueError(
                "`input_signature` must be a structure of tf.TensorSpec, each with a dtype and a shape whose first "
                f"dimension is the batch, such as tf.TensorSpec([None, 3], 'float32'). Received: {each!r}."
            )
        return tf.TensorSpec(shape, dtype, getattr(each, "name", None))

    return tf.nest.map_structure(spec, structure)


def with_names_of(known: dict, arguments: dict) -> dict:
    """Given specs, which have the names of the declared inputs where they have none of their own."""
    flat, user_specs = alike(known, arguments, "input_signature")
    names = [spec.name or own.name for own, spec in zip(flat, user_specs, strict=True)]
    specs = [tf.TensorSpec(spec.shape, spec.dtype, name) for spec, name in zip(user_specs, names, strict=True)]
    return tf.nest.pack_sequence_as(known, specs)


def alike(specs: dict, values: dict, what: str) -> tuple[list, list]:
    """Both flat, if they have the same structure."""
    flat = tf.nest.flatten(specs)
    if len(flat) == 1 and not any(map(tf.nest.is_nested, values.values())):
        return flat, list(values.values())
    try:
        tf.nest.assert_same_structure(specs, values)
    except (TypeError, ValueError):
        names = ", ".join(str(tf.nest.map_structure(lambda spec: spec.name, each)) for each in specs.values())
        kinds = ", ".join(type(value).__name__ for value in values.values())
        raise ValueError(
            f"`{what}` must have the structure of the model's inputs, {names}. Received: a {kinds}."
        ) from None
    return flat, tf.nest.flatten(values)


def with_names(arguments: dict) -> dict:
    """Specs with names: its own if somebody chose one, else one that the place of the spec tells."""
    taken: set[str] = set()

    def unique(name):
        name = free = re.sub(r"\W", "_", name)
        while free in taken:
            free = f"{name}_{len(taken)}"
        taken.add(free)
        return free

    def named(value, name, prefix):
        if isinstance(value, dict):
            return {key: named(value[key], f"{prefix}{key}", f"{prefix}{key}_") for key in sorted(value)}
        if isinstance(value, (list, tuple)):
            every = [named(each, f"{name}_{i}", f"{name}_{i}_") for i, each in enumerate(value)]
            return type(value)(every) if type(value) in (list, tuple) else every
        chosen = value.name if value.name and not AUTOMATIC.fullmatch(value.name) else name
        return tf.TensorSpec(value.shape, value.dtype, unique(chosen))

    if len(arguments) == 1:
        return {argument: named(value, ONLY_INPUT, "") for argument, value in arguments.items()}
    return {argument: named(value, argument, f"{argument}_") for argument, value in arguments.items()}


def traced(model, arguments: dict):
    """The concrete function of a model's inference."""
    return tf.function(lambda values: called(model, values), autograph=False).get_concrete_function(arguments)


def found_by_tracing(model) -> dict:
    """The inputs of a subclassed model: Keras keeps the shapes of its first call, and forgets the dtypes.

    The model is traced with floats. An input that it casts to integers before it computes anything is an integer, and
    all others are floats. If one input cannot be a float, it is the one of int32 and string that it can be.

    Raises:
        ExportError: If no dtype or more than one is left, or if an argument that `call` requires has no known shape.
    """
    shapes, advice = shapes_of(model), "Pass input_signature=, a tf.TensorSpec for each input."
    floats = specs_of_shapes(shapes, tf.as_dtype(model.variable_dtype))
    try:
        function = traced(model, floats)
    except Exception as error:
        first = error
    else:
        flat = tf.nest.flatten(floats)
        inputs = function.inputs[: len(flat)]  # captured tensors come after the arguments
        dtypes = [tf.int32 if casts_to_integers(each) else each.dtype for each in inputs]
        return tf.nest.pack_sequence_as(floats, [tf.TensorSpec(s.shape, d) for s, d in zip(flat, dtypes, strict=True)])
    works = []
    for dtype in (tf.int32, tf.string) if len(tf.nest.flatten(floats)) == 1 else ():
        specs = specs_of_shapes(shapes, dtype)
        try:
            traced(model, specs)
            works.append(specs)
        except Exception:  # a dtype that the model cannot be traced with is no candidate
            continue
    if len(works) != 1:
        raise ExportError(
            f"The dtypes of the inputs of {model.name!r} ({type(model).__name__}) are not known: Keras keeps none of a "
            f"subclassed model, and it cannot be traced with floats: {brief(first)} {advice}"
        ) from first
    return works[0]


def casts_to_integers(tensor) -> bool:
    """Whether all that a graph does with a tensor is to cast it to integers."""
    users = [op for op in tensor.consumers() if op.type not in LOOKING_AT]

    def integer(op):
        if op.type == "Cast" and op.outputs[0].dtype.is_integer:
            return True
        passing = op.type in PASSING_ON or (op.type == "Cast" and op.outputs[0].dtype.is_floating)
        return passing and op.inputs[0] is tensor and all(map(casts_to_integers, op.outputs))

    return bool(users) and all(map(integer, users))


def shapes_of(model) -> dict:
    """The shapes of the first call by argument, as Keras keeps them."""
    config, parameters = model.get_build_config() or {}, parameters_of(model)
    if "shapes_dict" in config:
        shapes = {name.removesuffix("_shape"): shape for name, shape in config["shapes_dict"].items()}
    else:
        shapes = {next(iter(parameters)): config.get("input_shape")}
    needed = [name for name, parameter in parameters.items() if parameter.default is inspect.Parameter.empty]
    unknown = [name for name in needed if shapes.get(name) is None] or sorted(shapes.keys() - parameters.keys())
    if unknown:
        raise ExportError(
            f"The shape of {', '.join(unknown)} in the call{inspect.signature(model.call)} of {model.name!r} "
            f"({type(model).__name__}) is not known: Keras keeps the shapes that a subclassed model was built with. "
            "Pass input_signature=, a tf.TensorSpec for each argument, as a tuple or as a dict by name."
        )
    return shapes


def specs_of_shapes(shapes, dtype):
    if isinstance(shapes, dict):
        return {key: specs_of_shapes(shape, dtype) for key, shape in shapes.items()}
    if any(isinstance(size, (list, tuple, dict)) for size in shapes):
        return [specs_of_shapes(shape, dtype) for shape in shapes]
    return tf.TensorSpec([None, *shapes[1:]], dtype)
