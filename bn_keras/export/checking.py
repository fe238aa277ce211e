"""Whether an exported model gives the outputs of the model: asked in a new process that cannot import bn_keras."""

import contextvars
import pathlib
import pickle
import tempfile
import threading
import time

import numpy as np
import tensorflow as tf

from bn_keras.export import process
from bn_keras.export.formats import ExportError, brief
from bn_keras.export.signature import alike, by_argument
from bn_keras.surgery.reports import Verified
from bn_keras.surgery.tree import layers_of

SERVED = pathlib.Path(__file__).with_name("served.py")
SEVERAL = 3
UNKNOWN_SIZE = 32
TOLERANCE = 1e-4
TOLERANCES = {"float16": 4 * 2**-10, "bfloat16": 4 * 2**-7}  # four units of rounding


def batches_of(endpoint, examples, pixels: bool) -> list[dict]:
    """A batch of one and one of several, by argument of the model's call; one batch where its size is fixed.

    Args:
        endpoint: An `Endpoint`.
        examples: The inputs that a user gave, or `None` for random ones.
        pixels: Whether random numbers are pixels, from 0 to 255.

    Raises:
        ValueError: For examples of other shapes or another structure; for an input that has no random values.
    """
    signature = endpoint.signature
    if examples is None:
        random, count = np.random.default_rng(0), signature.batch or SEVERAL
        every = [made_up(spec, count, pixels, random) for spec in signature.specs]
    else:
        values = by_argument(endpoint.model, examples, "examples")
        flat = [pair for name, specs in signature.arguments.items() for pair in pairs(name, specs, values)]
        every = [example_of(spec, value) for spec, value in flat]
    sizes = {len(each) for each in every}
    if len(sizes) != 1 or sizes == {0}:
        raise ValueError(f"Expected the same number of `examples` of each input, ≥ 1. Received: {sorted(sizes)}.")
    (size,) = sizes
    counts = [signature.batch] if signature.batch else [1, size if size > 1 else SEVERAL]
    return [signature.pack([repeated(each, count) for each in every]) for count in counts]


def pairs(name, specs, values):
    """The specs of one argument with the examples for them."""
    if name not in values:
        raise ValueError(f"`examples` must have a value for the argument {name!r} of the model's call.")
    return zip(*alike({name: specs}, {name: values[name]}, "examples"), strict=True)


def repeated(values, count):
    return values[np.arange(count) % len(values)]


def made_up(spec, count, pixels, random):
    shape = [count, *(UNKNOWN_SIZE if size is None else size for size in spec.shape[1:])]
    if pixels:
        values = random.integers(0, 256, shape)
    elif spec.dtype.is_floating:
        values = random.normal(size=shape)
    elif spec.dtype.is_integer or spec.dtype.is_bool:
        values = random.integers(0, 2, shape)
    else:
        raise ValueError(
            f"There are no random inputs of dtype {spec.dtype.name} (the input {spec.name!r}). Pass `examples`."
        )
    return values.astype(spec.dtype.as_numpy_dtype)


def example_of(spec, value):
    """An example of an input, with its dtype."""
    value = np.asarray(value)
    if not tf.TensorShape([None, *spec.shape[1:]]).is_compatible_with(value.shape):
        raise ValueError(
            f"`examples` of the input {spec.name!r} must have shape {spec.shape}. Received: {value.shape}."
        )
    return value.astype(spec.dtype.as_numpy_dtype)


def tolerance_of(model) -> float:
    """How large a difference may be: that of the lowest dtype that the model computes in."""
    return max(TOLERANCES.get(layer.compute_dtype, TOLERANCE) for layer in layers_of(model))


def check_file(reference, tolerance: float, endpoint, batches: list, format: str, path, timeout: float, how: str):
    """Compares an exported file with the model.

    Args:
        reference: The function of a batch that is right; it is called on the processor, as the file will be.
        tolerance: The largest difference that is allowed, over the largest value of an output.
        endpoint: The `Endpoint` that was exported.
        batches: The batches of `batches_of`.
        format: The name of the format.
        path: The file or folder.
        timeout: The time limit in seconds, for the model and for the new process together.
        how: What the batches are, for the report.

    Returns:
        A `Verified`.

    Raises:
        ExportError: When the file cannot be loaded and run there, when outputs differ, when the time is over.
    """
    advice = (
        "Pass a larger `timeout` to `export` if the model is slow, or fewer `examples`; check=False exports it without "
        "a check."
    )
    here, there = both_answers(reference, endpoint, batches, format, path, timeout, advice)
    difference = float(np.max(list(map(largest_difference, here, there["outputs"]))))
    if not difference <= tolerance:
        off = f"differ by {difference:.1e} of the largest" if np.isfinite(difference) else "have another shape or NaN"
        raise ExportError(
            f"With {there['runtime']} the export differs from the model: outputs {off}, expected ≤ {tolerance:.0e}. "
            "Nothing was written. A model that draws random numbers in inference cannot be checked; check=False "
            "exports it."
        )
    sizes = " and ".join(str(size_of(batch)) for batch in batches)
    return Verified(
        difference, f"{how} in batches of {sizes}, in a new process with {there['runtime']}, without bn_keras"
    )


def both_answers(reference, endpoint, batches: list, format: str, path, timeout: float, advice: str):
    """The outputs of the model for each batch, and the answer of the new process.

    Args:
        advice: What to do when the time is over.

    Raises:
        ExportError: As in `check_file`, but for outputs that differ.
    """
    end = time.monotonic() + timeout
    try:
        here = within(timeout, lambda: [values_of(reference, batch) for batch in batches])
        return here, answer_of(endpoint, batches, format, path, max(0.0, end - time.monotonic()))
    except TimeoutError as error:
        raise ExportError(
            f"The check did not end within {timeout:g} s: {error}. Nothing was written. {advice}"
        ) from None


def within(seconds: float, function):
    """The result of a function, which runs in a thread of its own: one that never returns is left behind.

    Raises:
        TimeoutError: When the function takes longer.
    """
    results, errors, context = [], [], contextvars.copy_context()

    def run():
        try:
            results.append(context.run(function))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise TimeoutError("the model itself has not answered")
    if errors:
        raise errors[0]
    return results[0]


def values_of(reference, batch):
    """The outputs of the model itself, for one batch."""
    try:
        with tf.device("CPU:0"):
            outputs = [each.numpy() for each in tf.nest.flatten(reference(tf.nest.map_structure(tf.constant, batch)))]
    except Exception as error:
        raise ExportError(
            f"The model itself cannot be called with a batch of {size_of(batch)}: {brief(error)}"
        ) from error
    if any(each.dtype != object and np.isnan(each.astype(np.float64)).any() for each in outputs):
        raise ExportError("An output of the model itself is NaN. Pass other `examples`, or repair its weights.")
    return outputs


def size_of(batch):
    return len(tf.nest.flatten(batch)[0])


def largest_difference(here, there):
    """The largest difference of the outputs for one batch, over the largest value of each output.

    It is infinite or NaN where outputs cannot be compared, and infinite where strings differ.
    """
    found = []
    for right, value in zip(here, there, strict=True):
        if right.shape != np.shape(value):
            return np.inf
        if right.dtype == object:
            found.append(0.0 if np.array_equal(right, value) else np.inf)
            continue
        right, value = np.asarray(right, np.float64), np.asarray(value, np.float64)
        other = right != value  # what is infinite here may be so there
        largest = np.abs(right[np.isfinite(right)]).max(initial=0) or 1.0
        found.append(np.abs(value[other] - right[other]).max(initial=0) / largest)
    return np.max(found)


def answer_of(endpoint, batches, format, path, seconds):
    """The answer of the new process."""
    named = [dict(zip(endpoint.inputs, tf.nest.flatten(list(batch.values())), strict=True)) for batch in batches]
    with tempfile.TemporaryDirectory() as folder:
        request, answer = pathlib.Path(folder, "request"), pathlib.Path(folder, "answer")
        request.write_bytes(pickle.dumps({"batches": named, "outputs": list(endpoint.outputs)}))
        try:
            process.run(SERVED, format, *map(str, (path, request, answer)), seconds=seconds)
        except process.ProcessError as error:
            raise ExportError(f"The export cannot be served: {error}") from error
        return pickle.loads(answer.read_bytes())
