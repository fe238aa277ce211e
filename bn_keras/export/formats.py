"""The formats a model can be exported to: how each is written, and what that needs."""

import difflib
import importlib.util
import json
import pathlib
import re
import tempfile

import tensorflow as tf

from bn_keras.choices.formats import FORMATS, Format
from bn_keras.export import process

ENDPOINT = "serve"
CONVERT = pathlib.Path(__file__).with_name("convert.py")
OLDEST_OPSET = 9  # before it, ONNX lists constants among the inputs


class ExportError(RuntimeError):
    """A format cannot hold the model, or the exported model differs from the model."""


def require(chosen: Format, check: bool) -> None:
    """Raises an `ImportError` that names what a format needs and is missing."""
    needed = chosen.needs + (chosen.runtime if check else ())
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(
            f"Export to {chosen.title} needs {', '.join(needed)}. Missing: {', '.join(missing)}. "
            "Install what is missing: pip install 'bn_keras[export]'"
        )


def write(chosen: Format, endpoint, path: pathlib.Path, opset: int | None = None) -> None:
    """Writes an `Endpoint` to a path, with an opset where the format is ONNX."""
    try:
        if chosen.name == "saved_model":
            write_saved_model(endpoint, path)
        else:
            convert(chosen.name, endpoint, path, opset)
    except Exception as error:
        name = endpoint.model.name
        raise ExportError(f"The model {name!r} cannot be exported to {chosen.title}: {brief(error)}") from error


def format_named(name: str) -> Format:
    if name not in FORMATS:
        near = difflib.get_close_matches(str(name), FORMATS, n=1)
        raise ValueError(
            f"`format` must be one of {', '.join(FORMATS)}. Received: {name!r}."
            + (f" Did you mean {near[0]!r}?" if near else "")
        )
    return FORMATS[name]


def known_opset(opset: int | None, format: Format) -> int | None:
    """The opset, if the format has opsets and tf2onnx writes this one."""
    if opset is None:
        return None
    if format.name != "onnx":
        raise ValueError(f"`opset` belongs to format='onnx'. Received: opset={opset!r} and format={format.name!r}.")
    from tf2onnx.constants import OPSET_TO_IR_VERSION

    newest = max(OPSET_TO_IR_VERSION)
    if isinstance(opset, bool) or not isinstance(opset, int) or not OLDEST_OPSET <= opset <= newest:
        raise ValueError(
            f"`opset` must be a whole number from {OLDEST_OPSET} to {newest}, the newest that the installed tf2onnx "
            f"writes. Received: {opset!r}. None is the default of tf2onnx."
        )
    return opset


def write_saved_model(endpoint, path: pathlib.Path) -> None:
    """A SavedModel that holds each variable once, and the look-up tables."""
    module = tf.Module()
    setattr(module, ENDPOINT, endpoint.function)
    module.held = list(endpoint.concrete.variables)
    parts = tf.train.TrackableView(endpoint.model).descendants()
    module.tables = [part for part in parts if isinstance(part, tf.saved_model.experimental.TrackableResource)]
    signatures = dict.fromkeys((ENDPOINT, "serving_default"), endpoint.concrete)
    tf.saved_model.save(module, str(path), signatures=signatures)


def convert(name: str, endpoint, path: pathlib.Path, opset: int | None) -> None:
    """Writes a SavedModel and converts it, in a new process: converters print, log and warn."""
    with tempfile.TemporaryDirectory() as folder:
        saved_model, request, answer = (pathlib.Path(folder, each) for each in ("saved_model", "request", "answer"))
        write_saved_model(endpoint, saved_model)
        names = {"inputs": list(endpoint.inputs), "outputs": list(endpoint.outputs), "opset": opset}
        request.write_text(json.dumps(names), encoding="utf-8")
        process.run(CONVERT, name, *map(str, (saved_model, path, request, answer)))
        error = json.loads(answer.read_text(encoding="utf-8"))["error"]
    if error:
        raise ValueError(error)


def brief(error: Exception) -> str:
    """An error in a sentence or two: the ops that LiteRT lacks, the failing op, or else the first line."""
    text = str(error).strip().removeprefix("make_sure failure: ")  # of tf2onnx
    unknown = re.findall(r"^(?:Custom|TF Select) ops: (.*)", text, re.MULTILINE)
    if unknown:
        return f"it has no op for {', '.join(each.strip() for each in unknown)} of these dtypes."
    of_an_op = re.search(r"'tf\.\w+' op .*", text)
    if of_an_op and "'tf.TensorList" in of_an_op[0]:
        return (
            "it runs the loop of a recurrent layer for one batch size alone. Pass input_signature= with a batch size, "
            f"such as tf.TensorSpec([1, 10, 8]), or make the layer with unroll=True. ({of_an_op[0][:200]})"
        )
    return (of_an_op[0] if of_an_op else next(iter(text.splitlines()), type(error).__name__))[:300]
