"""What an exported model says, with what it is served with: run by `check.py`, in a process without bn_keras.

    python -I served.py FORMAT PATH REQUEST ANSWER

REQUEST and ANSWER are files of that one process and this, pickled: `{"batches": …, "outputs": names}`, and what
`answer` returns. This file imports nothing of the library, and nothing but what serves the format.
"""

import importlib.metadata
import pickle
import sys


class Blocker:
    """Refuses what must not be needed, even where it is installed."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "bn_keras":
            raise ModuleNotFoundError(f"{name} is blocked")


def saved_model(path, threads=None):
    """A function of the inputs in the model's own structure, and facts: the runtime and the collective ops."""
    import tensorflow as tf

    if threads is not None:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    loaded = tf.saved_model.load(path)
    definition = loaded.signatures["serve"].graph.as_graph_def()
    nodes = [*definition.node, *(node for each in definition.library.function for node in each.node_def)]
    collectives = sorted({node.op for node in nodes if "Collective" in node.op or "Nccl" in node.op})

    def call(x, names):
        outputs = loaded.serve(tf.nest.map_structure(tf.constant, x))
        return [output.numpy() for output in tf.nest.flatten(outputs)]

    return call, {"runtime": f"tensorflow {tf.__version__}", "collectives": collectives}


def tflite(path, threads=None):
    """A function of the inputs by name, and the runtime: LiteRT's own package, or else what TensorFlow has of it."""
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

    return call, {"runtime": runtime, "collectives": []}


def onnx(path, threads=None):
    """A function of the inputs by name, and the runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads or 0
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def call(x, names):
        return session.run(names, x)

    return call, {"runtime": f"onnxruntime {onnxruntime.__version__}", "collectives": []}


RUNTIMES = {"saved_model": saved_model, "tflite": tflite, "onnx": onnx}


def answer(format, path, request):
    """The outputs of each batch, in the order of their names, and the facts."""
    call, facts = RUNTIMES[format](path)
    return facts | {"outputs": [call(batch, request["outputs"]) for batch in request["batches"]]}


def main(format, path, request, to):
    sys.meta_path.insert(0, Blocker())
    with open(request, "rb") as file:
        said = answer(format, path, pickle.load(file))
    with open(to, "wb") as file:
        pickle.dump(said, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
