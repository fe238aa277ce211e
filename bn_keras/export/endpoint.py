"""What an exported model offers: a function of named inputs of any batch size, with named outputs."""

import re

import keras
import tensorflow as tf

from bn_keras.export.formats import ExportError, brief
from bn_keras.surgery.tree import is_graph

AUTOMATIC = re.compile(r"keras_tensor(_\d+)?")  # with a number that depends on what else the process has made


class Endpoint:
    """The inference of a model as one traced function, the same for all formats.

    Attributes:
        model: The Keras model.
        specs: A `tf.TensorSpec` for each input, in the structure that the model takes.
        function: A `tf.function` of one argument of that structure; it returns what the model returns.
        inputs, outputs: Their names. An input has that of its `keras.Input`, or `inputs` (of several `inputs_0`, …)
            where that was given none; an output has its key where the model returns a dict, or else `output_0`, ….

    Raises:
        ExportError: When the model cannot be traced with such inputs.
        ValueError: For outputs that cannot have a name each.

    Example:

    >>> x = keras.Input((3,), name="x")
    >>> endpoint = Endpoint(keras.Model(x, {"double": 2 * x}))
    >>> endpoint.inputs, endpoint.outputs
    (('x',), ('double',))
    """

    def __init__(self, model):
        self.model, self.specs = model, specs_of(model)
        self.function = tf.function(lambda x: model(x, training=False), input_signature=[self.specs], autograph=False)
        self.inputs = tuple(spec.name for spec in tf.nest.flatten(self.specs))
        try:
            traced = self.function.get_concrete_function()
        except Exception as error:
            raise ExportError(f"The model {model.name!r} cannot be traced for {self.specs}: {brief(error)}") from error
        self.outputs = tuple(named(traced.structured_outputs))

    def named_function(self):
        """The same function with a dict of its outputs by name."""
        return tf.function(lambda x: named(self.function(x)), input_signature=[self.specs], autograph=False)


def named(outputs):
    """The outputs of a model by name, in the order of `tf.nest.flatten`."""
    if isinstance(outputs, dict):
        by_name = {str(name): outputs[name] for name in sorted(outputs)}
    else:
        each = outputs if isinstance(outputs, (list, tuple)) else [outputs]
        by_name = {f"output_{i}": output for i, output in enumerate(each)}
    if any(tf.nest.is_nested(output) for output in by_name.values()):
        raise ValueError(
            f"The outputs of an exported model have a name each. Expected a tensor, or a list or dict of tensors. "
            f"Received: {tf.nest.map_structure(lambda output: output.shape.as_list(), outputs)}."
        )
    return by_name


def specs_of(model):
    """A `tf.TensorSpec` for each input, in their structure, with a name and a batch of any size."""
    if is_graph(model):
        tensors = model.input
    elif isinstance(model, keras.Sequential):
        (tensors,) = model.inputs
    else:  # a class of its own: what its first call was given
        return specs_of_shapes(model.get_build_config()["input_shape"], model.variable_dtype, "inputs")
    flat = tf.nest.flatten(tensors)
    names = [f"inputs_{i}" for i in range(len(flat))] if len(flat) > 1 else ["inputs"]
    specs = [
        tf.TensorSpec([None, *each.shape[1:]], each.dtype, name if AUTOMATIC.fullmatch(each.name) else plain(each.name))
        for each, name in zip(flat, names, strict=True)
    ]
    return tf.nest.pack_sequence_as(tensors, specs)


def plain(name):
    """A name that can stand in every signature."""
    return re.sub(r"\W", "_", name)


def specs_of_shapes(shapes, dtype, name):
    if isinstance(shapes, dict):
        return {key: specs_of_shapes(shape, dtype, plain(key)) for key, shape in shapes.items()}
    if any(isinstance(size, (list, tuple, dict)) for size in shapes):
        return [specs_of_shapes(shape, dtype, f"{name}_{i}") for i, shape in enumerate(shapes)]
    return tf.TensorSpec([None, *shapes[1:]], dtype, name)
