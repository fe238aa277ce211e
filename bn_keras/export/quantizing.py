"""A model in, a checked file of 8-bit integers out."""

import collections.abc
import dataclasses
import json
import os
import pathlib
import tempfile
import time
import typing

import keras
import numpy as np

from bn_keras.choices.formats import FORMATS
from bn_keras.export import process
from bn_keras.export.agreement import differences_text, measured_agreement, refuse_drop
from bn_keras.export.calibration import examples_of, input_of
from bn_keras.export.endpoint import Endpoint, through
from bn_keras.export.exporting import TIMEOUT, beside, folded, loaded, move, size_text, target_of
from bn_keras.export.formats import CONVERT, ExportError, brief, format_named, write_saved_model
from bn_keras.export.layer_drops import LayerDrop, drops, worst_of, worst_text
from bn_keras.export.preprocessing import preprocessor
from bn_keras.export.signature import signature_of
from bn_keras.surgery.reports import Report
from bn_keras.surgery.tree import layers_of

INT8, DROP = (pathlib.Path(__file__).with_name(name) for name in ("int8.py", "drop.py"))
LEAST_AGREEMENT, MOST_DIFFERENCE = 0.95, 0.05
COMPARED = 32  # examples for the drop by layer


@dataclasses.dataclass(frozen=True)
class Quantized:
    """An int8 export; `str(quantized)` is a few lines of text. Differences are those of an output to the model's.

    Attributes:
        path: Path of the file.
        format: Str: `"tflite"` or `"onnx"`.
        bytes: Int, the size of the file.
        float32_bytes: Int, the size of the same model in float32.
        seconds: Float, the duration of the conversion without the check.
        inputs: Tuple of the names of the inputs in the signature.
        outputs: Tuple of the names of the outputs in the signature.
        examples: Int, the number of examples of the calibration and of the check.
        agreement: Float, the share of the examples with the same top-1 as the model, lowest over the outputs with
            classes on their last axis or of whole numbers; `None` without such an output.
        mean_difference: Float, the mean difference of an output, over its largest value, or over eight standard
            deviations over the examples where that is less.
        largest_difference: Float, the largest difference of an output, over the same.
        layers: Tuple of a `LayerDrop` for each activation, in the order of the file.
        floats: Tuple of the names of the tensors that the file computes in float32, for want of an int8 kernel.
        runtime: Str, the runtime of the check with its version.
        report: The report of `bn_keras.surgery.fold`; `None` with `fold=False`. Defaults to `None`.
    """

    path: pathlib.Path
    format: str
    bytes: int
    float32_bytes: int
    seconds: float
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    examples: int
    agreement: float | None
    mean_difference: float
    largest_difference: float
    layers: tuple[LayerDrop, ...]
    floats: tuple[str, ...]
    runtime: str
    report: Report | None = None

    def worst(self, count: int = 3) -> list[LayerDrop]:
        """The layers that lose most by their own rounding.

        Args:
            count: Int, how many at most. Defaults to `3`.
        """
        return worst_of(self.layers, count)

    def __str__(self):
        signature = f"({', '.join(self.inputs)}) → {', '.join(self.outputs)}"
        lines = [
            f"int8 {FORMATS[self.format].title} {self.path}: {size_text(self.bytes)}, float32 "
            f"{size_text(self.float32_bytes)}, in {self.seconds:.1f} s, {signature}",
            f"Checked: {differences_text(self.agreement, self.mean_difference, self.largest_difference)} "
            f"({self.examples} examples, in a new process with {self.runtime}, without bn_keras).",
        ]
        lines.append(worst_text(self.layers))
        if self.floats:
            names = ", ".join(self.floats[:3]) + (", …" if len(self.floats) > 3 else "")
            lines.append(f"{len(self.floats)} activations stay float32: {names}.")
        return "\n".join(lines)


def quantize(
    model: keras.Model | str | os.PathLike,
    path: str | os.PathLike,
    data: typing.Any,
    *,
    format: typing.Literal["tflite", "onnx"] = "tflite",
    fold: bool = True,
    preprocessing: typing.Literal["unit", "tf", "torch", "caffe"] | None = None,
    input_signature: typing.Any = None,
    least_agreement: float = LEAST_AGREEMENT,
    most_difference: float = MOST_DIFFERENCE,
    timeout: float = TIMEOUT,
    custom_objects: collections.abc.Mapping[str, typing.Any] | None = None,
    report: collections.abc.Callable[[str], object] | None = print,
) -> Quantized:
    r"""Writes a model to a file of 8-bit integers, and checks that the file still answers as the model does.

    $$ x \approx s\,(q - z) \qquad q = \mathrm{clip}(\mathrm{round}(x / s) + z, q_{min}, q_{max}) $$

    `quantize` folds batch norm first, so the weights that it rounds are those of inference. The scale s and the zero
    point z of an activation come from its range on the calibration data; q runs from −128 to 127 in LiteRT and from 0
    to 255 in ONNX. Convolution weights have a scale per channel and z = 0. Those of ONNX have 7 bits, because x86
    processors without VNNI overflow with 8. The file takes and gives floats, in the signature of `export`.

    The check runs all calibration examples in a new Python process that cannot import bn_keras, with the runtime of the
    format, and compares the outputs with those of the given model. `quantize` moves the file to `path` only if the
    top-1 classes agree and the mean difference is small. The report lists the error layer by layer, on at most 32
    examples.

    Args:
        model: Keras model that has been built, or the path of a `.keras` file, as in `export`. It computes in float32
            and has one input, all of whose sizes but the batch are known.
        path: Str or `os.PathLike`, the file to write, which must not exist. `quantize` makes its parent folders.
        data: Calibration data, at least 32 examples as the exported model takes them: an array,
            `tf.data.Dataset`, `keras.utils.PyDataset` or any iterable of batches. A batch is `x`, `(x, y)` or
            `(x, y, sample_weight)`. Some hundred training examples are enough; each range is the range of this data.
        format: `"tflite"` for LiteRT: a `.tflite` file of integer ops alone, with the signature `serve`; or `"onnx"`
            for ONNX Runtime: a `.onnx` file of QuantizeLinear and DequantizeLinear, which leaves ops without an int8
            kernel in float32. Defaults to `"tflite"`.
        fold: Bool, whether to merge batch norm into the layers beside it first. `False` is for comparisons. Defaults to
            `True`.
        preprocessing: How the exported model scales pixels, as in `export`: `"unit"`, `"tf"`, `"torch"` or `"caffe"`.
            `data` are pixels from 0 to 255 then. `None` does not scale. Defaults to `None`.
        input_signature: The input, as in `export`. Defaults to `None`.
        least_agreement: Float in [0, 1], the least share of examples that keep their top-1; 0 allows any file. It
            counts for outputs of floats with two classes or more on their last axis, and for outputs of whole numbers,
            which must be the same. Defaults to `0.95`.
        most_difference: Float > 0, the largest mean difference of an output, over its largest value, or over eight
            standard deviations over the examples where that is less; `float("inf")` allows any file. Defaults to
            `0.05`.
        timeout: Float > 0, the time limit of the check in seconds. Defaults to `300.0`.
        custom_objects: Dict of classes and functions by name that a `.keras` file needs, or `None`. Defaults to `None`.
        report: Function that gets a text when batch norm is folded and when the export is done, or `None` for no text.
            Defaults to `print`.

    Returns:
        A `Quantized`. The model does not change.

    Raises:
        ExportError: A `RuntimeError`, if the format has no int8 kernel for an op, if the file is further from the model
            than the limits allow, or as in `export`.
        ImportError: If a package that the format needs is missing, with its name.
        FileExistsError: If there is something at `path`.
        ValueError, TypeError: For `"saved_model"`, which has no int8; for a model with several inputs, unknown sizes or
            other dtypes; for calibration data that are missing, too few, of another shape, NaN or infinite; for other
            arguments as in `export`.

    References:
        [Jacob et al. 2018](https://arxiv.org/abs/1712.05877), sections 2 and 3.

    Example:

    >>> import tempfile
    >>> from bn_keras.export import quantize
    >>> network = keras.Sequential([keras.Input((4,), name="x"), keras.layers.Dense(3)])
    >>> try:
    ...     quantize(network, "network.tflite", np.eye(4))
    ... except ValueError as error:
    ...     print(error)
    `data` must have at least 32 examples. Received: 4. Pass some hundred examples of the training data: an array, a
    tf.data.Dataset or a list of batches.
    """
    chosen = format_named(format)
    check_limits(chosen, least_agreement, most_difference)
    target = target_of(path, chosen, timeout, check=True)
    model = loaded(model, custom_objects)
    check_dtypes(model)
    signature = signature_of(model, input_signature)
    spec, front = input_of(model, signature), preprocessor(preprocessing, model, signature)
    examples = examples_of(data, spec, pixels=front is not None)
    exported_model, folding = folded(model, report) if fold else (model, None)
    endpoint = Endpoint(exported_model, signature, front)
    with beside(target) as draft:
        started = time.monotonic()
        float32_bytes, layers, floats = convert(chosen, endpoint, examples, draft)
        seconds = time.monotonic() - started
        found = measured_agreement(
            lambda batch: through(front, model, batch), endpoint, examples, chosen.name, draft, timeout
        )
        refuse_drop(found, least_agreement, most_difference, worst_text(layers))
        size = draft.stat().st_size
        move(draft, target)
    made = Quantized(
        target, format, size, float32_bytes, seconds, endpoint.inputs, endpoint.outputs, len(examples),
        found.top1, found.mean, found.largest, layers, floats, found.runtime, folding,
    )  # fmt: skip
    if report is not None:
        report(str(made))
    return made


def check_limits(chosen, least_agreement, most_difference):
    if not chosen.int8:
        able = " or ".join(repr(each.name) for each in FORMATS.values() if each.int8)
        raise ValueError(f"{chosen.title} has no int8. Expected format={able}. Received: {chosen.name!r}.")
    if not 0 <= least_agreement <= 1:
        raise ValueError(f"`least_agreement` must be a number from 0 to 1. Received: {least_agreement!r}.")
    if not most_difference > 0:
        raise ValueError(f"`most_difference` must be a number > 0. Received: {most_difference!r}.")


def check_dtypes(model):
    other = {layer.name: layer.compute_dtype for layer in layers_of(model) if layer.compute_dtype != "float32"}
    if other:
        name, dtype = next(iter(other.items()))
        raise ValueError(
            f"int8 starts from a model of float32. Received: the layer {name!r} of {model.name!r}, which computes in "
            f"{dtype}. Build the model with dtype='float32' and load its weights."
        )


def convert(chosen, endpoint, examples, path):
    """Writes the file; returns the bytes of its float32 twin, and the drop by layer."""
    with tempfile.TemporaryDirectory() as folder:
        names = ("saved_model", "examples.npy", "float32", "request", "answer")
        saved_model, data, float32, request, answer = (pathlib.Path(folder, name) for name in names)
        batch = endpoint.signature.batch
        asked = {"inputs": endpoint.inputs, "outputs": endpoint.outputs, "opset": None, "batch": batch}
        request.write_text(json.dumps(asked), encoding="utf-8")
        np.save(data, examples)
        try:
            write_saved_model(endpoint, saved_model)
            process.run(INT8, str(CONVERT), chosen.name, *map(str, (saved_model, data, float32, path, request, answer)))
            error = json.loads(answer.read_text(encoding="utf-8"))["error"]
            if error:
                raise ValueError(error)
            np.save(data, examples[: batch or COMPARED])
            process.run(DROP, chosen.name, *map(str, (float32, path, data, answer)))
        except Exception as error:
            what = f"The model {endpoint.model.name!r} cannot be exported to int8 {chosen.title}"
            raise ExportError(f"{what}: {brief(error)}") from error
        found = json.loads(answer.read_text(encoding="utf-8"))
        return float32.stat().st_size, drops(found["layers"], endpoint), tuple(found["floats"])
