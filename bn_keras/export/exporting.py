"""The one call: a model in, a checked file out."""

import contextlib
import dataclasses
import os
import pathlib
import re
import shutil
import tempfile
import time
import zipfile

import keras
import tensorflow as tf

from bn_keras.export import check as checking
from bn_keras.export.endpoint import Endpoint
from bn_keras.export.formats import FORMATS, brief, format_named
from bn_keras.export.preprocessing import in_front, preprocessor
from bn_keras.surgery import fold as fold_batch_norm
from bn_keras.surgery.rewrite import rewrite


@dataclasses.dataclass(frozen=True)
class Exported:
    """What was exported; `str()` of it says so in two lines.

    Attributes:
        path: Where it is.
        format: `"saved_model"`, `"tflite"` or `"onnx"`.
        bytes: The size of the file, or of all files of the folder.
        seconds: How long the export took, without the check.
        inputs, outputs: Their names in the signature.
        check: A `Check`: how far off the outputs are, and with what that was found; `None` without a check.
    """

    path: pathlib.Path
    format: str
    bytes: int
    seconds: float
    inputs: tuple
    outputs: tuple
    check: checking.Check | None

    @property
    def largest_difference(self):
        """The largest difference of an output over the largest output; `None` without a check."""
        return self.check and self.check.largest_difference

    def __str__(self):
        signature = f"({', '.join(self.inputs)}) → {', '.join(self.outputs)}"
        what = f"{FORMATS[self.format].title} {self.path}"
        return f"{what}: {size_text(self.bytes)} in {self.seconds:.1f} s, {signature}\n{self.check or 'Not checked.'}"


def export(
    model, path, *, format="saved_model", fold=False, preprocessing=None, examples=None, check=True, report=print
):
    """Writes a model to a file that is served without bn_keras, and proves that it says the same there.

    The check loads the file in a new Python process that cannot import bn_keras, with what it is served with, and
    compares the outputs, on the processor, for a batch of one and for one of several. They may differ by 1e-4 of the
    largest output; where the model computes in float16 or bfloat16, by four units of its rounding. A SavedModel must
    hold no collective op, whatever strategy the model was trained under. Only then the file comes to `path`; whatever
    else happens, Ctrl-C too, nothing is there.

    Args:
        model: A Keras model that has been built, or the path of a `.keras` file. One that lives in a `tf.distribute`
            strategy needs no preparation: what is exported has one plain variable for each that the replicas share.
            Of several workers one makes the call.
        path: A file or folder that is not there yet. Folders that it is in are made.
        format: `"saved_model"` for TensorFlow and TF Serving: a folder, served as `serve`, and as the signatures
            `serve` and `serving_default`; `"tflite"` for LiteRT, `….tflite`, signature `serve`; `"onnx"`, `….onnx`,
            with the extra `export`. The batch dimension is dynamic.
        fold: Whether batch norm becomes a part of the layers beside it first: `bn_keras.surgery.fold`.
        preprocessing: What the exported model does to pixels, so that it takes floats from 0 to 255: `"unit"` scales
            them to 0…1, `"tf"` to −1…1, `"torch"` and `"caffe"` by ImageNet's channels as
            `keras.applications.imagenet_utils.preprocess_input` does; `None` for nothing.
        examples: Inputs for the check, as the exported model takes them, at least one. `None` for three random ones:
            normal, or pixels where there is preprocessing, or 0 and 1 for integers; a size that is not known is 32.
        check: Whether to check.
        report: Called with a text when it is done, and when batch norm is folded; `None` for nobody.

    Returns:
        An `Exported`. The given model is as it was.

    Raises:
        ExportError: A `RuntimeError`, when the format cannot hold the model, or the check fails.
        ImportError: When a package that the format needs is missing, with its name.
        FileExistsError: When there is something at `path`.
        ValueError, TypeError: For an argument that cannot be, with what can; within `strategy.scope()`; for a model
            that has to be copied and cannot be, as in `bn_keras.surgery.from_keras`.

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
    path = free_path(path, chosen)
    if tf.distribute.has_strategy():
        raise ValueError("An exported model belongs to no strategy. Call export outside of strategy.scope().")
    chosen.require(check)
    model = loaded(model)
    front = preprocessor(preprocessing, model)
    endpoint = Endpoint(to_be_exported(model, fold, front, report))
    batches = checking.batches_of(endpoint, examples, pixels=front is not None) if check else []
    with beside(path) as draft:
        started = time.monotonic()
        chosen.write(endpoint, draft)
        seconds, found = time.monotonic() - started, None
        if check:
            reference = lambda x: model(front(x) if front else x, training=False)  # noqa: E731
            found = checking.check(reference, checking.tolerance_of(model), endpoint, batches, format, draft)
        exported = Exported(path, format, bytes_of(draft), seconds, endpoint.inputs, endpoint.outputs, found)
        move(draft, path)
    if report is not None:
        report(str(exported))
    return exported


def free_path(path, chosen):
    """The path, if something of that format can come to be there."""
    if "://" in str(path):
        raise ValueError(f"Expected a path of this machine. Received: {path!r}. Export to one, and copy it from there.")
    path = pathlib.Path(path)
    suffixes = {each.suffix for each in FORMATS.values()} - {""} | {".keras", ".h5"}
    if path.suffix != chosen.suffix and (chosen.suffix or path.suffix in suffixes):
        what = f"must end in {chosen.suffix}" if chosen.suffix else "must be a folder, such as exported/1"
        raise ValueError(f"For {chosen.title} the path {what}. Received: {str(path)!r}. Or choose another `format`.")
    if os.path.lexists(path):
        raise FileExistsError(f"There is something at {str(path)!r} already. Choose another path, or remove it first.")
    above = existing(path)
    if not above.is_dir():
        raise NotADirectoryError(f"{str(above)!r} is no folder. Received: {str(path)!r}. Choose another path.")
    return path


def existing(path):
    """What is there of the folders that a path is in, the innermost."""
    return next(folder for folder in path.absolute().parents if os.path.lexists(folder))


def loaded(model):
    """The model, read from a file if that is what is given."""
    if isinstance(model, (str, os.PathLike)):
        if not os.path.isfile(model):
            raise FileNotFoundError(f"There is no file {str(model)!r}. Expected a .keras file, as model.save writes.")
        if not zipfile.is_zipfile(model):
            raise ValueError(f"{str(model)!r} is no .keras file: those are zip archives, as model.save writes.")
        try:
            model = keras.saving.load_model(model, compile=False)
        except Exception as error:
            unknown = re.search(r"Could not (?:locate|deserialize) class '(\w+)'", str(error))
            advice = "Load it in Python with custom_objects and export the model."
            why = f"its class {unknown[1]!r} is not known here. {advice}" if unknown else brief(error)
            raise ValueError(f"{str(model)!r} cannot be read as a Keras model: {why}") from error
    if not isinstance(model, keras.Model):
        raise TypeError(f"Expected a Keras model or the path of one. Received: {model!r} (of {type(model).__name__}).")
    if not model.built:
        raise ValueError(
            f"The model {model.name!r} has no weights yet. Build it first: model.build(input_shape), or call it once."
        )
    return model


def to_be_exported(model, fold, front, report):
    """The model itself, or a copy where something is changed: a call within another model leaves a mark on it."""
    if fold:
        model = fold_batch_norm(model, report=report and (lambda rows: report(str(rows))))
    elif front:
        model = rewrite(model, {})[0]
    return in_front(front, model) if front else model


@contextlib.contextmanager
def beside(path):
    """Where to write what is moved to a path at the end: on the same disk, and removed whatever happens."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=existing(path)))
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
