"""How far each activation of an int8 file is off: run by `quantizing.py`, in a process of its own.

    python -I drop.py FORMAT FLOAT32 INT8 EXAMPLES ANSWER

EXAMPLES is a `.npy` file with one batch. ANSWER is a JSON file, `{"layers": [[tensor, error, rounding], …], "floats":
[tensor, …]}`. `error` and `rounding` are those of `LayerDrop`; `rounding` is `null` for an output, which both files
give in float32. `floats` are the activations that the int8 file computes in float32.
"""

import dataclasses
import json
import sys

import numpy as np


@dataclasses.dataclass(frozen=True)
class Activation:
    """The values of an activation for the batch; its scale and zero point where the file has it in 8 bits."""

    values: np.ndarray
    scale: float | None = None
    zero: np.integer | None = None

    def rounded(self, values):
        """Other values through this scale, in the type of the zero point."""
        limits, zero = np.iinfo(self.zero.dtype), int(self.zero)
        return (np.clip(np.round(values / self.scale) + zero, limits.min, limits.max) - zero) * self.scale


def tflite(float32, int8, x):
    """Pairs of activations by tensor, and the tensors that stay float32."""
    exact, found = activations(float32, x), activations(int8, x)
    outputs, inputs = (
        {detail["name"] for detail in details}
        for details in (interpreter_of(int8).get_output_details(), interpreter_of(int8).get_input_details())
    )
    pairs = {
        name: (exact[name].values, each)
        for name, each in found.items()
        if name in exact and (each.scale is not None or name in outputs)
    }
    return pairs, [name for name, each in found.items() if each.scale is None and name not in inputs | outputs]


def interpreter_of(path):
    """An interpreter that keeps every tensor: LiteRT's own package, or else TensorFlow's."""
    try:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType
    except ModuleNotFoundError:
        from tensorflow.lite import Interpreter
        from tensorflow.lite.experimental import OpResolverType

    kernels = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    return Interpreter(path, experimental_preserve_all_tensors=True, experimental_op_resolver_type=kernels)


def activations(path, x):
    """The activations of a `.tflite` file by name. A tensor that another batch does not change is a constant."""
    interpreter = interpreter_of(path)
    index = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(index, x.shape)
    interpreter.allocate_tensors()
    values, others = (tensors(interpreter, index, batch) for batch in (x, x[::-1]))
    found = {}
    for detail in interpreter.get_tensor_details():
        name, scales = detail["name"], detail["quantization_parameters"]["scales"]
        value, other = (each.get(detail["index"]) for each in (values, others))
        if not name or value is None or np.array_equal(value, other, equal_nan=True):
            continue
        if value.dtype == np.float32:
            found[name] = Activation(value)
        elif value.dtype == np.int8 and len(scales) == 1:
            scale, zero = float(scales[0]), np.int8(detail["quantization_parameters"]["zero_points"][0])
            found[name] = Activation((value.astype(np.float64) - zero) * scale, scale, zero)
    return found


def tensors(interpreter, index, batch):
    """The values of all tensors by index."""
    interpreter.set_tensor(index, batch)
    interpreter.invoke()
    values = {}
    for detail in interpreter.get_tensor_details():
        try:
            values[detail["index"]] = np.array(interpreter.get_tensor(detail["index"]))
        except ValueError:  # scratch memory of an op has no values
            continue
    return values


def onnx(float32, int8, x):
    """Pairs of activations by tensor, and the tensors that stay float32."""
    from onnx import TensorProto, load, numpy_helper, shape_inference

    graph, exact = load(int8).graph, load(float32).graph
    constants = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    known = {each.name for each in exact.input} | {name for node in exact.node for name in node.output}
    restored = {node.input[0]: node.output[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    quantized = {node.input[0]: node for node in graph.node if node.op_type == "QuantizeLinear"}
    nodes = {name: node for name, node in quantized.items() if name in known and node.output[0] in restored}
    outputs = [each.name for each in graph.output]
    there = onnx_values(float32, [*nodes, *outputs], x)
    here = onnx_values(int8, [*(restored[node.output[0]] for node in nodes.values()), *outputs], x)
    scales = [[constants[name][()] for name in node.input[1:3]] for node in nodes.values()] + [[]] * len(outputs)
    pairs = {
        name: (plain, Activation(values, *scale))
        for name, plain, values, scale in zip([*nodes, *outputs], there, here, scales, strict=True)
    }
    inferred = shape_inference.infer_shapes(load(int8)).graph.value_info
    floats = {each.name for each in inferred if each.type.tensor_type.elem_type == TensorProto.FLOAT}
    own = [node for node in graph.node if node.op_type not in ("QuantizeLinear", "DequantizeLinear")]
    return pairs, [name for node in own for name in node.output if name in floats and name not in quantized]


def onnx_values(path, names, x):
    """The values of some tensors of an `.onnx` file."""
    import onnxruntime
    from onnx import ValueInfoProto, load

    model = load(path)
    outputs = {each.name for each in model.graph.output}
    model.graph.output.extend(ValueInfoProto(name=name) for name in names if name not in outputs)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(names, {session.get_inputs()[0].name: x})


def row_of(name, exact, activation):
    exact = np.asarray(exact, np.float64)
    error = np.linalg.norm(activation.values - exact) / (np.linalg.norm(exact) or 1.0)
    return [name, float(error), None if activation.scale is None else rounding_of(activation, exact)]


def rounding_of(activation, exact):
    """The mean relative error of the elements. In a norm, one channel of large values would hide all others."""
    exact = exact[exact != 0]
    lost = np.abs(activation.rounded(exact) - exact) / np.abs(exact)
    return float(np.minimum(lost, 1).mean()) if len(lost) else 0.0


FORMATS = {"tflite": tflite, "onnx": onnx}


def main(format, float32, int8, examples, answer):
    pairs, floats = FORMATS[format](float32, int8, np.load(examples))
    with open(answer, "w", encoding="utf-8") as file:
        json.dump({"layers": [row_of(name, *pair) for name, pair in pairs.items()], "floats": floats}, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
