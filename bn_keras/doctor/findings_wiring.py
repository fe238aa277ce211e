"""Findings about what stands around a batch norm: an overridden `training=False`, dropout, a bias, a lost mask."""

import functools

import numpy as np

from bn_keras.doctor import repairs
from bn_keras.doctor.case import Case, gains_of
from bn_keras.doctor.examination import Finding, Gain, Repair
from bn_keras.doctor.gaps import TINY
from bn_keras.doctor.measuring import measure, norms_of, output_change
from bn_keras.doctor.standing import standing_of
from bn_keras.doctor.structure import drops_of_masks, parameters_of

# Li et al. 2019 see accuracy suffer from shifts of the variance of 10 % and more.
VARIANCE_SHIFT = 1.1
ERRORS = 3.0
SAME_OUTPUT = 0.01  # deviations of the output: rounding of half precision is below it


def training_false_overridden(case: Case) -> list[Finding]:
    """`base(x, training=False)` in a functional model, which this version of Keras lets `fit` override."""
    overridden = [layer for layer in case.structure.told_inference if layer in case.standing.training.by_batch]
    if not overridden:
        return []
    number = float(len(overridden))
    sentence = (
        f"{len(overridden)} batch norms, such as {overridden[0].name!r}, are called with training=False in a "
        "functional model, and this version of Keras lets `fit` override it: they normalize by the batch, and their "
        "statistics move."
    )
    advice = "Set trainable = False on these layers before `compile`, or freeze their statistics in the layers."
    names = tuple(layer.name for layer in overridden)
    return [Finding("training_false_overridden", "error", names, number, sentence, case.frozen(), advice)]


def variance_shift(case: Case) -> list[Finding]:
    """Dropout before a batch norm: in training the variance is larger than in inference (Li et al. 2019)."""
    shifts = {}
    for layer in case.structure.dropouts:
        shift = shift_of(layer, case.standing.training, case.standing.batch)
        if shift is not None:
            shifts[layer] = shift
    if not shifts:
        return []
    worst = sorted(shifts, key=lambda layer: abs(np.log(shifts[layer])), reverse=True)
    dropout, number = case.structure.dropouts[worst[0]][0], shifts[worst[0]]
    sentence = (
        f"{dropout.name!r} (rate {dropout.rate:g}) stands before {worst[0].name!r}, which gets {number:.3g} times the "
        "variance in training that it gets in inference."
    )
    advice = "Move dropout behind the last batch norm."
    names = tuple(layer.name for layer in worst)
    return [Finding("variance_shift", "warning", names, number, sentence, case.recalibrated(), advice)]


def shift_of(layer, training, batch) -> float | None:
    """The variance with dropout over that without, where it is a shift; `None` where it is not, or is noise."""
    if layer not in training.by_batch or layer not in batch.moments:
        return None
    before, after = (np.array([row[2] for row in each.moments[layer]]) for each in (training, batch))
    ratios = np.log((before + layer.epsilon + TINY) / (after + layer.epsilon + TINY)).mean(axis=1)
    shift = float(np.mean(ratios))
    error = np.std(ratios, ddof=1) / np.sqrt(len(ratios)) if len(ratios) > 1 else abs(shift)
    return float(np.exp(shift)) if abs(shift) > max(np.log(VARIANCE_SHIFT), ERRORS * error) else None


def wasted_bias(case: Case) -> list[Finding]:
    """A bias before a batch norm, which subtracts it again with the mean."""
    trained = case.standing.training.by_batch
    biased = {norm: layer for norm, layer in case.structure.biased.items() if norm in trained and layer.trainable}
    if not biased:
        return []
    number = parameters_of(biased.values())
    norm, layer = next(iter(biased.items()))
    sentence = (
        f"{number:,} parameters do nothing: the biases of {len(biased)} layers before a batch norm, such as "
        f"{layer.name!r} before {norm.name!r}, which subtracts them with the mean."
    )
    names = tuple(layer.name for layer in biased.values())
    address = functools.partial(repairs.address_of, case.model)
    by_address = {address(norm): address(layer) for norm, layer in biased.items()}
    make = functools.partial(repairs.drop_bias, biased=by_address)
    copy, repair = case.copied("drop_bias", make), None
    if copy is not None and answers_alike(case, copy):
        gain = Gain("parameters", case.standing.parameters, copy.count_params())
        repair = Repair("drop_bias", "Dense(…, use_bias=False)", (gain,))
        case.makers["drop_bias"] = make
    return [Finding("wasted_bias", "note", names, float(number), sentence, repair)]


def answers_alike(case: Case, copy) -> bool:
    """Whether a copy gives the outputs of the model in inference, but for rounding."""
    before, after = (measure(each, case.batches[:1], "inference", with_moments=False) for each in (case.model, copy))
    return max(output_change(before, after), default=0.0) < SAME_OUTPUT


def lost_mask(case: Case) -> list[Finding]:
    """A batch norm that takes padding for data, as a layer before it drops the mask."""
    unmasked = {norm: each for norm, each in case.structure.unmasked.items() if each[1] > 0}
    if not unmasked:
        return []
    norm, (layer, share) = max(unmasked.items(), key=lambda item: item[1][1])
    sentence = (
        f"{layer.name!r} ({type(layer).__name__}) drops the mask, so {share:.0%} of the values that {norm.name!r} "
        "normalizes and averages are padding."
    )
    names = tuple(norm.name for norm in unmasked)
    dropping = {layer.name for layer, _ in unmasked.values()}
    copy = case.copied("keep_mask", lambda model, batches: repairs.keep_mask(model, batches, dropping))
    repair = None if copy is None else kept_mask(case, copy, names, layer, share)
    advice = f"Give the class {type(layer).__name__} supports_masking = True, or pass mask= to the batch norm."
    return [Finding("lost_mask", "error", names, share, sentence, repair, advice)]


def kept_mask(case, copy, names, layer, share) -> Repair | None:
    """The repair, if the mask arrives in the copy."""
    norms = [norm for norm in norms_of(copy) if norm.name in names]
    _, without = drops_of_masks(copy, norms, case.batches[0])
    if without:
        return None
    after = standing_of(copy, case.batches, case.criterion)
    gains = (Gain("share of padding", share, 0.0), *gains_of(case.standing, after, "loss"))
    return Repair("keep_mask", f"{layer.name}.supports_masking = True, then surgery.recalibrate", gains, in_model=False)
