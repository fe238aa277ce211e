"""Batch norm split into domains, and one domain taken out again: the graph gets a `domain` input, or loses it."""

import dataclasses
import functools

import keras
import numpy as np

from bn_keras.layers import BatchNorm, DomainBatchNorm, SyncBatchNorm
from bn_keras.layers.checks import checked_domains
from bn_keras.surgery.convert import biased
from bn_keras.surgery.copying import Change
from bn_keras.surgery.reports import Report, ReportTo, Row, Verified, hand_over, refuse_kept
from bn_keras.surgery.rewiring import DOMAIN, Merging, Splitting, flat, is_plain_graph, names_in, only, with_domain
from bn_keras.surgery.rewrite import NOT_VERIFIED, check_model
from bn_keras.surgery.tree import layers_of, slots
from bn_keras.surgery.verify import Example, compared

BATCH_NORMS = (BatchNorm, SyncBatchNorm, keras.layers.BatchNormalization)
SETTINGS = {"name", "dtype", "trainable", "activity_regularizer"}  # of every layer
# Arguments of batch norm that `DomainBatchNorm` has not; what they are where they change nothing.
WITHOUT = {"renorm": False, "virtual_batch_size": None, "group_size": None, "accumulation_steps": None, "fused": None}


def split_domains(
    model: keras.Model,
    domains: int,
    *,
    shared_affine: bool = True,
    strict: bool = False,
    verify: bool = True,
    report: ReportTo = print,
) -> keras.Model:
    """Turns each batch norm into a `DomainBatchNorm`, in a copy of a model that has a `domain` input.

    Every domain starts with a copy of the statistics, and of γ and β with `shared_affine=False`, so the outputs are
    equal whatever the domain. Train the copy on batches whose examples say their domain. The domain is the last input,
    of shape `(batch,)` and dtype int32: the inputs become `[x, domain]`, or a dict gets the key `"domain"`.

    The copy is a functional model, also of a Sequential one. Functional and Sequential models inside it get the input
    too, named `domain_1` and so on where they use the name `domain`. A batch norm that custom code calls stays as it
    is, because this code passes no domain, and so does one with an option that `DomainBatchNorm` does not have. The
    report names the layer.

    Args:
        model: Keras model that has been built, functional or Sequential, with `BatchNorm`, `SyncBatchNorm` or
            `keras.layers.BatchNormalization` layers.
        domains: Int ≥ 2, the number of domains.
        shared_affine: Bool, whether all domains share γ and β. Defaults to `True`.
        strict: Bool, whether a batch norm that stays as it is raises an error. Defaults to `False`.
        verify: Bool, whether to compare the outputs of the model and the copy on made-up inputs. Defaults to `True`.
        report: Function that gets the `Report`, or `None` for no report. `bn_keras.surgery.report(copy)` returns the
            same report. Defaults to `print`.

    Returns:
        A new functional model, not compiled. The original model does not change.

    Raises:
        TypeError, ValueError: If `model` is not functional or Sequential, has an input or a layer of the name `domain`,
            or has no batch norm that can be split; if `domains` is less than 2. For the other reasons, see
            `from_keras`.

    Example:

    >>> model = keras.Sequential([keras.Input((3,)), BatchNorm(name="norm")])
    >>> split = split_domains(model, 2, report=None)
    >>> split.get_layer("norm")
    <DomainBatchNorm name=norm, built=True>
    >>> split([keras.ops.ones((4, 3)), keras.ops.array([0, 1, 0, 1])]).shape
    TensorShape([4, 3])
    """
    checked_domains(domains)
    check_graph(model, "split_domains")
    if any(tensor.name == DOMAIN for tensor in model.inputs):
        raise ValueError(
            f"The model {model.name!r} has an input named {DOMAIN!r}. Pass a model without it; a model that is split "
            "already has a domain per layer."
        )
    if DOMAIN in names_in(model):
        what = "a layer named" if any(layer.name == DOMAIN for layer in model.layers) else "an input with the key"
        raise ValueError(
            f"The model {model.name!r} has {what} {DOMAIN!r}, which is the name of the new input. Give it another "
            "name: build the model again, and take over the weights by model.set_weights(old.get_weights())."
        )
    plan, rows = {}, []
    by_code = called_by_code(model)
    for layer in (each for each in layers_of(model) if isinstance(each, BATCH_NORMS)):
        why = why_not_split(layer, by_code)
        outcome = "kept" if why else "converted"
        rows.append(Row(layer.name, type(layer).__name__, outcome, why or f"to {domains} domains"))
        if not why:
            plan[layer] = split_change(layer, domains, shared_affine)
    refuse_nothing("split_domains", model, plan, rows, "batch norm that can be split")
    if strict:
        refuse_kept("split_domains", rows)
    splitting = Splitting(model, plan)
    copy = splitting.made()
    verified = compared(model, copy, functools.partial(with_each_domain, copy, domains)) if verify else NOT_VERIFIED
    return hand_over(copy, Report("split_domains", (*rows, *splitting.dropped), verified), report)


def merge_domains(
    model: keras.Model, domain: int, *, strict: bool = False, verify: bool = True, report: ReportTo = print
) -> keras.Model:
    """Turns each `DomainBatchNorm` into the `BatchNorm` of one domain, in a copy of a model without a `domain` input.

    The inverse of `split_domains`. Outputs are those of the model for this domain, up to rounding. The copy loses each
    input that reaches nothing but a domain, also through other layers; if one input is left of a list, it stands for
    itself. An input that something else uses too stays. Outputs are not compared where the model computes the domain
    otherwise than by reshaping or casting an input. The copy can be folded and exported like any model with batch norm.

    Args:
        model: Keras model that has been built, functional or Sequential, with `DomainBatchNorm` layers.
        domain: Int, the domain whose statistics, γ and β the copy keeps.
        strict: Bool, whether a `DomainBatchNorm` that stays as it is, because custom code calls it, raises an error.
            Defaults to `False`.
        verify: Bool, whether to compare the outputs of the model and the copy on made-up inputs. Defaults to `True`.
        report: Function that gets the `Report`, or `None` for no report. `bn_keras.surgery.report(copy)` returns the
            same report. Defaults to `print`.

    Returns:
        A new functional model, not compiled. The original model does not change.

    Raises:
        TypeError, ValueError: If `model` is not functional or Sequential or has no `DomainBatchNorm`; if `domain` is
            out of range, or a layer is called with another domain that is fixed. For the other reasons, see
            `from_keras`.

    Example:

    >>> model = keras.Sequential([keras.Input((3,)), BatchNorm(name="norm")])
    >>> merged = merge_domains(split_domains(model, 2, report=None), domain=1, report=None)
    >>> merged.get_layer("norm"), merged.input_shape
    (<BatchNorm name=norm, built=True>, (None, 3))
    """
    check_graph(model, "merge_domains")
    if isinstance(domain, bool) or not isinstance(domain, int):
        raise TypeError(f"`domain` must be an int. Received: domain={domain!r} (of type {type(domain).__name__}).")
    plan, rows = {}, []
    by_code = called_by_code(model)
    for layer in (each for each in layers_of(model) if isinstance(each, DomainBatchNorm)):
        if not 0 <= domain < layer.domains:
            raise ValueError(
                f"`domain` must be in [0, {layer.domains - 1}], as the layer {layer.name!r} has "
                f"domains={layer.domains}. Received: domain={domain}."
            )
        why = why_not_in_graph(layer, by_code)
        outcome = "kept" if why else "converted"
        rows.append(Row(layer.name, type(layer).__name__, outcome, why or f"to BatchNorm of domain {domain}"))
        if not why:
            plan[layer] = merge_change(layer, domain)
    refuse_nothing("merge_domains", model, plan, rows, "DomainBatchNorm that can be merged")
    if strict:
        refuse_kept("merge_domains", rows)
    merging = Merging(model, plan, domain)
    copy = merging.made()
    verified = NOT_VERIFIED
    pairs = zip(merging.kept[model], merging.tells[model], strict=True)
    if verify and not all(keep or tells for keep, tells in pairs):
        verified = Verified(None, "the model computes the domain from inputs that are no domains")
    elif verify:
        adapted = functools.partial(without_dropped, merging.kept[model])
        prepared = functools.partial(with_domain_told, merging.tells[model], domain)
        verified = compared(model, copy, adapted, prepared)
    return hand_over(copy, Report("merge_domains", (*rows, *merging.dropped), verified), report)


def check_graph(model, function):
    check_model(model)
    if not is_plain_graph(model):
        raise ValueError(
            f"`{function}` changes the inputs of functional and Sequential models. Received: the model {model.name!r} "
            f"of class {type(model).__name__}, whose code calls its layers. Use DomainBatchNorm in that code, or build "
            "the model with the functional API."
        )


def called_by_code(model) -> dict:
    """By layer that code of a class calls, however deep inside, the layer of this class: nothing can pass a domain."""
    found: dict = {}
    for holder in layers_of(model):
        if not is_plain_graph(holder):
            for _, inner in slots(holder):
                found |= {each: holder for each in layers_of(inner) if each not in found}
    return found


def why_not_in_graph(layer, by_code) -> str:
    """Why the calls of a layer cannot be changed; "" if they can."""
    if not layer.built:
        return "it has no weights: nothing calls it"
    if layer in by_code:
        return (
            f"the code of {type(by_code[layer]).__name__} calls it without a domain; use DomainBatchNorm in that code"
        )
    return ""


def why_not_split(layer, by_code) -> str:
    if type(layer) not in BATCH_NORMS:
        return f"its class, {type(layer).__name__}, derives from batch norm and may mean something else"
    config = layer.get_config()
    used = [name for name, unused in WITHOUT.items() if config.get(name, unused) != unused]
    if used:
        return f"DomainBatchNorm has no counterpart of {used[0]}={config[used[0]]!r}"
    return why_not_in_graph(layer, by_code)


def refuse_nothing(function, model, plan, rows, what):
    if not plan:
        reasons = "".join(f" {row.layer!r} is kept: {row.why}." for row in rows[:3])
        raise ValueError(f"`{function}` finds no {what} in the model {model.name!r}.{reasons}")


def split_change(layer, domains, shared_affine) -> Change:
    config = biased(layer, layer.get_config())
    arguments = {each.name for each in DomainBatchNorm.arguments} | SETTINGS
    config = {name: value for name, value in config.items() if name in arguments}
    config |= {"domains": domains, "shared_affine": shared_affine}
    shared = {"gamma", "beta"} if shared_affine else set()
    values = {}
    for weight in layer.weights:
        value = keras.ops.convert_to_numpy(weight)
        values[weight.name] = value if weight.name in shared else np.stack([value] * domains)
    return Change(functools.partial(DomainBatchNorm.from_config, config), values)


def merge_change(layer, domain) -> Change:
    kind = SyncBatchNorm if layer.synchronized else BatchNorm
    config = {k: v for k, v in layer.get_config().items() if k not in ("domains", "shared_affine")}
    shared = {"gamma", "beta"} if layer.shared_affine else set()
    values = {}
    for weight in layer.weights:
        value = keras.ops.convert_to_numpy(weight)
        values[weight.name] = value if weight.name in shared else value[domain]
    return Change(functools.partial(kind.from_config, config), values)


def with_each_domain(copy, domains, example: Example) -> Example:
    """An example for the split copy, whose rows are of the first to the last domain."""
    (inputs,) = example.args
    rows = len(flat(inputs)[0])
    domain = keras.ops.convert_to_tensor(np.linspace(0, domains - 1, rows).round().astype(np.int32))
    return dataclasses.replace(example, args=(with_domain(inputs, domain),))


def with_domain_told(tells, domain, example: Example) -> Example:
    """An example for a model in which each input that tells a domain tells this one."""
    (inputs,) = example.args
    told = [keras.ops.full_like(each, domain) if tell else each for each, tell in zip(flat(inputs), tells, strict=True)]
    return dataclasses.replace(example, args=(keras.tree.pack_sequence_as(inputs, told),))


def without_dropped(kept, example: Example) -> Example:
    """An example for the merged copy out of one for the model."""
    (inputs,) = example.args
    return dataclasses.replace(example, args=(only(inputs, kept),))
