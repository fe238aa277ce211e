"""What an exported model offers: a function of named inputs, with named outputs."""

import inspect
import re

import tensorflow as tf

from bn_keras.export.formats import ExportError, brief
from bn_keras.export.signature import Signature, called

COMMUNICATES = re.compile("Collective|Nccl|Horovod|CrossReplica|AllReduce|AllToAll", re.IGNORECASE)


class Endpoint:
    """The inference of a model as one traced function, the same for all formats.

    Attributes:
        model: The Keras model.
        signature: A `Signature`.
        function: A `tf.function` with the arguments of the signature; it returns what the model returns.
        concrete: Its concrete function.
        inputs, outputs: Their names. An output has its key where the model returns a dict, or else `output_0`, ….

    Args:
        front: A Keras model that the only input goes through first, or `None`.

    Raises:
        ExportError: When the model cannot be traced with such inputs, or communicates with other devices.
        ValueError: For outputs that cannot have a name each.

    Example:

    >>> import keras
    >>> from bn_keras.export.signature import signature_of
    >>> x = keras.Input((3,), name="x")
    >>> model = keras.Model(x, {"double": 2 * x})
    >>> endpoint = Endpoint(model, signature_of(model))
    >>> endpoint.inputs, endpoint.outputs
    (('x',), ('double',))
    """

    def __init__(self, model, signature: Signature, front=None):
        self.model, self.signature, self.front = model, signature, front
        self.inputs = tuple(spec.name for spec in signature.specs)
        specs = list(signature.arguments.values())
        self.function = tf.function(with_parameters(self.run, signature), input_signature=specs, autograph=False)
        try:
            self.concrete = self.function.get_concrete_function()
        except Exception as error:
            raise ExportError(f"The model {model.name!r} cannot be traced for {specs}: {brief(error)}") from error
        self.outputs = names_of(self.concrete.structured_outputs)
        communicating = sorted({op for op in ops_of(self.concrete) if COMMUNICATES.search(op)})
        if communicating:
            raise ExportError(
                f"The model {model.name!r} has collective ops in its graph: {', '.join(communicating)}. A layer of "
                "another library communicates in inference too: leave it out of the model."
            )

    def run(self, arguments: dict):
        return through(self.front, self.model, arguments)


def through(front, model, arguments: dict):
    """The outputs of a model for values by argument, of which the only one goes through another model first."""
    if front is not None:
        arguments = {name: front(value) for name, value in arguments.items()}
    return called(model, arguments)


def with_parameters(function, signature):
    """A function of a dict, as a function with the keys as its parameters."""

    def serve(*values):
        return function(dict(zip(signature.arguments, values, strict=True)))

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    serve.__signature__ = inspect.Signature([inspect.Parameter(name, kind) for name in signature.arguments])
    return serve


def ops_of(concrete) -> set[str]:
    """The types of all ops of a concrete function, and of the functions that it calls."""
    definition = concrete.graph.as_graph_def()
    nodes = [*definition.node, *(node for each in definition.library.function for node in each.node_def)]
    return {node.op for node in nodes}


def names_of(outputs) -> tuple[str, ...]:
    """The names of a model's outputs, in the order of `tf.nest.flatten`."""
    if isinstance(outputs, dict):
        by_name = {str(name): outputs[name] for name in sorted(outputs)}
    else:
        each = outputs if isinstance(outputs, (list, tuple)) else [outputs]
        by_name = {f"output_{i}": output for i, output in enumerate(each)}
    if not by_name or not all(isinstance(output, (tf.Tensor, tf.TensorSpec)) for output in by_name.values()):
        kinds = tf.nest.map_structure(lambda output: getattr(output, "shape", type(output).__name__), outputs)
        raise ValueError(
            "The outputs of an exported model have a name each. Expected a tensor, or a list or dict of tensors. "
            f"Received: {kinds}."
        )
    return tuple(by_name)
