"""A SavedModel converted to int8 with calibration data: run by `quantizing.py`, in a process of its own.

    python -I int8.py CONVERT FORMAT SAVED_MODEL EXAMPLES FLOAT32 OUT REQUEST ANSWER

CONVERT is the path of `convert.py`, which writes FLOAT32, the file that the int8 file is compared with. EXAMPLES is a
`.npy` file. REQUEST is a JSON file, `{"inputs": names, "outputs": names, "opset": null, "batch": number or null}`;
`batch` is the one batch size that the model takes. ANSWER is a JSON file, `{"error": text}`; the text is empty if both
files are written.
"""

import json
import os
import runpy
import sys

import numpy as np


def batches_of(x, request):
    """The examples by input, one by one or in batches of the one size that the model takes."""
    (name,), rows = request["inputs"], request["batch"] or 1
    return ({name: x[i : i + rows]} for i in range(0, len(x) - rows + 1, rows))


def tflite(saved_model, float32, out, x, request):
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(saved_model, signature_keys=["serve"])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.representative_dataset = lambda: batches_of(x, request)
    with open(out, "wb") as file:
        file.write(converter.convert())


def onnx(saved_model, float32, out, x, request):
    import onnx
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(quantization.CalibrationDataReader):
        def __init__(self):
            self.batches = batches_of(x, request)

        def get_next(self):
            return next(self.batches, None)

    prepared = f"{float32}.prepared"
    quant_pre_process(float32, prepared, skip_symbolic_shape=True)
    os.replace(prepared, float32)  # its tensors have the names of the int8 file
    quantization.quantize_static(
        float32,
        out,
        Reader(),
        quant_format=quantization.QuantFormat.QDQ,
        per_channel=True,
        # The kernels of x86 are fast for unsigned activations; without VNNI they overflow with weights of 8 bits.
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
        reduce_range=True,
    )
    if not any(node.op_type == "QuantizeLinear" for node in onnx.load(out).graph.node):
        raise ValueError("ONNX Runtime has int8 for none of its ops.")


FORMATS = {"tflite": tflite, "onnx": onnx}


def main(convert, format, saved_model, examples, float32, out, request, answer):
    with open(request, encoding="utf-8") as file:
        asked = json.load(file)
    try:
        runpy.run_path(convert)["FORMATS"][format](saved_model, float32, asked)
        FORMATS[format](saved_model, float32, out, np.load(examples), asked)
        error = ""
    except Exception as raised:
        error = str(raised).strip() or type(raised).__name__
    with open(answer, "w", encoding="utf-8") as file:
        json.dump({"error": error}, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
