"""The one call: a model in, a checked file out."""

import collections.abc
import contextlib
import dataclasses
import os
import pathlib
import re
import shutil
import tempfile
import threading
import time
import typing
import zipfile

import keras
import tensorflow as tf

from bn_keras import surgery
from bn_keras.choices.formats import FORMATS, existing, free_path
from bn_keras.export import checking
from bn_keras.export.endpoint import Endpoint, through
from bn_keras.export.formats import brief, format_named, known_opset, require, write
from bn_keras.export.preprocessing import preprocessor
from bn_keras.export.signature import signature_of
from bn_keras.surgery.reports import Report, Verified

TIMEOUT = 300.0


@dataclasses.dataclass(frozen=True)
class Exported:
    """An export; `str(exported)` is two lines of text.

    Attributes:
        path: Path of the file or folder.
        format: Str: `"saved_model"`, `"tflite"` or `"onnx"`.
        bytes: Int, the size of the file, or of all files of the folder.
        seconds: Float, the duration of the export without the check.
        inputs: Tuple of the names of the inputs in the signature.
        outputs: Tuple of the names of the outputs in the signature.
        verified: `bn_keras.surgery.Verified`: whether outputs were compared, and how far apart they are.
        report: The report of `bn_keras.surgery.fold`; `None` without `fold=True`. Defaults to `None`.
    """

    path: pathlib.Path
    format: str
    bytes: int
    seconds: float
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    verified: Verified
    report: Report | None = None

    @property
    def largest_difference(self) -> float | None:
        """The largest difference of an output over the largest output; `None` without a check."""
        return self.verified.largest_difference

    def __str__(self):
        signature = f"({', '.join(self.inputs)}) → {', '.join(self.outputs)}"
        what = f"{FORMATS[self.format].title} {self.path}"
        return f"{what}: {size_text(self.bytes)} in {self.seconds:.1f} s, {signature}\n{self.verified}"


def export(
    model: keras.Model | str | os.PathLike,
    path: str | os.PathLike,
    *,
    format: typing.Literal["saved_model", "tflite", "onnx"] = "saved_model",
    fold: bool = False,
    preprocessing: typing.Literal["unit", "tf", "torch", "caffe"] | None = None,
    input_signature: typing.Any = None,
    opset: int | None = None,
    examples: typing.Any = None,
    check: bool = True,
    timeout: float = TIMEOUT,
    custom_objects: collections.abc.Mapping[str, typing.Any] | None = None,
    report: collections.abc.Callable[[str], object] | None = print,
) -> Exported:
    """Writes a model to a file that is served without bn_keras, and checks that the file gives the model's outputs.

    The check loads the file in a new Python process that cannot import bn_keras, with the runtime of the format. It
    compares the outputs on the CPU, for a batch of one and for a larger batch. They may differ by 1e-4 of the largest
    output; where the model computes in float16 or bfloat16, by four units of its rounding. `export` moves the file to
    `path` after the check, so an error or Ctrl-C leaves nothing there. `export` refuses a model that communicates with
    other devices in inference, before anything runs.

    The names of the inputs do not depend on the process. An input has the name of its `keras.Input`, if somebody chose
    one; its key, if the inputs are a dict; the name of its argument, if `call` has several; otherwise `inputs`, or
    `inputs_0`, … for several inputs.

    Keras keeps the input shapes of a subclassed model, and forgets their dtypes. `export` traces such a model with
    floats. An input that the model casts to integers before it computes anything, as `Embedding` does, becomes an int32
    input; all others stay floats. If a model with one input cannot be traced with floats, the input is int32 or string,
    whichever the model can be traced with. `export` leaves out an argument of `call` that has a default.
    `input_signature` overrides all of this. Pass it too for a model that casts integers inside a `tf.function` of its
    own, and for one that casts bytes to floats: their inputs would stay floats otherwise.

    Args:
        model: Keras model that has been built, or the path of a `.keras` file; a str or `os.PathLike`. A model of a
            `tf.distribute` strategy needs no preparation: the file holds one plain variable for each variable that the
            replicas share. With several workers, one of them calls `export`.
        path: Str or `os.PathLike`, the file or folder to write, which must not exist. `export` makes its parent
            folders.
        format: `"saved_model"` for TensorFlow and TF Serving: a folder, with the endpoint `serve` and the signatures
            `serve` and `serving_default`; `"tflite"` for LiteRT: a `.tflite` file with the signature `serve`; or
            `"onnx"`: a `.onnx` file, with the extra `export`. Defaults to `"saved_model"`.
        fold: Bool, whether to merge batch norm into the layers beside it first, with `bn_keras.surgery.fold`. Defaults
            to `False`.
        preprocessing: How the exported model scales pixels from 0 to 255: `"unit"` scales them to [0, 1], `"tf"` to
            [−1, 1], `"torch"` and `"caffe"` by ImageNet's channels as
            `keras.applications.imagenet_utils.preprocess_input` does. `None` does not scale. Defaults to `None`.
        input_signature: The inputs, in the structure that the model takes: objects with `shape`, `dtype` and perhaps
            `name`, such as `tf.TensorSpec`, `keras.InputSpec` or `keras.Input`. If the `call` of a subclassed model has
            several arguments: a tuple, or a dict by the arguments' names. The first dimension is the batch: `None` for
            any size, or the one size to serve. `None` takes the inputs that the model declares. Defaults to `None`.
        opset: Int ≥ 9, the version of ONNX' operators, or `None` for the default of tf2onnx. Defaults to `None`.
        examples: Inputs for the check, as the exported model takes them, at least one; for several arguments of `call`
            a tuple or dict, as above. `None` takes three random ones: normal, or pixels with `preprocessing`, or 0 and
            1 for integers, with 32 for each unknown size. Defaults to `None`.
        check: Bool, whether to check the file. Defaults to `True`.
        timeout: Float > 0, the time limit of the check in seconds. After it `export` kills the new process and its
            children. Defaults to `300.0`.
        custom_objects: Dict of classes and functions by name that a `.keras` file needs, or `None`. Defaults to `None`.
        report: Function that gets a text when batch norm is folded and when the export is done, or `None` for no text.
            Defaults to `print`.

    Returns:
        An `Exported`. The model does not change.

    Raises:
        ExportError: A `RuntimeError`, if the format cannot hold the model, if the inputs of the model are unknown, if
            the model communicates in inference, or if the check fails or takes too long.
        ImportError: If a package that the format needs is missing, with its name.
        FileExistsError: If there is something at `path`.
        ValueError, TypeError: For an argument of the wrong value or type, with the allowed ones; within
            `strategy.scope()`; for a model that `fold` cannot copy, as in `bn_keras.surgery.from_keras`.

    Example:

    >>> import tempfile
    >>> layers = keras.layers.Dense(2), keras.layers.BatchNormalization()
    >>> model = keras.Sequential([keras.Input((4,), name="x"), *layers])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     exported = export(model, f"{folder}/model", fold=True, check=False, report=None)
    ...     sorted(tf.saved_model.load(f"{folder}/model").signatures)
    ['serve', 'serving_default']
    >>> exported.inputs, exported.outputs
    (('x',), ('output_0',))
    """
    chosen = format_named(format)
    target = target_of(path, chosen, timeout, check)
    opset = known_opset(opset, chosen)
    model = loaded(model, custom_objects)
    signature = signature_of(model, input_signature)
    front = preprocessor(preprocessing, model, signature)
    exported_model, folding = folded(model, report) if fold else (model, None)
    endpoint = Endpoint(exported_model, signature, front)
    batches = checking.batches_of(endpoint, examples, pixels=front is not None) if check else []
    with beside(target) as draft:
        started = time.monotonic()
        write(chosen, endpoint, draft, opset)
        seconds, verified = time.monotonic() - started, Verified(None, "check=False")
        if check:
            reference, tolerance = (lambda batch: through(front, model, batch)), checking.tolerance_of(model)
            how = "made-up inputs" if examples is None else "the examples"
            verified = checking.check_file(reference, tolerance, endpoint, batches, format, draft, timeout, how)
        size = bytes_of(draft)
        move(draft, target)
    exported = Exported(target, format, size, seconds, endpoint.inputs, endpoint.outputs, verified, folding)
    if report is not None:
        report(str(exported))
    return exported


def target_of(path, chosen, timeout, check):
    """The path of the file, if an export can begin there and now."""
    target = free_path(path, chosen)
    if tf.distribute.has_strategy():
        raise ValueError("An exported model belongs to no strategy. Call export outside of strategy.scope().")
    if not 0 < timeout <= threading.TIMEOUT_MAX:
        raise ValueError(f"`timeout` must be a number of seconds > 0. Received: {timeout!r}.")
    require(chosen, check)
    return target


def folded(model, report):
    """A folded copy of a model, and the report of the folding."""
    copy = surgery.fold(model, report=None)
    folding = surgery.report(copy)
    if report is not None:
        report(str(folding))
    return copy, folding


def loaded(model, custom_objects):
    """The model, read from a file if it is a path."""
    if isinstance(model, (str, os.PathLike)):
        model = read(model, custom_objects)
    elif custom_objects is not None:
        raise ValueError("`custom_objects` belongs to the path of a .keras file. Received: a model. Leave it out.")
    if not isinstance(model, keras.Model):
        raise TypeError(f"Expected a Keras model or the path of one. Received: {model!r} (of {type(model).__name__}).")
    if not model.built:
        raise ValueError(
            f"The model {model.name!r} has no weights yet. Build it first: model.build(input_shape), or call it once."
        )
    return model


def read(path, custom_objects):
    if not os.path.isfile(path):
        raise FileNotFoundError(f"There is no file {str(path)!r}. Expected a .keras file, as model.save writes.")
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{str(path)!r} is no .keras file: those are zip archives, as model.save writes.")
    try:
        return keras.saving.load_model(path, custom_objects=custom_objects, compile=False)
    except Exception as error:
        unknown = re.search(r"Could not (?:locate|deserialize) class '(\w+)'", str(error))
        advice = "Call export in Python, with the class in `custom_objects`."
        why = f"its class {unknown[1]!r} is not known here. {advice}" if unknown else brief(error)
        raise ValueError(f"{str(path)!r} cannot be read as a Keras model: {why}") from error


@contextlib.contextmanager
def beside(path):
    """A place for a file until it is moved to its path: on the same disk, and removed whatever happens."""
    above = existing(path)
    try:
        folder = pathlib.Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=above))
    except OSError as error:
        raise type(error)(f"{str(above)!r} cannot be written: {error.strerror}. Choose another path.") from None
    try:
        yield folder / path.name
    finally:
        shutil.rmtree(folder)


def move(draft, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    if os.path.lexists(path):
        raise FileExistsError(f"Something has come to {str(path)!r} meanwhile. Choose another path.")
    draft.rename(path)


def bytes_of(path):
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def size_text(size):
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"
