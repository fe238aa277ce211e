"""The outputs of an exported model, from its own runtime: run by `checking.py`, in a process without bn_keras.

    python -I served.py FORMAT PATH REQUEST ANSWER

REQUEST is a pickled file of that process, `{"batches": dicts of arrays by input, "outputs": names}`. ANSWER is one of
this process, with what `answer` returns. This file imports the runtime of the format, and nothing of the library.
"""

import importlib.metadata
import pickle
import sys


class Blocker:
    """Refuses to import bn_keras, even where it is installed."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "bn_keras":
            raise ModuleNotFoundError(f"{name} is blocked")


def saved_model(path, threads=None):
    """A function of the inputs by name, and the runtime."""
    import tensorflow as tf

    if threads is not None:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    serve = tf.saved_model.load(path).signatures["serve"]

    def call(x, names):
        outputs = serve(**{name: tf.constant(value) for name, value in x.items()})
        return [outputs[name].numpy() for name in names]

    return call, f"tensorflow {tf.__version__}"


def tflite(path, threads=None):
    """A function of the inputs by name, and the runtime: LiteRT's own package, or else TensorFlow's."""
    try:
        from ai_edge_litert.interpreter import Interpreter

        runtime = f"ai-edge-litert {importlib.metadata.version('ai-edge-litert')}"
    except ModuleNotFoundError:
        from tensorflow import __version__, lite

        Interpreter, runtime = lite.Interpreter, f"tensorflow {__version__}"  # noqa: N806
    serve = Interpreter(path, num_threads=threads).get_signature_runner("serve")

    def call(x, names):
        outputs = serve(**x)
        return [outputs[name] for name in names]

    return call, runtime


def onnx(path, threads=None):
    """A function of the inputs by name, and the runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads or 0
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def call(x, names):
        return session.run(names, x)

    return call, f"onnxruntime {onnxruntime.__version__}"


RUNTIMES = {"saved_model": saved_model, "tflite": tflite, "onnx": onnx}


def answer(format, path, request):
    """The outputs of each batch, in the order of their names, and the runtime."""
    call, runtime = RUNTIMES[format](path)
    return {"runtime": runtime, "outputs": [call(batch, request["outputs"]) for batch in request["batches"]]}


def main(format, path, request, to):
    sys.meta_path.insert(0, Blocker())
    with open(request, "rb") as file:
        result = answer(format, path, pickle.load(file))
    with open(to, "wb") as file:
        pickle.dump(result, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
