"""A network of `keras.applications` with other norms: what weights keep their meaning, and what becomes of the rest.

| layer before → after | what the new layer takes from the old one |
| --- | --- |
| batch norm → batch norm of any kind | arguments, γ, β and moving statistics |
| layer norm → layer norm | arguments, γ and β |
| any other pair | whether there is a γ and a β, not their values: they belong to other moments |

A linear layer gets a bias of zeros where the norm after it brings no offset, as in the other presets. Where such a
norm follows a sum or a concatenation, an `Offset` takes its place for `norm=None`.
"""

import math
import warnings

import keras

from bn_keras.layers import BatchNorm, LayerNorm, RMSNorm
from bn_keras.models.blocks import Offset, has_bias
from bn_keras.models.norms import KINDS, Norm, named_and_options, norm, normalize, refuse_kernel_norm
from bn_keras.surgery.copying import Change
from bn_keras.surgery.linear import is_linear, with_bias
from bn_keras.surgery.reports import Report, Row, Verified, hand_over
from bn_keras.surgery.rewrite import rewrite
from bn_keras.surgery.tree import layers_of

REPLACEABLE = (keras.layers.BatchNormalization, keras.layers.LayerNormalization)
BATCH = (BatchNorm, keras.layers.BatchNormalization)
LAYER = (LayerNorm, keras.layers.LayerNormalization)
WEIGHTS = {"center": "β", "scale": "γ"}
ARGUMENTS = ("axis", "momentum", "epsilon", "center", "scale")


def transplanted(model: keras.Model, kind: Norm, *, classes: int, unwanted=(), pretrained: bool = False) -> keras.Model:
    """A copy of a network of `keras.applications`: with other norms, without some layers, for other classes.

    Args:
        model: A functional model of logits.
        kind: The norm, as in `build`.
        classes: The number of classes. Where the model has another number, the copy has a new head.
        unwanted: The layers that are dropped.
        pretrained: Whether the weights of the model are trained: then a warning says which of them are lost.
    """
    refuse_in_applications(model.name, kind)
    norms = [layer for layer in layers_of(model) if type(layer) in REPLACEABLE]
    check_fit(norms, kind)
    plan, rows = dict.fromkeys(unwanted, Change(None)), []
    makers = {id(layer.output): layer for layer in layers_of(model)}
    for old in norms:
        change, row = in_place_of(old, kind)
        if has_bias(kind) and old.center:
            before = makers.get(id(old.input))
            if before is not None and is_linear(before):
                plan |= {} if before.use_bias else {before: put(with_bias(before), values=None)}
            elif change.make is None:
                change = put(Offset(name=old.name, dtype=old.get_config()["dtype"]), {})
        plan[old] = change
        rows.append(row)
    if model.output_shape[-1] != classes:
        plan |= new_head(model, classes)
        head = head_of(model)
        rows.append(Row(head.name, type(head).__name__, "dropped", f"the head is new: {classes} classes"))
    copy = rewrite(model, plan)[0]
    made = Report("build", tuple(rows), Verified(None, "the network has other layers"))
    if pretrained:
        warn_of_lost_weights(model, made)
    return hand_over(copy, made, None)


def refuse_in_applications(name: str, kind: Norm) -> None:
    """Refuses a norm of kernels: there is no such norm in a network of Keras that could be swapped for it."""
    why = "only the norms of outputs of a network of keras.applications are replaced. Use norm='group'"
    refuse_kernel_norm(kind, repr(name), why)


def in_place_of(old: keras.layers.Layer, kind: Norm) -> tuple[Change, Row]:
    """What comes in the place of a norm, and the row of the report."""
    name, class_name = old.name, type(old).__name__
    if named_and_options(kind)[0] is None:
        return Change(None), Row(name, class_name, "dropped", "norm=None")
    new = norm(with_arguments_of(old, kind))
    new.name, new.dtype_policy = name, old.dtype_policy
    if same_role(old, type(new)):
        values = values_for(old, new) if axes_of(old, old) == axes_of(new, old) else {}
        why = lost_weights(old, new)
        if why:
            return put(new, values), Row(name, class_name, "dropped", why)
        return put(new, values), Row(name, class_name, "converted", f"to {type(new).__name__}")
    why = f"its weights belong to other moments than those of {type(new).__name__}"
    return put(new, {}), Row(name, class_name, "dropped", why)


def lost_weights(old: keras.layers.Layer, new: keras.layers.Layer) -> str:
    """Why a layer of the same role cannot take all weights of another; nothing if it can."""
    if axes_of(old, old) != axes_of(new, old):
        return f"its weights belong to axis={old.axis}, and {type(new).__name__} has axis={new.axis}"
    lost = [option for option in WEIGHTS if getattr(old, option) and not getattr(new, option)]
    return " and ".join(f"{option}=False drops its {WEIGHTS[option]}" for option in lost)


def axes_of(layer: keras.layers.Layer, before: keras.layers.Layer) -> set[int]:
    """The axes of the weights of a layer in the place of another."""
    axes = layer.axis if isinstance(layer.axis, (list, tuple)) else [layer.axis]
    return {axis % len(before.input.shape) for axis in axes}


def put(layer: keras.layers.Layer, values: dict | None) -> Change:
    """A change to a layer, whose variables start anew where `values` has none for them; `None` for all of before."""
    return Change(lambda: layer, values, anew=True)


def same_role(old: keras.layers.Layer, new: type) -> bool:
    """Whether the weights of a layer mean the same in another class."""
    return any(isinstance(old, role) and issubclass(new, role) for role in (BATCH, LAYER))


def with_arguments_of(old: keras.layers.Layer, kind: Norm) -> Norm:
    """A norm by name with the arguments of a layer of Keras, as far as they mean the same; options overrule them."""
    name, options = named_and_options(kind)
    if name is None or callable(name):
        return kind
    taken = {"center": old.center, "scale": old.scale}
    if same_role(old, KINDS[name][0]):
        taken = {key: getattr(old, key) for key in ARGUMENTS if hasattr(old, key)}
        if isinstance(old, BATCH):
            taken["unbiased"] = False  # as Keras averages the variance
    elif KINDS[name][0] is RMSNorm:
        taken = {}
    return name, taken | options


def values_for(old: keras.layers.Layer, new: keras.layers.Layer) -> dict:
    """The values of a new layer's variables, by name; renormalization starts from the moving statistics."""
    values = {variable.name: variable for variable in old.variables}
    if getattr(new, "renorm", False):
        deviation = keras.ops.sqrt(old.moving_variance + new.epsilon)
        values |= {"moving_stddev": deviation, "renorm_mean": old.moving_mean, "renorm_stddev": deviation}
    return values


def check_fit(norms, kind: Norm) -> None:
    """Raises the error of the first layer that a norm cannot stand in the place of, before any is built."""
    shapes = {tuple(old.input.shape): old.name for old in reversed(norms)}
    common = math.gcd(*(shape[-1] for shape in shapes))
    for shape, name in reversed(shapes.items()):
        normalize(keras.KerasTensor(shape), kind, name, common=common)


def head_of(model: keras.Model) -> keras.layers.Layer:
    """The linear layer of the logits."""
    return [layer for layer in model.layers if is_linear(layer)][-1]


def new_head(model: keras.Model, classes: int) -> dict:
    """A new linear layer of the logits, and the reshaping after it where there is one."""
    head = head_of(model)
    size = "filters" if hasattr(head, "filters") else "units"
    plan = {head: put(type(head).from_config(head.get_config() | {size: classes}), {})}
    for layer in model.layers[model.layers.index(head) :]:
        if isinstance(layer, keras.layers.Reshape):
            plan[layer] = put(keras.layers.Reshape((classes,), name=layer.name), None)
    return plan


def warn_of_lost_weights(model: keras.Model, made: Report) -> None:
    """Warns of trained weights that the copy has not."""
    lost = made.of("dropped")
    if lost:
        names = ", ".join(row.layer for row in lost[:3]) + (", …" if len(lost) > 3 else "")
        warnings.warn(
            f"{model.name!r} keeps the ImageNet weights but for those of {len(lost)} layers ({names}). Train it before "
            "you use it. `bn_keras.surgery.report(model)` says why.",
            stacklevel=2,
        )
