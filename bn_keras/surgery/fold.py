"""Batch norm of inference, merged into the linear layers beside it."""

import functools

import keras
import numpy as np

from bn_keras.layers import Affine, BatchNorm, DecorrelatedBatchNorm, DomainBatchNorm, SyncBatchNorm
from bn_keras.layers.kernel_layer import KernelLayer
from bn_keras.surgery import linear
from bn_keras.surgery.copying import Change
from bn_keras.surgery.reports import ReportTo, Row, refuse_kept
from bn_keras.surgery.rewrite import check_model, operate
from bn_keras.surgery.trace import Trace, names_an_output, traced
from bn_keras.surgery.tree import layers_of
from bn_keras.surgery.wrappers import Wrappers, activity_regularizer_of

BATCH_NORMS = (BatchNorm, keras.layers.BatchNormalization)
FOLDABLE = {*BATCH_NORMS, SyncBatchNorm}


def fold(model: keras.Model, *, strict: bool = False, verify: bool = True, report: ReportTo = print) -> keras.Model:
    r"""Folds batch norm into the layers beside it, in a copy of a model for inference.

    $$ \gamma \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta = s x + o \qquad
       s = \frac{\gamma}{\sqrt{\sigma^2 + \epsilon}} \qquad o = \beta - s \mu $$

    μ and σ² are the moving statistics. `fold` merges the map into the kernel and bias of the layer before it, if no
    other layer uses the output of that layer: Dense, EinsumDense, Conv1D to Conv3D, or a transposed, depthwise or
    separable convolution. Otherwise `fold` merges the map into the layers after it, if they have no other input, and no
    padding unless the offset is 0. Any other batch norm, of bn_keras or Keras, becomes an `Affine` layer of the same
    name, and two such maps in a row become one. The batch norm inside a `ConditionalNorm` is folded like any other, and
    γ(c) and β(c) stay.

    A `WeightNorm` or `WeightStandardization` becomes the plain layer that it wraps, with the name and the activity
    regularizer of the wrapper and the kernel that it computes with. A batch norm beside it folds into that kernel.

    `fold` traces the model to see which layer feeds which, so it also folds layers that custom layers and subclassed
    models call. A model whose custom code calls different layers for different input shapes is folded for the shape
    that it was built with.

    Outputs of inference are equal up to rounding. The copy has no batch statistics in training, so fold a model after
    its training.

    Args:
        model: Keras model that has been built: functional, Sequential or subclassed. Keras must be able to make its
            layers again from their configs, as for a `.keras` file.
        strict: Bool, whether a batch norm or a wrapper that stays as it is raises an error. A batch norm that becomes
            an `Affine` layer raises none. Defaults to `False`.
        verify: Bool, whether to compare the outputs of the model and the copy on made-up inputs. Defaults to `True`.
        report: Function that gets the `Report`, or `None` for no report. `bn_keras.surgery.report(copy)` returns the
            same report. A row is "folded" into other layers, "mapped" to an `Affine` layer, or "kept", with the reason.
            Defaults to `print`.

    Returns:
        A new model, not compiled. The original model does not change. Within `strategy.scope()` the new model belongs
        to the strategy.

    Raises:
        TypeError, ValueError: If `model` is not a built Keras model; if Keras cannot make a layer again; if the weights
            of a layer do not reach the copy; if the outputs of the copy differ; with `strict=True`, if a layer stays as
            it is. The error names the layer and what to do.

    References:
        - [Ioffe and Szegedy 2015](https://arxiv.org/abs/1502.03167), Algorithm 2, line 11.
        - [Jacob et al. 2018](https://arxiv.org/abs/1712.05877), section 3.2.

    Example:

    >>> layers = [keras.layers.Dense(2, name="dense"), BatchNorm(), keras.layers.ReLU(name="relu")]
    >>> folded = fold(keras.Sequential([keras.Input((3,)), *layers]), report=None)
    >>> [layer.name for layer in folded.layers]
    ['dense', 'relu']
    """
    check_model(model)
    folding = Folding(model, *traced(model, (*BATCH_NORMS, *linear.FAMILY_OF)))
    for layer in layers_of(model):
        if isinstance(layer, KernelLayer):
            folding.rows.append(folding.wrappers.row(layer))
        elif isinstance(layer, (*BATCH_NORMS, DecorrelatedBatchNorm, DomainBatchNorm, Affine)):
            folding.add(layer)
    if strict:
        refuse_kept("fold", folding.rows)
    return operate("fold", model, folding.plan(), folding.rows, verify=verify, report=report)


class Folding:
    """What is planned for the layers of a model so far: the values of linear layers grow map by map."""

    def __init__(self, model, trace: Trace | None, why: str):
        self.model, self.trace, self.why = model, trace, why
        self.values: dict = {}
        self.changes: dict = {}
        self.rows: list[Row] = []
        self.wrappers = Wrappers(model)

    def add(self, norm):
        """Finds a place for one batch norm, or for the `Affine` layer that an earlier fold has left."""
        kind = type(norm).__name__
        reason = self.refusal(norm)
        if reason:
            self.rows.append(Row(norm.name, kind, "kept", reason))
            return
        scale, offset = self.affine_of(norm)
        before, why = self.layer_before(norm)
        after, why_not = self.layers_after(norm, offset) if before is None else ([], "")
        if before is None and not after:
            if not isinstance(norm, Affine):
                size = norm.moving_mean.shape
                self.values[norm] = {"scale": scale.reshape(size), "offset": offset.reshape(size)}
                self.rows.append(Row(norm.name, kind, "mapped", f"{why}, and {why_not}"))
            return
        for layer in [before] if before is not None else after:
            family = linear.FAMILY_OF[self.kind_of(layer)]
            change = family.scale_inputs if before is None else family.scale_outputs
            self.values[layer] = change(self.values_of(layer), scale, offset, layer)
        self.changes[norm] = Change(self.remainder(norm), values={})
        self.values.pop(norm, None)
        into = tuple(self.wrappers.name_of(layer) for layer in ([before] if before is not None else after))
        self.rows.append(Row(norm.name, kind, "folded", into=into))

    def plan(self) -> dict:
        changes = {layer: Change(self.remade(layer), values) for layer, values in self.values.items()}
        return self.changes | changes | self.wrappers.changes(changes)

    def remade(self, layer):
        if isinstance(layer, BATCH_NORMS):
            return functools.partial(affine_like, layer)
        return functools.partial(linear.with_bias, layer, self.wrappers.settings_of(layer))

    def kind_of(self, layer) -> type | None:
        """The class of a linear layer; a batch norm that is mapped counts as `Affine`."""
        return Affine if layer in self.values and isinstance(layer, BATCH_NORMS) else type(layer)

    def is_linear(self, layer) -> bool:
        """Whether a layer can take a map; one that is folded away itself cannot, nor one in a wrapper that stays."""
        taken = layer in self.changes or layer in self.wrappers.inside_of_kept
        return not taken and self.kind_of(layer) in linear.FAMILY_OF

    def values_of(self, layer):
        return self.values[layer] if layer in self.values else self.wrappers.values_of(layer)

    def affine_of(self, norm):
        """The scale and the offset of a batch norm, or of an `Affine` layer with what is merged into it already."""
        if not isinstance(norm, Affine):
            return affine_of(norm)
        values = self.values_of(norm)
        return values["scale"].ravel(), values["offset"].ravel()

    def refusal(self, norm) -> str | None:
        """Why a batch norm stays what it is."""
        if isinstance(norm, DecorrelatedBatchNorm):
            return "it mixes the channels"
        if isinstance(norm, DomainBatchNorm):
            return "it has statistics per domain; merge_domains(model, domain=…) fixes one"
        if type(norm) not in FOLDABLE | {Affine}:
            return f"its class, {type(norm).__name__}, derives from batch norm and may mean something else"
        if not norm.built:
            return "it has no weights: nothing calls it"
        if any(call.training for call in self.calls(norm)):
            return "it is called with training=True"
        return None

    def calls(self, layer):
        return self.trace.calls.get(layer, []) if self.trace is not None else []

    def layer_before(self, norm):
        """`(layer, "")`: the linear layer that feeds a batch norm and nothing else; or `(None, why)`."""
        calls = self.calls(norm)
        if not calls or norm in self.trace.unknown:
            return None, self.why or "no call of it could be traced"
        makers = {id(maker and maker.layer): maker for maker in (self.trace.maker(call.inputs) for call in calls)}
        if len(makers) > 1:
            return None, "several layers are before it"
        (maker,) = makers.values()
        if maker is None or not self.is_linear(maker.layer) or maker.layer is norm:
            return None, f"{self.trace.before(calls[0].inputs)} is before it"
        layer, name = maker.layer, type(maker.layer).__name__
        for call in self.calls(layer):
            takers = {taker.layer for taker in self.trace.takers(call.outputs)}
            other = self.trace.others(call.outputs)
            if takers != {norm} or other:
                return None, f"{name} before it feeds other layers too"
        if activation_of(layer) is not keras.activations.linear:
            return None, f"{name} before it has an activation"
        why = self.obstacle(layer, linear.obstacle_after) or self.mismatch(norm, layer)
        return (None, f"{name} before it {why}") if why else (layer, "")

    def layers_after(self, norm, offset):
        """`(layers, "")`: the linear layers that a batch norm feeds, if it feeds nothing else; or `([], why)`."""
        calls = self.calls(norm)
        if not calls or norm in self.trace.unknown:
            return [], "what is after it is not known"
        if activation_of(norm) is not keras.activations.linear:
            return [], "it has an activation"
        users = {}
        for call in calls:
            takers = [taker.layer for taker in self.trace.takers(call.outputs)]
            strangers = [layer for layer in takers if not self.is_linear(layer)]
            other = self.trace.others(call.outputs)
            if other or strangers or not takers:
                return [], f"{other or (type(strangers[0]).__name__ if strangers else 'nothing')} is after it"
            users |= dict.fromkeys(takers)
        for layer in users:
            name = type(layer).__name__
            makers = [self.trace.maker(call.inputs) for call in self.calls(layer)]
            if any(maker is None or maker.layer is not norm for maker in makers):
                return [], f"{name} after it has other inputs too"
            obstacle = functools.partial(linear.obstacle_before, offset=offset)
            why = self.obstacle(layer, obstacle) or self.mismatch(norm, layer)
            if why:
                return [], f"{name} after it {why}"
        return sorted(users, key=lambda layer: layer.name), ""

    def obstacle(self, layer, obstacle):
        return None if self.kind_of(layer) is Affine else obstacle(layer)

    def mismatch(self, norm, layer) -> str | None:
        """Whether a batch norm and a linear layer mean the same channels, in the same dtype."""
        rank = self.calls(norm)[0].inputs.shape.rank
        axes = [axis % rank for axis in (norm.axis if isinstance(norm.axis, list) else [norm.axis])]
        if isinstance(layer, BATCH_NORMS):  # mapped to Affine
            channels = [axis % rank for axis in (layer.axis if isinstance(layer.axis, list) else [layer.axis])]
        else:
            channels = linear.channel_axis(layer, rank)
        if sorted(axes) != sorted(channels):
            return "has its channels at another axis"
        return "has another dtype" if layer.compute_dtype != norm.compute_dtype else None

    def remainder(self, norm):
        """What is left of a batch norm that is folded: its activation, its activity regularizer, or its name where that
        names an output."""
        config, regularizer = norm.get_config(), activity_regularizer_of(norm)
        settings = {"name": norm.name, "dtype": config["dtype"], **regularizer}
        if activation_of(norm) is not keras.activations.linear:
            return functools.partial(keras.layers.Activation, norm.activation, **settings)
        if regularizer or names_an_output(norm, self.model):
            return functools.partial(keras.layers.Identity, **settings)
        return None


def activation_of(norm):
    return getattr(norm, "activation", keras.activations.linear)


def affine_of(norm) -> tuple[np.ndarray, np.ndarray]:
    """The scale and the offset of a batch norm in inference, as flat arrays in float64."""
    mean, variance = (as_float64(each).ravel() for each in (norm.moving_mean, norm.moving_variance))
    gamma = 1.0 if norm.gamma is None else as_float64(norm.gamma).ravel()
    beta = 0.0 if norm.beta is None else as_float64(norm.beta).ravel()
    scale = gamma / np.sqrt(variance + norm.epsilon)
    return scale, beta - mean * scale


def as_float64(variable) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(variable), np.float64)


def affine_like(norm) -> Affine:
    config = norm.get_config()
    settings = {"name": norm.name, "dtype": config["dtype"], "trainable": norm.trainable}
    return Affine(norm.axis, activation_of(norm), **settings, **activity_regularizer_of(norm))
