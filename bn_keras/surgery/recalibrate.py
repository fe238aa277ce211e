"""Batch norm's moving averages replaced by the statistics of the data, as Algorithm 2 of the paper takes them."""

import dataclasses
import functools
import sys
import typing

import keras
import numpy as np
import tensorflow as tf

from bn_keras.layers import DomainBatchNorm, SyncBatchNorm
from bn_keras.layers.checks import checked_count
from bn_keras.surgery.batches import Batches
from bn_keras.surgery.copying import Change
from bn_keras.surgery.drift import Recalibrated, Recalibration, row_of
from bn_keras.surgery.freeze import WITH_STATISTICS
from bn_keras.surgery.population import METHODS
from bn_keras.surgery.probes import ancestors, levels, probe_of, recorded
from bn_keras.surgery.reports import ReportTo, hand_over, refuse_kept
from bn_keras.surgery.rewrite import check_model, rewrite, verified_but_for
from bn_keras.surgery.tree import layers_of

CLASSES = (*WITH_STATISTICS, SyncBatchNorm)


def recalibrate(
    model: keras.Model,
    data: typing.Any,
    *,
    method: typing.Literal["population", "algorithm2"] = "population",
    steps: int | None = None,
    sequential: bool = False,
    strict: bool = False,
    verify: bool = True,
    report: ReportTo = print,
) -> keras.Model:
    r"""Replaces the moving statistics of batch norm by the exact statistics of the data, in a copy of a model.

    $$ \mu = \frac1N \sum_i x_i \qquad \sigma^2 = \frac1N \sum_i (x_i - \mu)^2 $$

    The sums run over all N elements of all batches. Moving averages follow the last batches of a training whose weights
    still moved; these statistics belong to the final weights. Recalibrate after averaging or editing weights, after a
    short training or one with small batches, and for other data than the training data. Only the statistics change.

    `sequential=False` reads the data once. Batch norm runs as in training: each batch is normalized by its own moments,
    also with `renorm`. All other layers run as in inference. The statistics are exact for a layer without a batch norm
    before it. A deeper layer gets the statistics that training would see.

    `sequential=True` makes the statistics of all layers exact. It measures each layer while the layers before it
    already normalize by their new statistics, and reads the data once for each level of consecutive layers. A layer
    whose input depends on its own output has no exact statistics; the moments of its batches replace them there.

    The counts, means and variances of the batches are merged in float64, so batches may have any size. All calls of a
    layer count, and masked elements do not. A frozen layer (`trainable = False` or `frozen=True`) keeps its statistics
    and runs as in inference. Within `strategy.scope()` each replica measures its part of every batch. Shapes and dtypes
    are those of the layers' statistics.

    Args:
        model: Keras model that has been built, as in `from_keras`, with `BatchNorm`, `SyncBatchNorm`,
            `DecorrelatedBatchNorm` or `keras.layers.BatchNormalization` layers.
        data: Array or dict of arrays, which is cut into batches of 32; `tf.data.Dataset`, which a strategy distributes;
            `tf.distribute.DistributedDataset`; `keras.utils.PyDataset`; or any iterable of batches. A batch is `x`,
            `(x, y)` or `(x, y, sample_weight)`, as in `fit`.
        method: `"population"` for the equations above, or `"algorithm2"` for those of the paper: the averages over
            batches of the mean and of the unbiased variance m/(m−1) σ², weighted by the count of the batch. A batch is
            what training normalizes at once: the part of one replica, or of all replicas if the layer is synchronized.
            A batch with one value per channel counts for the mean alone. Defaults to `"population"`.
        steps: Int ≥ 1, the number of batches to read, or `None` for all. With `sequential=True` each pass should read
            the same batches. Defaults to `None`.
        sequential: Bool, whether to measure deeper layers after the layers before them. `data` must start anew in each
            pass. Defaults to `False`.
        strict: Bool, whether a layer that keeps its statistics raises an error. Defaults to `False`.
        verify: Bool, whether to compare the outputs of the model and of a copy with the old statistics. Defaults to
            `True`.
        report: Function that gets the `Recalibration`, whose `str` is a table, or `None` for no report and no progress
            bar. `bn_keras.surgery.report(copy)` returns the same report. Defaults to `print`.

    Returns:
        A new model, not compiled. The original model does not change, also after an error or Ctrl-C.

    Raises:
        TypeError, ValueError: For an argument of the wrong type or value; if the model has no batch norm that can
            change, or a batch norm of a derived class; if the data have no batch, fewer batches than `steps`, or no
            end, or cannot be read again for `sequential=True`; if a layer gets no element, NaN or infinity. The error
            names the layer.

    References:
        [Ioffe and Szegedy 2015](https://arxiv.org/abs/1502.03167), Algorithm 2.

    Example:

    >>> from bn_keras import BatchNorm
    >>> model = keras.Sequential([keras.Input((1,)), BatchNorm(name="norm")])
    >>> new = recalibrate(model, np.array([[1.0], [3.0], [8.0]]), report=None)
    >>> new.get_layer("norm").moving_mean.numpy().tolist(), float(new.get_layer("norm").moving_variance[0])
    ([4.0], 8.666666984558105)
    """
    check_arguments(model, method, steps)
    layers, kept = norms_of(model)
    if strict:
        refuse_kept("recalibrate", kept.values())
    batches = Batches(data, steps, tf.distribute.get_strategy(), again=sequential)
    probed, copies, _ = rewrite(model, {layer: Change(functools.partial(probe_of, layer)) for layer in layers})
    probes = {copies[layer]: layer for layer in layers}
    progress = report is not None and sys.stdout.isatty()
    found, passes, size, facts = measure_probes(probed, list(probes), batches, method, sequential, progress)
    new, _, _ = rewrite(model, {layer: with_values(layer, found[probe].values) for probe, layer in probes.items()})
    rows = kept | {layer: row_of(layer, *found[probe].moments) for probe, layer in probes.items()}
    rows = tuple(rows[layer] for layer in layers_of(model) if layer in rows)
    verified = verified_but_for(model, verify)
    made = Recalibration("recalibrate", rows, verified, tuple(facts), method, sequential, size[0], size[1], passes)
    return hand_over(new, made, report)


def check_arguments(model, method, steps):
    check_model(model)
    if method not in METHODS:
        raise ValueError(f"`method` must be one of {tuple(METHODS)}. Received: method={method!r}.")
    if steps is not None:
        checked_count("steps", steps)


def norms_of(model):
    """The batch norm layers to be measured, and a row for each of those that keep their statistics."""
    norms = [layer for layer in layers_of(model) if isinstance(layer, WITH_STATISTICS)]
    kept = {layer: Recalibrated(layer.name, type(layer).__name__, "kept", why_kept(layer)) for layer in norms}
    kept = {layer: row for layer, row in kept.items() if row.why}
    layers = [layer for layer in norms if layer not in kept]
    if not layers:
        what = " whose statistics can change" if norms else ""
        reasons = "".join(f" {row.layer!r} is kept: {row.why}." for row in list(kept.values())[:3])
        advice = " Set trainable = True and frozen = False on the layers to be measured." if norms else ""
        raise ValueError(f"The model {model.name!r} has no batch norm{what}.{reasons}{advice}")
    return layers, kept


def why_kept(layer) -> str:
    """Why a batch norm keeps its statistics; "" if it does not."""
    if not layer.trainable or getattr(layer, "frozen", False):
        return "frozen"
    if isinstance(layer, DomainBatchNorm):
        return "it has statistics per domain; merge_domains(model, domain=…) fixes one"
    if type(layer) not in CLASSES:
        return f"its class, {type(layer).__name__}, derives from batch norm and may normalize by something else"
    return "" if layer.built else "it has no weights: nothing calls it"


@dataclasses.dataclass(frozen=True)
class Found:
    """Count, mean and variance of all data, and the values that the variables of a layer have by them."""

    moments: tuple
    values: dict


def measure_probes(model, probes, batches, method, sequential, progress):
    """`(found, passes, (batches, samples), facts)`: what there is to know of each probe.

    The first pass measures all, and says by its trace what comes before what.
    """
    totals, size, calls, facts = one_pass(model, probes, batches, method, progress)
    called = list(dict.fromkeys(call.probe for call in calls))
    for probe in probes:
        if probe not in called:
            refuse_empty(probe)
    order, found = levels(calls) if sequential else [called], {}
    for i, level in enumerate(order):
        if i > 0:
            for probe in probes:
                probe.measuring = probe in level
            totals, size, _, _ = one_pass(model, level, batches, method, progress)
        for probe in level:
            found[probe] = found_of(probe, totals[probe], size[0])
            assign(probe, found[probe].values)
    return found, len(order), size, [] if sequential else facts


def one_pass(model, probes, batches, method, progress):
    """`(totals, (batches, samples), calls, facts)`: the moments of each probe, and the calls of the first trace."""
    step, traces = step_of(model, probes, batches.strategy)
    totals, skipped = {probe: METHODS[method]() for probe in probes}, {}
    bar = keras.utils.Progbar(batches.steps, verbose=int(progress), unit_name="batch")
    count = samples = 0
    for count, x in enumerate(batches, 1):
        try:
            sizes, moments = step(x)
        except tf.errors.InvalidArgumentError as error:
            refuse_empty_share(x, batches.strategy, error)
            raise
        samples += int(np.sum(sizes))
        parts = {
            probes[i]: [part for rows in calls for part in probes[i].batches(np.concatenate(rows))]
            for i, calls in moments.items()
        }
        flat = {probe for probe, found in parts.items() if any(0 < np.max(each) <= 1 for each, _, _ in found)}
        for probe, found in parts.items():
            above = flat & ancestors(traces[0])[probe] if flat else set()
            for part in [] if above else found:
                totals[probe].add(*part)
            for each in above:
                skipped[each.name] = skipped.get(each.name, set()) | {count}
        bar.update(count)
    if batches.steps is None:
        bar.update(count, finalize=True)
    facts = [
        f"{len(which):,} batches with one value per channel at {name!r} do not count for the layers after it: their "
        "input would be β. Use larger batches or sequential=True."
        for name, which in skipped.items()
    ]
    return {probe: total.result() for probe, total in totals.items()}, (count, samples), traces[0], facts


def step_of(model, probes, strategy):
    """A function from a batch to its size and the moments of each call of each probe, on all replicas."""
    numbers, traces, compiled = {probe: i for i, probe in enumerate(probes)}, [], {}

    def on_replica(x):
        with recorded() as calls:
            model(x, training=False)
        traces.append(calls)
        moments = {}
        for call in calls:
            moments.setdefault(numbers[call.probe], []).append(call.moments)
        return tf.shape(keras.tree.flatten(x)[0])[:1], moments

    @functools.partial(tf.function, autograph=False)
    def on_all(x):
        return tf.nest.map_structure(lambda each: of_all_replicas(each, strategy), strategy.run(on_replica, (x,)))

    def step(x):
        specs = tf.nest.map_structure(of_any_size, x)
        key = tuple(tf.nest.flatten(specs))
        if key not in compiled:
            compiled[key] = on_all.get_concrete_function(specs)
        return compiled[key](x)

    return step, traces


def refuse_empty_share(x, strategy, error):
    """Explains a failure on a batch of which a replica has no row: TensorFlow's convolutions may not take that."""
    shares = [len(each) for each in strategy.experimental_local_results(keras.tree.flatten(x)[0])]
    if 0 in shares:
        raise ValueError(
            f"A replica has no row of a batch (rows by replica: {shares}), which a layer of the model does not take on "
            "this machine. Pass batches with at least one row for each replica."
        ) from error


def of_all_replicas(value, strategy):
    """What the replicas have of a value: a list, or one tensor of all where some are on other machines."""
    local = list(strategy.experimental_local_results(value))
    return local if len(local) == strategy.num_replicas_in_sync else [strategy.gather(value, axis=0)]


def of_any_size(x):
    """The type of a value, a tensor's for batches of any size; what lies on several replicas is as it is."""
    return tf.TensorSpec([None, *x.shape[1:]], x.dtype) if isinstance(x, tf.Tensor) else tf.type_spec_from_value(x)


def found_of(probe, moments, batches):
    count, mean, variance = moments
    if np.min(count) == 0:
        refuse_empty(probe)
    if not (np.isfinite(mean).all() and np.isfinite(variance).all()):
        raise ValueError(
            f"The layer {probe.name!r} got NaN or infinity, or numbers whose variance is beyond float32. Look for them "
            "in the data, and in the weights and outputs of the layers before."
        )
    return Found(moments, probe.statistics_of(mean, variance, batches))


def refuse_empty(probe):
    raise ValueError(
        f"The layer {probe.name!r} has channels without an element to measure: none came to it, or with "
        'method="algorithm2" no two in one batch, or all batches gave a layer before it one value per channel. Pass '
        "other data, larger batches or sequential=True, or set trainable = False on the layer to keep its statistics."
    )


def assign(layer, values):
    for name, value in values.items():
        getattr(layer, name).assign(value)


def with_values(layer, values):
    """The same layer again, with other values of some variables."""
    kept = {variable.name: variable for variable in layer.variables}
    return Change(functools.partial(type(layer).from_config, layer.get_config()), kept | values)
