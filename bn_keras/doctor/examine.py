"""`examine`: all findings about the batch norms of one model."""

import typing

import keras

from bn_keras.doctor import findings_batch, findings_statistics, findings_weights, findings_wiring
from bn_keras.doctor.case import Case
from bn_keras.doctor.criterion import Criterion
from bn_keras.doctor.data import Batch, batches_of, refuse_list_for_one_input
from bn_keras.doctor.examination import SEVERITIES, Examination
from bn_keras.doctor.gaps import gap_of
from bn_keras.doctor.measuring import norms_of, of_domains
from bn_keras.doctor.standing import standing_of
from bn_keras.doctor.structure import structure_of
from bn_keras.doctor.watching import untouched
from bn_keras.surgery.rewrite import check_model

FINDINGS = (
    findings_statistics.not_finite,
    findings_statistics.never_updated,
    findings_statistics.stale_statistics,
    findings_statistics.worse_in_inference,
    findings_batch.one_value_per_channel,
    findings_batch.noisy_batches,
    findings_wiring.training_false_overridden,
    findings_wiring.variance_shift,
    findings_wiring.wasted_bias,
    findings_wiring.lost_mask,
    findings_weights.dead_scale,
    findings_weights.exploding_scale,
    findings_weights.weight_decay_on_scales,
)


def examine(model: keras.Model, data: typing.Any, *, batch_size: int = 32, steps: int = 16) -> Examination:
    r"""Finds what is wrong with the batch norms of a model, and tries the repairs on copies.

    `examine` runs the same batches through the model as `fit` does, as `predict` does, and as `predict` would if batch
    norm used the statistics of the batch. For each batch norm with m channels it compares the moving statistics with
    those of the batches:

    $$ \text{gap} = \sqrt{\frac1m \sum_c \frac{(\text{moving mean}_c - \mu_c)^2}{\sigma^2_c + \epsilon}} $$

    A gap counts if it exceeds what the differences between the batches explain. Each finding has a severity, the number
    that proves it, and the repair. `examine` tries the repair on a copy, and offers it only if the copy is better: in
    loss where there are labels, and otherwise in how far the outputs of the two modes are apart.

    The loss is the compiled one. Without one, `examine` takes the cross-entropy for class labels, and the mean squared
    error for labels with the shape of the output. The loss takes the sample weights; accuracy is of all examples.

    Pass data that look like the training data, and some of them: 500 examples are plenty. On other data `examine`
    says whether the statistics fit those.

    Args:
        model: Keras model that has been built: functional, Sequential or subclassed, with layers of bn_keras or Keras.
        data: Array of inputs; pair `(inputs, labels)` of arrays; dict or list of arrays for several inputs; or
            batches: a `tf.data.Dataset`, a `keras.utils.PyDataset` or another iterable of `x`, `(x, y)` or
            `(x, y, sample_weight)`. Arrays are shuffled. Pass batches to examine the batches of the training. A list of
            arrays is refused for a model with one input: pass its batches as `iter([…])`.
        batch_size: Int ≥ 1, the number of examples in a batch that is cut from arrays. Defaults to `32`.
        steps: Int ≥ 1, the number of batches to read. They stay in memory. Defaults to `16`.

    Returns:
        An `Examination`; `print(examination)` shows it. It has no findings for a model without batch norm.

    Raises:
        TypeError, ValueError: If `model` is not a built Keras model; for data of another kind, or numbers out of range.

    References:
        - [Li et al. 2019](https://arxiv.org/abs/1801.05134) for dropout before batch norm.
        - [Wu and He 2018](https://arxiv.org/abs/1803.08494) for small batches.

    Example:

    >>> from bn_keras import BatchNorm
    >>> model = keras.Sequential([keras.Input((4,)), BatchNorm(name="norm"), keras.layers.Dense(2)])
    >>> _ = model.layers[0].moving_mean.assign([9.0, 9.0, 9.0, 9.0])  # of other data
    >>> examination = examine(model, np.random.default_rng(0).normal(size=(256, 4)).astype("float32"))
    >>> [(each.severity, each.name, each.repair.name) for each in examination.findings][0]
    ('error', 'stale_statistics', 'recalibrate')
    >>> repaired = examination.repaired()
    """
    check_model(model)
    refuse_list_for_one_input(model, data)
    batches = batches_of(data, batch_size, steps)
    if not norms_of(model):
        why = f"The model has no batch norm; {len(batches)} batches were not read."
        return Examination(model.name, (), (), {}, (why, *facts_of_domains(model)), no_repair)
    case = case_of(model, batches)
    with untouched(model):
        findings = [each for find in FINDINGS for each in find(case)]
    findings.sort(key=lambda each: SEVERITIES.index(each.severity))
    facts = (*facts_of(case), *dict.fromkeys(case.facts))
    return Examination(model.name, tuple(findings), tuple(case.gaps.values()), numbers_of(case), facts, case.repaired)


def case_of(model, batches: list[Batch]) -> Case:
    """Everything that is measured before the findings are made."""
    with untouched(model):
        outputs = model(batches[0].x, training=False)
    criterion = Criterion(model, batches[0], outputs)
    standing = standing_of(model, batches, criterion, every=True)
    training, sizes = standing.training, [batch.size for batch in batches]
    gaps = {layer: gap_of(layer, training, sizes) for layer in norms_of(model) if layer in training.moments}
    return Case(model, batches, criterion, standing, gaps, structure_of(model, batches[0]))


def numbers_of(case: Case) -> dict[str, float]:
    names = ("loss", "training loss", "accuracy", "training accuracy", "output change")
    values = {name: case.standing.value(name) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def facts_of(case: Case) -> list[str]:
    """What was read, what the model makes of it, and what could not be measured."""
    examples = sum(batch.size for batch in case.batches)
    facts = [f"{examples:,} examples in {len(case.batches):,} batches"]
    numbers = [f"{name} {value:.3g}" for name, value in numbers_of(case).items()]
    facts[0] += f": {', '.join(numbers)}." if numbers else "."
    if case.criterion.name:
        facts.append(f"The loss is the {case.criterion.name}.")
    elif case.batches[0].y is not None:
        facts.append(f"No loss: {case.criterion.why}.")
    if case.structure.why:
        facts.append(f"Not examined: {case.structure.why}.")
    missing = [layer.name for layer in norms_of(case.model) if layer not in case.gaps]
    if missing:
        facts.append(f"Not measured, as no call or only calls within a loop reach them: {', '.join(missing)}.")
    return facts + facts_of_domains(case.model)


def facts_of_domains(model) -> list[str]:
    names = [layer.name for layer in of_domains(model)]
    advice = "surgery.merge_domains(model, domain=…) makes a model for one domain, which can be examined"
    return [f"Not examined, as they have statistics per domain: {', '.join(names)}; {advice}."] if names else []


def no_repair():
    raise ValueError("The model has no batch norm, so there is nothing to repair.")
