"""A SavedModel converted to another format: run by `formats.py`, in a process of its own.

    python -I convert.py FORMAT SAVED_MODEL OUT REQUEST ANSWER

The converters print, log and warn; in a process of its own they disturb nobody. REQUEST is a JSON file of that process,
`{"inputs": names, "outputs": names, "opset": number or null}`; ANSWER is one of this process, `{"error": text}`, where
the text is empty if OUT is written.
"""

import json
import sys


def tflite(saved_model, out, request):
    import tensorflow as tf

    if not hasattr(tf, "lite") or not hasattr(tf.lite, "TFLiteConverter"):
        raise ImportError(f"it takes tf.lite.TFLiteConverter, which TensorFlow {tf.__version__} does not have.")
    converted = tf.lite.TFLiteConverter.from_saved_model(saved_model, signature_keys=["serve"]).convert()
    with open(out, "wb") as file:
        file.write(converted)


def onnx(saved_model, out, request):
    import onnx
    import tf2onnx.convert

    arguments = ["--saved-model", saved_model, "--tag", "serve", "--signature_def", "serve", "--output", out]
    opset = [] if request["opset"] is None else ["--opset", str(request["opset"])]
    sys.argv = ["tf2onnx.convert", *arguments, *opset]
    tf2onnx.convert.main()
    graph = onnx.load(out).graph
    unknown = {node.op_type for node in graph.node if not onnx.defs.has(node.op_type, node.domain)}
    if unknown:
        raise ValueError(f"it has no op for {', '.join(sorted(unknown))}.")
    for what, values in (("inputs", graph.input), ("outputs", graph.output)):
        names, expected = sorted(value.name for value in values), sorted(request[what])
        if names != expected:
            raise ValueError(
                f"the file has the {what} {', '.join(names)}, where the model has {', '.join(expected)}. An input that "
                "no output depends on must be left out of the model."
            )


FORMATS = {"tflite": tflite, "onnx": onnx}


def main(format, saved_model, out, request, answer):
    with open(request, encoding="utf-8") as file:
        asked = json.load(file)
    try:
        FORMATS[format](saved_model, out, asked)
        error = ""
    except Exception as raised:
        error = str(raised).strip() or type(raised).__name__
    with open(answer, "w", encoding="utf-8") as file:
        json.dump({"error": error}, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
