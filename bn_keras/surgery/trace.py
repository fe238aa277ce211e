"""Which layer gets its input from which: read from a trace of the model's inference, inside custom layers too.

The trace is a TensorFlow graph. Each call of a layer leaves its input and output tensors there, and TensorFlow knows
every operation that takes a tensor. So what a layer's output feeds is known whoever calls the layer.
"""

import contextlib
import contextvars
import dataclasses
import functools
import inspect
import typing

import keras
import tensorflow as tf

from bn_keras.surgery.tree import is_graph, layers_of
from bn_keras.surgery.verify import Example, brief, examples_for

# Operations that read the shape of a tensor, not its values.
OF_THE_SHAPE = {"Shape", "ShapeN", "Size", "Rank"}

# Where the thread that traces a model puts the calls; other threads may call the model meanwhile.
RECORD: contextvars.ContextVar = contextvars.ContextVar("record", default=None)


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of a layer.

    Attributes:
        layer: The layer.
        inputs, outputs: The first tensor that it got, and the tensor that it returned.
        readers: The operations inside the call that take the input, by name.
        training: The argument of that name.
    """

    layer: keras.layers.Layer
    inputs: tf.Tensor
    outputs: tf.Tensor
    readers: frozenset[str]
    training: bool


class Trace:
    """The calls of the layers of a model in one inference.

    Attributes:
        calls: By layer, a list of `Call`, for layers of the kinds that were asked for.
        unknown: The layers of which a call got or returned something else than one tensor.
    """

    def __init__(self, record, kinds):
        self.unknown, self._graphs = record.unknown, record.graphs
        self.calls: dict[keras.layers.Layer, list[Call]] = {}
        self._makers, self._takers, self._named_makers, self._named_takers = {}, {}, {}, {}
        for call in record.calls:  # an inner call ends, and is recorded, before the outer one
            self._named_makers.setdefault(call.outputs.ref(), call.layer)
            for name in call.readers:
                self._named_takers.setdefault((call.inputs.ref(), name), call.layer)
            if isinstance(call.layer, kinds):
                self.calls.setdefault(call.layer, []).append(call)
                self._makers.setdefault(call.outputs.ref(), call)
                self._takers.setdefault(call.inputs.ref(), []).append(call)

    def maker(self, tensor) -> Call | None:
        """The call, of a layer of the kinds, that returned a tensor."""
        return self._makers.get(tensor.ref())

    def takers(self, tensor) -> list[Call]:
        """The calls, of layers of the kinds, that got a tensor."""
        return self._takers.get(tensor.ref(), [])

    def before(self, tensor) -> str:
        """What returned a tensor, in words: a class, as a name would make every reason different."""
        layer = self._named_makers.get(tensor.ref())
        if layer is not None:
            return type(layer).__name__
        return "an input" if tensor.op.type == "Placeholder" else tensor.op.type

    def others(self, tensor) -> str | None:
        """What takes the values of a tensor besides the calls of `takers`, in words; `None` if nothing does."""
        known = set().union(*(call.readers for call in self.takers(tensor)))
        for op in tensor.consumers():
            if op.name not in known and op.type not in OF_THE_SHAPE | OF_THE_END:
                layer = self._named_takers.get((tensor.ref(), op.name))
                return op.type if layer is None else type(layer).__name__
        ends = [output for output in tensor.graph.outputs for end in ends_of(output) if end is tensor]
        return "the output of the model" if ends else None


# TensorFlow ends a traced function with such an operation for each output.
OF_THE_END = {"Identity"}


def ends_of(output):
    """An output of a graph, and the tensors that it only passes on."""
    while True:
        yield output
        if output.op.type not in OF_THE_END:
            return
        output = output.op.inputs[0]


def traced(model, kinds: tuple) -> tuple[Trace | None, str]:
    """Traces one inference of a model, on made-up inputs.

    Args:
        model: A built Keras model. Its layers record their calls meanwhile, and are as before afterwards.
        kinds: The classes of the layers whose calls the trace gives.

    Returns:
        `(trace, "")`, or `(None, why)` if no inputs can be made up.
    """
    why = "the model does not tell the shapes of its inputs"
    for example in examples_for(model):
        try:
            return trace_of(model, example, kinds), ""
        except Exception as error:
            why = f"the model takes none of the made-up inputs: {brief(error)}"
    return None, why


def trace_of(model, example: Example, kinds: tuple) -> Trace:
    record = Record()
    layers = [layer for layer in layers_of(model) if layer is not model]
    token = RECORD.set(record)
    try:
        with recorded(layers):
            # Without `training`: given for the whole model, it would overrule what a functional model says of a layer.
            call = lambda args, kwargs: keras.tree.flatten(model(*args, **kwargs))  # noqa: E731
            graph = tf.function(call, autograph=False).get_concrete_function(example.args, example.kwargs).graph
    finally:
        RECORD.reset(token)
    record.graphs.append(graph)
    return Trace(record, kinds)


class Record:
    """What the layers of a model write down while the model is traced."""

    def __init__(self):
        self.calls, self.unknown, self.graphs = [], set(), []  # tensors do not keep their graph alive


@contextlib.contextmanager
def recorded(layers):
    """Within it, calls of the layers are recorded by the thread that traces."""
    replaced = []
    try:
        for layer in layers:
            replaced.append(layer)
            object.__setattr__(layer, "call", recording(layer))
        yield
    finally:
        for layer in replaced:
            object.__delattr__(layer, "call")


def recording(layer) -> typing.Callable:
    call, signature = layer.call, inspect.signature(layer.call)

    @functools.wraps(call)
    def call_and_record(*args, **kwargs):
        record = RECORD.get()
        if record is None:
            return call(*args, **kwargs)
        arguments = signature.bind(*args, **kwargs).arguments
        inputs = next(iter(arguments.values()))
        before = readers_of(inputs)
        outputs = call(*args, **kwargs)
        if before is None or readers_of(outputs) is None:
            record.unknown.add(layer)
        else:
            readers = frozenset(readers_of(inputs) - before)
            record.calls.append(Call(layer, inputs, outputs, readers, bool(arguments.get("training"))))
            record.graphs.append(inputs.graph)
        return outputs

    return call_and_record


def readers_of(tensor) -> set[str] | None:
    """The operations that take a tensor of a graph, by name; `None` for anything else."""
    if not isinstance(tensor, tf.Tensor) or not hasattr(tensor, "graph"):
        return None
    return {op.name for op in tensor.consumers()}


def names_an_output(layer, model) -> bool:
    """Whether an output of a functional or Sequential model in `model` has the name of a layer."""
    for each in layers_of(model):
        if isinstance(each, keras.Sequential) and each.layers and each.layers[-1] is layer:
            return True
        if is_graph(each) and layer in each.layers and layer.name in each.output_names:
            return True
    return False
