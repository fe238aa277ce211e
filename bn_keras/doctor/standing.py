"""How good a model is before and after a repair: its loss in both modes, and how far the modes are apart."""

import dataclasses

import numpy as np

from bn_keras.doctor.data import Batch
from bn_keras.doctor.measuring import Pass, measure, output_change

ERRORS = 2.0  # a loss is lower when the mean difference over batches exceeds two standard errors,
LEAST_GAIN = 0.01  # and one per cent of the loss.
LEAST_GAIN_OF_ONE_BATCH = 0.05  # one batch has no standard error
LEAST_CROSS_ENTROPY = 0.02  # a class is then two per cent likelier: less is no reason to change a model
LEAST_CHANGE = 0.02  # deviations of the output: below it the modes agree
LEAST_SHARE = 2 / 3  # a repair that leaves more than this of the change between the modes is none


@dataclasses.dataclass
class Standing:
    """Where a model stands.

    Attributes:
        inference: The pass as `predict` makes it.
        batch: The pass in which each batch norm that trains normalizes by the batch.
        training: The pass as `fit` makes it: of all batches, or of the first one for a repaired model.
        parameters: The number of parameters.
        labelled: Whether there is a loss.
    """

    inference: Pass
    batch: Pass
    training: Pass
    parameters: int
    labelled: bool

    @property
    def changes(self) -> list[float]:
        """By output, how far the two modes are apart."""
        return output_change(self.inference, self.batch)

    @property
    def floor(self) -> float:
        """The least gain in loss that counts: of classes, whose loss is a cross-entropy; another has no scale."""
        return 0.0 if self.inference.accuracy is None else LEAST_CROSS_ENTROPY

    def losses(self, what: str) -> np.ndarray:
        return np.array((self.batch if what == "training loss" else self.inference).losses)

    def value(self, what: str) -> float | None:
        """A number by its name."""
        values = {
            "loss": self.inference.loss,
            "training loss": self.batch.loss,
            "accuracy": self.inference.accuracy,
            "training accuracy": self.batch.accuracy,
            "output change": max(self.changes, default=0.0),
            "parameters": self.parameters,
        }
        return values[what]


def standing_of(model, batches: list[Batch], criterion, every: bool = False) -> Standing:
    """Measures a model; `every` says whether the pass in training mode reads all batches, and whether moments count."""
    first = batches[:1]
    training = measure(model, first, "training", criterion, with_moments=False)
    batch = measure(model, first, "batch", criterion, training.by_batch, with_moments=False)
    same = max(output_change(training, batch), default=0.0) == 0  # nothing but batch norm knows of training
    batch = measure(model, batches, "batch", criterion, training.by_batch, with_moments=every)
    if every:
        training = batch if same else measure(model, batches, "training", criterion)
    return Standing(
        inference=measure(model, batches, "inference", criterion, with_moments=False),
        batch=batch,
        training=training,
        parameters=model.count_params(),
        labelled=bool(criterion.name),
    )


def is_lower(before: np.ndarray, after: np.ndarray, floor: float = 0.0) -> bool:
    """Whether the losses `after`, by batch, are below those `before`, by more than batch noise and a floor."""
    if not (np.isfinite(before).all() and len(before)):
        return bool(np.isfinite(after).all() and len(after) and not np.isfinite(before).all())
    if not np.isfinite(after).all():
        return False
    gain, scale = before - after, abs(np.mean(before))
    if len(gain) == 1:
        return bool(gain[0] > max(LEAST_GAIN_OF_ONE_BATCH * scale, floor))
    error = np.std(gain, ddof=1) / np.sqrt(len(gain))
    return bool(np.mean(gain) > max(ERRORS * error, LEAST_GAIN * scale, floor))


def improves(before: Standing, after: Standing, what: str) -> bool:
    """Whether a repair gains in "loss" or "training loss"; without labels, whether the modes come together."""
    if before.labelled:
        return is_lower(before.losses(what), after.losses(what), before.floor)
    change, left = max(before.changes, default=0.0), max(after.changes, default=0.0)
    return bool(change > LEAST_CHANGE and left < LEAST_SHARE * change)
