"""Whether an exported model says what the model says: asked in a new process that cannot import bn_keras."""

import dataclasses
import os
import pathlib
import pickle
import subprocess
import sys
import tempfile

import numpy as np
import tensorflow as tf

from bn_keras.export.formats import ExportError, brief
from bn_keras.surgery.tree import layers_of

SERVED = pathlib.Path(__file__).with_name("served.py")
SEVERAL = 3
UNKNOWN_SIZE = 32
TOLERANCE = 1e-4
TOLERANCES = {"float16": 4 * 2**-10, "bfloat16": 4 * 2**-7}  # four units of rounding


@dataclasses.dataclass(frozen=True)
class Check:
    """What the check found.

    Attributes:
        largest_difference: That of all outputs, over the largest value of the output.
        runtime: The package that the new process served the file with.
        sizes: Of the batches.
    """

    largest_difference: float
    runtime: str
    sizes: tuple

    def __str__(self):
        sizes = " and ".join(map(str, self.sizes))
        off = f"differ by {self.largest_difference:.1e} of the largest" if self.largest_difference else "are the same"
        return f"Checked in a new process with {self.runtime}, without bn_keras, in batches of {sizes}: outputs {off}."


def batches_of(endpoint, examples, pixels):
    """A batch of one and one of several, in the structure that the model takes.

    Args:
        endpoint: An `Endpoint`.
        examples: The inputs that a user gave, or `None` for random ones.
        pixels: Whether random floats are to be pixels, from 0 to 255.

    Raises:
        ValueError: For examples of other shapes or another structure; for an input that nothing random can be made for.
    """
    if examples is None:
        random = np.random.default_rng(0)
        every = [made_up(spec, pixels, random) for spec in tf.nest.flatten(endpoint.specs)]
    else:
        every = [given(spec, value) for spec, value in zip(*alike(endpoint.specs, examples), strict=True)]
    sizes = {len(each) for each in every}
    if len(sizes) != 1 or sizes == {0}:
        raise ValueError(f"Expected the same number of `examples` of each input, ≥ 1. Received: {sorted(sizes)}.")
    if sizes == {1}:
        every = [np.repeat(each, SEVERAL, axis=0) for each in every]
    return [tf.nest.pack_sequence_as(endpoint.specs, batch) for batch in ([each[:1] for each in every], every)]


def made_up(spec, pixels, random):
    shape = [SEVERAL, *(UNKNOWN_SIZE if size is None else size for size in spec.shape[1:])]
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


def alike(specs, examples):
    """Both flat, if they have the same structure."""
    flat = tf.nest.flatten(specs)
    if len(flat) == 1 and not tf.nest.is_nested(examples):
        return flat, [examples]
    try:
        tf.nest.assert_same_structure(specs, examples)
    except (TypeError, ValueError):
        names, kind = ", ".join(spec.name for spec in flat), type(examples).__name__
        raise ValueError(
            f"`examples` must have the structure of the model's inputs, {names}. Received: a {kind}."
        ) from None
    return flat, tf.nest.flatten(examples)


def given(spec, value):
    value = np.asarray(value)
    if not spec.shape.is_compatible_with(value.shape):
        raise ValueError(
            f"`examples` of the input {spec.name!r} must have shape {spec.shape}. Received: {value.shape}."
        )
    return value.astype(spec.dtype.as_numpy_dtype)


def tolerance_of(model):
    """How large a difference may be: that of the lowest dtype that the model computes in."""
    return max(TOLERANCES.get(layer.compute_dtype, TOLERANCE) for layer in layers_of(model))


def check(reference, tolerance, endpoint, batches, format, path):
    """Compares an exported file with a function that says what is right.

    Args:
        reference: The function of a batch; it is called on the processor, as the file will be.
        tolerance: The largest difference that is allowed, over the largest value of an output.
        endpoint: The `Endpoint` that was exported.
        batches: Those of `batches_of`.
        format: The name of the format.
        path: The file or folder.

    Returns:
        A `Check`.

    Raises:
        ExportError: When the file cannot be loaded and run there, when outputs differ, when there is a collective op.
    """
    here = [values_of(reference, batch) for batch in batches]
    said = answer_of(endpoint, batches, format, path)
    if said["collectives"]:
        raise ExportError(
            f"The export has collective ops in its graph: {', '.join(said['collectives'])}. A layer of another library "
            "communicates in inference too: leave it out of the model."
        )
    difference = float(np.max(list(map(largest_difference, here, said["outputs"]))))
    if not difference <= tolerance:
        off = f"differ by {difference:.1e} of the largest" if np.isfinite(difference) else "have another shape or NaN"
        raise ExportError(
            f"With {said['runtime']} the export does not say what the model says: outputs {off}, expected ≤ "
            f"{tolerance:.0e}. Nothing was written. A model that draws random numbers in inference cannot be checked; "
            "check=False exports it."
        )
    return Check(difference, said["runtime"], tuple(map(size_of, batches)))


def values_of(reference, batch):
    """What the model itself says."""
    try:
        with tf.device("CPU:0"):
            outputs = [each.numpy() for each in tf.nest.flatten(reference(batch))]
    except Exception as error:
        raise ExportError(
            f"The model itself cannot be called with a batch of {size_of(batch)}: {brief(error)}"
        ) from error
    if any(np.isnan(each.astype(np.float64)).any() for each in outputs):
        raise ExportError("The model itself says NaN. Pass `examples` that it has numbers for, or see to its weights.")
    return outputs


def size_of(batch):
    return len(tf.nest.flatten(batch)[0])


def largest_difference(here, there):
    """That of the outputs for one batch, over the largest value of each; infinite or NaN where they do not compare."""
    found = []
    for right, value in zip(here, there, strict=True):
        right, value = np.asarray(right, np.float64), np.asarray(value, np.float64)
        if right.shape != value.shape:
            return np.inf
        other = right != value  # what is infinite here may be so there
        largest = np.abs(right[np.isfinite(right)]).max(initial=0) or 1.0
        found.append(np.abs(value[other] - right[other]).max(initial=0) / largest)
    return np.max(found)


def answer_of(endpoint, batches, format, path):
    """What the new process answers."""
    if format != "saved_model":
        batches = [dict(zip(endpoint.inputs, tf.nest.flatten(batch), strict=True)) for batch in batches]
    environment = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}
    with tempfile.TemporaryDirectory() as folder:
        request, answer = pathlib.Path(folder, "request"), pathlib.Path(folder, "answer")
        request.write_bytes(pickle.dumps({"batches": batches, "outputs": list(endpoint.outputs)}))
        process = subprocess.run(
            [sys.executable, "-I", str(SERVED), format, str(path), str(request), str(answer)],
            env=environment | {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if process.returncode == 0:
            return pickle.loads(answer.read_bytes())
    last = (process.stderr.strip().splitlines() or ["it said nothing"])[-1]
    raise ExportError(f"The export cannot be served: a new process ended with code {process.returncode}: {last[:300]}")
