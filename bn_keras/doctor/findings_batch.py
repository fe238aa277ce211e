"""Findings about the batches: one value per channel, too few of them, or batches that differ by more than chance."""

import numpy as np

from bn_keras.doctor.case import Case
from bn_keras.doctor.examination import Finding, Severity

# The noise of the mean of nine independent values. Group norm overtakes batch norm at about this size (Wu and He 2018).
TOO_NOISY = 1 / 3
# With independent examples the noise is 1/√examples at most. Twice that is no chance.
NOT_INDEPENDENT = 2.0
LEAST_BATCHES = 4  # fewer batches do not tell their noise


def one_value_per_channel(case: Case) -> list[Finding]:
    """Training in which a batch norm has nothing to normalize: its output is β, whatever the input."""
    single, batches = case.standing.training.single, len(case.batches)
    if not single:
        return []
    worst = sorted(single, key=lambda layer: single[layer], reverse=True)
    number = single[worst[0]] / batches
    sentence = (
        f"{worst[0].name!r} has one value per channel in {number:.0%} of the batches as training calls it. Its output "
        "is β then, whatever the input, and its moving variance goes to 0."
    )
    advice = "Use larger batches, or a normalization within each example: surgery.replace(model, {…: GroupNorm})."
    severity: Severity = "error" if number > 0.5 else "warning"
    names = tuple(layer.name for layer in worst)
    return [Finding("one_value_per_channel", severity, names, number, sentence, case.frozen(), advice)]


def noisy_batches(case: Case) -> list[Finding]:
    """Batches too small for batch norm: their statistics scatter as those of a few values do."""
    single = case.standing.training.single
    examples = float(np.mean([batch.size for batch in case.batches]))
    gaps = [
        gap for layer, gap in case.gaps.items() if gap.by_batch and layer not in single and gap.batch_noise > TOO_NOISY
    ]
    if not gaps or len(case.batches) < LEAST_BATCHES:
        return []
    gaps.sort(key=lambda gap: gap.batch_noise, reverse=True)
    number, names = gaps[0].batch_noise, tuple(gap.layer for gap in gaps)
    noise = f"the means of batches scatter by {number:.2g} σ at {gaps[0].layer!r}"
    if number > NOT_INDEPENDENT / np.sqrt(examples):
        sentence = (
            f"Batches differ by more than chance: {noise}, and batches of {examples:.0f} independent examples by "
            f"{1 / np.sqrt(examples):.2g} σ at most."
        )
        return [Finding("unlike_batches", "warning", names, number, sentence, None, "Shuffle the data.")]
    sentence = f"Batches of {examples:.0f} examples are too small for batch norm: {noise}."
    advice = "Use larger batches, or a normalization within each example: surgery.replace(model, {…: GroupNorm})."
    return [Finding("small_batch", "warning", names, number, sentence, case.frozen(), advice)]
