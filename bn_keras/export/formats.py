"""The formats a model can be exported to: how each is written, and what that needs."""

import contextlib
import dataclasses
import difflib
import importlib.util
import io
import logging
import re
import tempfile
import typing
import warnings

import keras
import tensorflow as tf

ENDPOINT = "serve"


class ExportError(RuntimeError):
    """A model that a format cannot hold, or an export that does not say what the model says."""


@dataclasses.dataclass(frozen=True)
class Format:
    """A format.

    Attributes:
        title: What it is called in a sentence.
        suffix: What the name of the file ends in; `""` for a folder.
        writer: A function of an `Endpoint` and the path to write to.
        needs: The packages that the writer imports.
        runtime: The package that serves it, where that is another one.
    """

    title: str
    suffix: str
    writer: typing.Callable
    needs: tuple = ()
    runtime: tuple = ()

    def require(self, check):
        """Raises an `ImportError` that names what is missing."""
        needed = self.needs + (self.runtime if check else ())
        missing = [name for name in needed if importlib.util.find_spec(name) is None]
        if missing:
            raise ImportError(
                f"Export to {self.title} needs {', '.join(needed)}. Missing: {', '.join(missing)}. "
                "Install what is missing: pip install 'bn_keras[export]'"
            )

    def write(self, endpoint, path):
        try:
            with quiet():
                self.writer(endpoint, path)
        except Exception as error:
            name = endpoint.model.name
            raise ExportError(f"The model {name!r} cannot be exported to {self.title}: {brief(error)}") from error


def format_named(name):
    if name not in FORMATS:
        near = difflib.get_close_matches(str(name), FORMATS, n=1)
        raise ValueError(
            f"`format` must be one of {', '.join(FORMATS)}. Received: {name!r}."
            + (f" Did you mean {near[0]!r}?" if near else "")
        )
    return FORMATS[name]


def write_saved_model(endpoint, path):
    """With each variable once: an archive that tracks a model holds them twice, so it does for look-up tables alone."""
    archive = keras.export.ExportArchive()
    parts = tf.train.TrackableView(endpoint.model).descendants()
    if any(isinstance(part, tf.saved_model.experimental.TrackableResource) for part in parts):
        archive.track(endpoint.model)
    archive.add_endpoint(ENDPOINT, endpoint.function)
    archive.write_out(str(path), verbose=False)


def write_tflite(endpoint, path):
    if not hasattr(tf, "lite") or not hasattr(tf.lite, "TFLiteConverter"):
        raise ImportError(f"it takes tf.lite.TFLiteConverter, which TensorFlow {tf.__version__} does not have.")
    with tempfile.TemporaryDirectory() as folder:
        write_saved_model(endpoint, folder)
        path.write_bytes(tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=[ENDPOINT]).convert())


def write_onnx(endpoint, path):
    import onnx
    import tf2onnx

    model, _ = tf2onnx.convert.from_function(endpoint.named_function(), [endpoint.specs])
    unknown = {node.op_type for node in model.graph.node if not onnx.defs.has(node.op_type, node.domain)}
    if unknown:
        raise ValueError(f"it has no op for {', '.join(sorted(unknown))}.")
    onnx.save(model, str(path))


@contextlib.contextmanager
def quiet():
    """Without what the libraries tell of their own work: warnings, and Keras 3.6 the path whatever it is told."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def brief(error):
    """What an error says, in a sentence or two: of LiteRT's converter what it has no op for, or else the first line."""
    text = str(error).strip()
    unknown = re.findall(r"^(?:Custom|TF Select) ops: (.*)", text, re.MULTILINE)
    if unknown:
        return f"it has no op for {', '.join(each.strip() for each in unknown)} of these dtypes."
    of_an_op = re.search(r"'tf\.\w+' op .*", text)
    return (of_an_op[0] if of_an_op else next(iter(text.splitlines()), type(error).__name__))[:300]


FORMATS = {
    "saved_model": Format("SavedModel", "", write_saved_model),
    "tflite": Format("LiteRT", ".tflite", write_tflite),
    "onnx": Format("ONNX", ".onnx", write_onnx, ("tf2onnx", "onnx"), ("onnxruntime",)),
}
