"""Findings about the moving statistics: never updated, of other weights or data, and what inference makes of them."""

import numpy as np

from bn_keras.doctor.case import Case
from bn_keras.doctor.examination import Finding, Repair
from bn_keras.doctor.gaps import LayerGap, numbers_of
from bn_keras.doctor.standing import is_lower
from bn_keras.doctor.watching import takes_training

# Without a gain in loss a gap is worth a note where batch noise cannot be the reason, whatever the batches:
NOTEWORTHY_MEAN = 0.5  # half a deviation moves a ReLU's share of zeros from 50 % to 31 %
NOTEWORTHY_FACTOR = 2.0
# What makes a gap an error rather than a warning: a tenth of the loss, or a point of accuracy.
GRAVE_LOSS = 0.1
GRAVE_ACCURACY = 0.01
# Output between the modes without labels: batches of 32 values change the output of a healthy model by less.
GRAVE_CHANGE = 0.3


def never_updated(case: Case) -> list[Finding]:
    """Statistics that are still where they start, while the batches say otherwise."""
    gaps = [gap for layer, gap in case.gaps.items() if gap.exceeds_noise and at_start(layer) and learns(layer)]
    if not gaps:
        return []
    if not case.looks_trained():
        sentence = f"{names(gaps)} still at mean 0 and variance 1, as in a new model: {worst(gaps)}. Train first."
        return [Finding("never_updated", "note", layers(gaps), size(gaps[0]), sentence)]
    why = "" if takes_training(case.model) else " The model's `call` takes no `training`, so `fit` never updates them."
    sentence = f"{names(gaps)} still at mean 0 and variance 1 in a trained model: {worst(gaps)}.{why}"
    advice = "Let `call` take `training=None`." if why else "Call the model with training=True in training."
    return [Finding("never_updated", "error", layers(gaps), size(gaps[0]), sentence, case.recalibrated(), advice)]


def not_finite(case: Case) -> list[Finding]:
    """NaN or infinity in what a batch norm gets, or in its statistics."""
    wrong = [layer for layer, gap in case.gaps.items() if not (np.isfinite(gap.mean_gap) and has_finite(layer))]
    if not wrong:
        return []
    layer, inside = wrong[0], not has_finite(wrong[0])
    where = "has NaN or infinity in its moving statistics" if inside else "gets NaN or infinity"
    sentence = f"{layer.name!r} {where}, the first of {len(wrong)} such batch norms."
    advice = "Look for them in the data and in the weights before the layer; lower the learning rate."
    repair = case.recalibrated() if inside else None
    return [Finding("not_finite", "error", tuple(each.name for each in wrong), len(wrong), sentence, repair, advice)]


def stale_statistics(case: Case) -> list[Finding]:
    """Statistics that do not belong to these weights or data. Which of the two, the numbers do not tell."""
    gaps = [gap for layer, gap in case.gaps.items() if gap.exceeds_noise and not at_start(layer) and learns(layer)]
    if not gaps:
        return []
    gaps.sort(key=size, reverse=True)
    repair = case.recalibrated()
    severity = severity_of(repair, gaps)
    if severity == "note" and any(fact.startswith("recalibrate could not be tried") for fact in case.facts):
        severity = "warning"  # a repair that cannot be tried does not say that the gap harms nothing
    if severity is None:
        return []
    sentence = (
        f"The moving statistics of {len(gaps)} of {len(case.gaps)} batch norms do not belong to these weights or data: "
        f"{worst(gaps)}. Averaged weights (EMA, SWA), edited or loaded ones, a short training, and training "
        "on other or augmented data look alike here."
    )
    return [Finding("stale_statistics", severity, layers(gaps), size(gaps[0]), sentence, repair)]


def severity_of(repair: Repair | None, gaps: list[LayerGap]):
    """By what recalibration gains; `None` where the gap harms nothing and is not large."""
    if repair is None:
        large = [gap for gap in gaps if gap.mean_gap > NOTEWORTHY_MEAN or gap.variance_factor > NOTEWORTHY_FACTOR]
        return "note" if large else None
    gains = {gain.what: gain for gain in repair.gains}
    if "loss" not in gains:
        return "error" if gains["output change"].before > GRAVE_CHANGE else "warning"
    loss, accuracy = gains["loss"], gains.get("accuracy")
    grave = loss.before - loss.after > GRAVE_LOSS * abs(loss.before)
    if accuracy is not None:
        grave = accuracy.after - accuracy.before > GRAVE_ACCURACY
    return "error" if grave else "warning"


def worse_in_inference(case: Case) -> list[Finding]:
    """Good in training, bad in inference: the same weights on the same batches, by the two kinds of statistics."""
    changes, gaps = case.standing.changes, {layer: gap for layer, gap in case.gaps.items() if gap.exceeds_noise}
    if not case.standing.batch.by_batch or not changes:
        return []
    if all(map(at_start, gaps)) and not case.looks_trained():
        return []  # a new model: `never_updated` says so
    off = layers(list(gaps.values()))
    output = "" if len(changes) == 1 else f" of output {int(np.argmax(changes))}"
    changed = f"the outputs{output} differ by {max(changes):.2g} of their deviation"
    if case.standing.labelled:
        return worse_in_loss(case, off, changed)
    repair = case.recalibrated() if max(changes) > GRAVE_CHANGE and off else None
    if repair is None:
        return []
    sentence = f"Between the statistics of the batch and the moving ones {changed}."
    return [Finding("worse_in_inference", "error", off, max(changes), sentence, repair)]


def worse_in_loss(case: Case, off: tuple[str, ...], changed: str) -> list[Finding]:
    """The same by the loss, where there are labels."""
    standing = case.standing
    before, after = standing.losses("loss"), standing.losses("training loss")
    loss, training_loss = standing.value("loss"), standing.value("training loss")
    if loss is None or training_loss is None:
        return []  # `not_finite` says so
    number = loss - training_loss
    if not is_lower(before, after, standing.floor) or number <= GRAVE_LOSS * abs(loss):
        return []
    repair = case.recalibrated()
    if repair is None and not off:
        return []  # batches that tell more than their examples, such as batches of one class, look like this
    rates = standing.inference.accuracy, standing.batch.accuracy
    accuracy = "" if None in rates else f", accuracy {rates[0]:.1%} against {rates[1]:.1%}"
    sentence = (
        f"Good in training, bad in inference: loss {loss:.3g} by the moving statistics against "
        f"{training_loss:.3g} by those of the batch{accuracy}; {changed}."
    )
    return [Finding("worse_in_inference", "error", off, number, sentence, repair)]


def at_start(layer) -> bool:
    """Whether the statistics of a layer are those that it starts with."""
    variance = numbers_of(layer.moving_variance) if hasattr(layer, "moving_variance") else np.ones(1)
    return bool((numbers_of(layer.moving_mean) == 0).all() and (variance == 1).all())


def learns(layer) -> bool:
    """Whether training moves the statistics of a layer. Frozen ones are what the weights were trained with."""
    return layer.trainable and not getattr(layer, "frozen", False)


def has_finite(layer) -> bool:
    """Whether the statistics of a layer are numbers."""
    return all(np.isfinite(numbers_of(each)).all() for each in layer.non_trainable_variables)


def size(gap: LayerGap) -> float:
    """The larger of the two gaps, a variance in its logarithm."""
    return max(gap.mean_gap, float(np.log(gap.variance_factor)))


def layers(gaps: list[LayerGap]) -> tuple[str, ...]:
    return tuple(gap.layer for gap in sorted(gaps, key=size, reverse=True))


def worst(gaps: list[LayerGap]) -> str:
    gap = max(gaps, key=size)
    return f"{gap.layer!r} has its {gap}"


def names(gaps: list[LayerGap]) -> str:
    return f"The moving statistics of {len(gaps)} batch norm{'s' * (len(gaps) > 1)} are"
