"""How far the outputs of an int8 file are from the model's, and whether that is allowed."""

import dataclasses

import numpy as np

from bn_keras.export import checking
from bn_keras.export.formats import ExportError

BATCH = 32
DEVIATIONS = 8.0  # the largest of some thousand normal numbers is at about four
CONSTANT = 1e-5  # of the largest value: less is rounding


@dataclasses.dataclass(frozen=True)
class Agreement:
    """The comparison of an int8 file with its model, for all outputs and examples.

    Attributes:
        top1: The share of the examples with the same top-1, or the same whole number, lowest over the outputs; `None`
            without classes.
        mean: The mean difference of an output over its size (see `size_of`), largest over the outputs.
        largest: The largest difference of an output over its size.
        runtime: The runtime with its version.
    """

    top1: float | None
    mean: float
    largest: float
    runtime: str


def measured_agreement(reference, endpoint, examples: np.ndarray, format: str, path, timeout: float) -> Agreement:
    """Compares a file with the model, which is the function `reference` of a batch, on all examples.

    Raises:
        ExportError: When the file cannot be run, when its outputs cannot be compared, when the time is over.
    """
    size, fixed = endpoint.signature.batch or BATCH, endpoint.signature.batch is not None
    ends = range(size, len(examples) + 1, size) if fixed else range(size, len(examples) + size, size)
    batches = [endpoint.signature.pack([examples[end - size : end]]) for end in ends]
    advice = "Pass a larger `timeout`, or fewer examples."
    here, there = checking.both_answers(reference, endpoint, batches, format, path, timeout, advice)
    agreements, means, most = [], [], []
    for of_model, of_file in zip(zip(*here, strict=True), zip(*there["outputs"], strict=True), strict=True):
        right, value = (np.concatenate([np.atleast_1d(each) for each in parts]) for parts in (of_model, of_file))
        if right.shape != value.shape or not np.isfinite(value.astype(np.float64)).all():
            raise ExportError(
                f"An output of the int8 file is NaN or of another shape: {value.shape}, expected {right.shape}. "
                "Nothing was written."
            )
        off = np.abs(right.astype(np.float64) - value) / size_of(right.astype(np.float64))
        means.append(float(off.mean()))
        most.append(float(off.max()))
        if right.dtype.kind in "iub":  # classes, or answers to a question: a number next to it is as wrong as any
            agreements.append(float((right == value).mean()))
        elif right.ndim > 1 and right.shape[-1] > 1:
            agreements.append(float((right.argmax(-1) == value.argmax(-1)).mean()))
    return Agreement(min(agreements, default=None), max(means), max(most), there["runtime"])


def size_of(output: np.ndarray) -> float:
    """What a difference of an output is measured in: its largest value, or eight standard deviations over the examples.

    The less of the two counts: of outputs between 299 and 301, a difference of 3 is a large one.
    """
    largest = float(np.abs(output).max())
    spread = DEVIATIONS * float(np.sqrt(np.mean((output - output.mean(axis=0)) ** 2)))
    return (min(largest, spread) if spread > CONSTANT * largest else largest) or 1.0


def refuse_drop(found: Agreement, least_agreement: float, most_difference: float, worst: str) -> None:
    """Raises an `ExportError` for a file that is further off than is allowed."""
    if found.mean > most_difference or (found.top1 is not None and found.top1 < least_agreement):
        raise ExportError(
            f"int8 loses too much: {differences_text(found.top1, found.mean, found.largest)}. Expected a top-1 "
            f"agreement ≥ {least_agreement:.1%} and a mean difference ≤ {most_difference:.2%}. Nothing was written. "
            f"{worst} Pass calibration data like those in use, or fine-tune the model with fake quantization; a "
            "smaller `least_agreement` or a larger `most_difference` allows the file."
        )


def differences_text(agreement: float | None, mean: float, largest: float) -> str:
    top = "" if agreement is None else f"top-1 agrees for {agreement:.1%}, "
    return f"{top}outputs differ by {mean:.2%} of the largest on average and {largest:.2%} at most"
