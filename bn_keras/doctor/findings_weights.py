"""Findings about γ and β: dead or exploding scales, and weight decay on either."""

import functools
import typing

import keras
import numpy as np

from bn_keras.doctor import repairs
from bn_keras.doctor.case import Case
from bn_keras.doctor.examination import Finding, Gain, Repair, Severity
from bn_keras.doctor.gaps import numbers_of
from bn_keras.doctor.measuring import measure, norms_of
from bn_keras.doctor.standing import is_lower
from bn_keras.surgery.tree import layers_of
from bn_keras.surgery.weight_decay import decayed, scales_and_offsets

DEAD = 1e-3  # of the typical |γ|: what the channel still says is below a thousandth of the others
DEAD_SHARE = 0.5  # fewer dead channels are common in trained networks, and harmless
EXPLODING = 30.0  # times the median |γ|: largest ratios in pretrained ResNets are about 10
# Weight decay below this is a note: a share of γ per 1,000 steps.
NOTABLE_DECAY = 0.05


def dead_scale(case: Case) -> list[Finding]:
    """Channels with γ ≈ 0: their output is β, whatever the input."""
    dead = {layer: gamma_below(layer) for layer in norms_of(case.model) if layer.gamma is not None}
    shares = {layer: float(np.mean(each)) for layer, each in dead.items() if each.any()}
    if not shares or not case.looks_trained():
        return []  # residual blocks start with γ = 0
    start = [layer for layer in shares if starts_at_zero(layer) and not case.steps()]
    shares = {layer: share for layer, share in shares.items() if layer not in start}
    return [*of_the_start(start), *of_dead(case, dead, shares)]


def of_the_start(layers: list) -> list[Finding]:
    """The layers of residual blocks that are new in a model with trained weights."""
    if not layers:
        return []
    sentence = (
        f"Each scale γ of {layers[0].name!r} is 0, as `gamma_initializer` starts it, and the optimizer has taken no "
        "step: the layer says β until training moves γ."
    )
    return [Finding("dead_scale", "note", tuple(layer.name for layer in layers), 1.0, sentence)]


def of_dead(case: Case, dead: dict, shares: dict) -> list[Finding]:
    if not shares:
        return []
    worst = sorted(shares, key=lambda layer: shares[layer], reverse=True)
    number = shares[worst[0]]
    repair = reset(case, "dead", {layer: dead[layer] for layer in worst})
    severity: Severity = "error" if number == 1 else "warning" if number >= DEAD_SHARE or repair else "note"
    sentence = f"{number:.0%} of the scales γ of {worst[0].name!r} are 0: these channels say β, whatever their input."
    advice = "" if repair else "If they were trained to 0, drop these channels: they cost time and say nothing."
    names = tuple(layer.name for layer in worst)
    return [Finding("dead_scale", severity, names, number, sentence, repair, advice)]


def exploding_scale(case: Case) -> list[Finding]:
    """Channels with a γ far above the others, which drown them in the next layer."""
    ratios = {}
    for layer in norms_of(case.model):
        gamma = np.abs(numbers_of(layer.gamma)) if layer.gamma is not None else np.zeros(0)
        typical = typical_of(gamma)
        if len(gamma) and (not np.isfinite(gamma).all() or gamma.max() > EXPLODING * typical):
            ratios[layer] = np.where(np.isfinite(gamma), gamma / typical, np.inf)
    if not ratios:
        return []
    worst = sorted(ratios, key=lambda layer: ratios[layer].max(), reverse=True)
    number = float(ratios[worst[0]].max())
    repair = reset(case, "exploding", {layer: ratios[layer] > EXPLODING for layer in worst})
    sentence = f"A scale γ of {worst[0].name!r} is {number:.3g} times the median of its layer."
    names = tuple(layer.name for layer in worst)
    advice = "" if repair else "Lower the learning rate, or clip gradients."
    return [Finding("exploding_scale", "error" if repair else "warning", names, number, sentence, repair, advice)]


def starts_at_zero(layer) -> bool:
    """Whether γ is 0, and the initializer says so."""
    return isinstance(layer.gamma_initializer, keras.initializers.Zeros) and not numbers_of(layer.gamma).any()


def gamma_below(layer) -> np.ndarray:
    gamma = np.abs(numbers_of(layer.gamma))
    return gamma <= DEAD * typical_of(gamma)


def typical_of(gamma: np.ndarray) -> float:
    """The median |γ|, without what weight decay or pruning has brought next to 0; scales start at 1."""
    alive = gamma[gamma > DEAD] if (gamma > DEAD).any() else gamma[gamma > 0]
    return float(np.median(alive)) if len(alive) else 1.0


def reset(case: Case, kind: str, channels: dict) -> Repair | None:
    """Sets these scales to the median of the others, where that lowers the loss."""
    if not case.standing.labelled:
        return None
    by_address = {repairs.address_of(case.model, layer): each for layer, each in channels.items()}
    make = functools.partial(repairs.reset_scale, channels=by_address)
    call = f"set γ of the {kind} channels to the median of the others"
    return case.attempt(f"reset_scale:{kind}", make, call, "loss")


def weight_decay_on_scales(case: Case) -> list[Finding]:
    """γ and β under weight decay, which changes what the network computes; that of a kernel before does not."""
    optimizer: typing.Any = getattr(case.model, "optimizer", None)
    weights = {layer: scales_and_offsets(layer) for layer in layers_of(case.model)}
    names = tuple(layer.name for layer, own in weights.items() if decayed(optimizer, own))
    if not names:
        return []
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    per_step = min(float(inner.weight_decay) * float(inner.learning_rate), 1.0)
    number = 1 - (1 - per_step) ** 1000
    repair = excluded(case, inner) if number > NOTABLE_DECAY else None  # training costs more than a note is worth
    sentence = (
        f"Weight decay reaches scales and offsets of {len(names)} normalization layers, and takes {number:.1%} of them "
        "in 1,000 steps at the present learning rate."
    )
    severity: Severity = "warning" if number > NOTABLE_DECAY else "note"
    return [Finding("weight_decay_on_scales", severity, names, number, sentence, repair)]


def excluded(case: Case, optimizer) -> Repair | None:
    """Trains two copies for some steps, with and without weight decay on γ and β."""
    if case.criterion.model is None:
        return None  # not compiled with a loss, or no labels: nothing to train by
    losses = []
    for exclude in (False, True):
        make = functools.partial(repairs.trained, optimizer=optimizer, exclude=exclude)
        copy = case.copied("exclude_from_weight_decay", make)
        if copy is None:
            return None
        losses.append(measure(copy, case.batches, "inference", case.criterion, with_moments=False))
    before, after = losses
    if not is_lower(np.array(before.losses), np.array(after.losses), case.standing.floor):
        return None
    pairs = {"loss": (before.loss, after.loss), "accuracy": (before.accuracy, after.accuracy)}
    gains = [
        Gain(f"{name} after training", old, new)
        for name, (old, new) in pairs.items()
        if old is not None and new is not None
    ]
    call = "surgery.exclude_from_weight_decay(optimizer, model), before `compile`"
    return Repair("exclude_from_weight_decay", call, tuple(gains), in_model=False)
