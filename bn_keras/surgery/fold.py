"""Batch norm of inference, folded into the linear layers beside it."""

import functools
import typing

import keras
import numpy as np

from bn_keras.layers import Affine, BatchNorm, DecorrelatedBatchNorm, SyncBatchNorm
from bn_keras.surgery import linear
from bn_keras.surgery.rewrite import Change, layers_of, rewrite
from bn_keras.surgery.wiring import OUTPUT, wiring_of

BATCH_NORMS = (BatchNorm, keras.layers.BatchNormalization)
KNOWN = {*BATCH_NORMS, SyncBatchNorm}


class Folded(typing.NamedTuple):
    """What became of a batch norm.

    Attributes:
        name: Of the layer.
        into: The names of the layers that it is a part of now; none where it is an `Affine` map, or as it was.
        why: Why it could not be folded.
        kept: Whether it is as it was.
    """

    name: str
    into: tuple = ()
    why: str = ""
    kept: bool = False


class FoldReport(list):
    """A `Folded` for each batch norm of a model; `str()` of it counts them, and says why some are left."""

    def __str__(self):
        folded = [each for each in self if each.into]
        lines = [f"{len(folded)} of {len(self)} batch norms are folded into the layers beside them."]
        left = {}
        for each in self:
            if not each.into:
                left.setdefault((each.kept, each.why), []).append(each.name)
        for (kept, why), names in left.items():
            shown = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
            lines.append(f"{len(names)} {'left as they are' if kept else 'turned into an affine map'}: {why} ({shown})")
        return "\n".join(lines)


def fold(model, *, report=print):
    r"""A copy of a model for inference in which batch norm costs nothing, or as little as it can.

    $$ \gamma \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta = s x + o \qquad
       s = \frac{\gamma}{\sqrt{\sigma^2 + \epsilon}} \qquad o = \beta - s \mu $$

    With the moving statistics this map is a part of the kernel and bias of the Dense, Conv1D to 3D, transposed,
    depthwise or separable convolution before it, where nothing else uses that layer's output; or else of those
    after it, where they get nothing else and pad nothing (or there is no offset). Any other batch norm, of ours or of
    Keras, becomes an `Affine` layer of the same name. Outputs of inference are the same up to rounding. In training
    the copy knows no batch: fold what is trained.

    Args:
        model: As in `from_keras`. Layers are folded within functional and Sequential models, at any depth.
        report: Called with a `FoldReport`; `None` for nobody.

    Returns:
        The new model. The given one is as it was.

    Raises:
        ValueError: As in `from_keras`.

    Source: Jacob et al. 2018, https://arxiv.org/abs/1712.05877, section 3.2, equation 14.

    Example:

    >>> layers = keras.layers.Conv2D(4, 3, name="conv"), BatchNorm(name="norm"), keras.layers.ReLU(name="relu")
    >>> [layer.name for layer in fold(keras.Sequential([keras.Input((8, 8, 3)), *layers])).layers]
    1 of 1 batch norms are folded into the layers beside them.
    ['conv', 'relu']
    """
    folding = Folding(model)
    for layer in layers_of(model):
        if isinstance(layer, DecorrelatedBatchNorm):
            folding.rows.append(Folded(layer.name, why="it mixes channels", kept=True))
        elif isinstance(layer, BATCH_NORMS) and layer.built:  # else nothing calls it
            folding.add(layer)
    if report is not None:
        report(folding.rows)
    return rewrite(model, folding.plan())[0]


class Folding:
    """What is planned for the layers of a model so far: the values of linear layers grow map by map."""

    def __init__(self, model):
        self.wiring = wiring_of(model)
        self.values, self.changes, self.rows = {}, {}, FoldReport()

    def add(self, norm):
        """Finds a place for one batch norm."""
        scale, offset = affine_of(norm)
        reason = self.refusal(norm)
        if reason:
            self.rows.append(Folded(norm.name, why=reason, kept=True))
            return
        before, why = self.layer_before(norm)
        after, why_not = self.layers_after(norm, offset) if before is None else ([], "")
        if before is None and not after:
            values = {"scale": scale.reshape(norm.moving_mean.shape), "offset": offset.reshape(norm.moving_mean.shape)}
            self.changes[norm] = Change(functools.partial(affine_like, norm), values)
            self.rows.append(Folded(norm.name, why=f"{why}, and {why_not}"))
            return
        for layer in [before] if before is not None else after:
            family, values = linear.FAMILY_OF[type(layer)], self.values.get(layer) or linear.values_of(layer)
            change = family.scale_inputs if before is None else family.scale_outputs
            self.values[layer] = change(values, scale, offset, layer)
        self.changes[norm] = Change(self.remainder(norm))
        self.rows.append(Folded(norm.name, into=tuple(layer.name for layer in ([before] if before else after))))

    def plan(self):
        return self.changes | {
            layer: Change(functools.partial(linear.with_bias, layer), values) for layer, values in self.values.items()
        }

    def refusal(self, norm):
        """Why a batch norm has to stay what it is."""
        if type(norm) not in KNOWN:
            return f"its class, {type(norm).__name__}, may mean something else"
        if any(arguments.get("training") for arguments in self.wiring.arguments.get(norm, [])):
            return "it is called with training=True"
        return None

    def layer_before(self, norm):
        """The linear layer that feeds a batch norm and nothing else, or why there is none."""
        sources = set(self.wiring.sources[norm])
        if norm in self.wiring.hidden or len(sources) != 1:
            return None, "what is before it is not known"
        (layer,) = sources
        if not linear.is_linear(layer):
            return None, f"{described(layer)} is before it"
        if layer in self.wiring.hidden or set(self.wiring.users[layer]) != {norm}:
            return None, f"{described(layer)} before it feeds other layers too"
        if layer.activation is not keras.activations.linear:
            return None, f"{described(layer)} before it has an activation"
        why = linear.obstacle(layer) or self.mismatch(norm, layer)
        return (None, f"{described(layer)} before it {why}") if why else (layer, "")

    def layers_after(self, norm, offset):
        """The linear layers that a batch norm feeds, if it feeds nothing else and they get nothing else."""
        users = dict.fromkeys(self.wiring.users[norm])  # in their order, so that the same reason is given each time
        if norm in self.wiring.hidden or not users:
            return [], "what is after it is not known"
        if norm_activation(norm) is not keras.activations.linear:
            return [], "it has an activation"
        for layer in users:
            if not linear.is_linear(layer):
                return [], f"{described(layer)} is after it"
            if layer in self.wiring.hidden or set(self.wiring.sources[layer]) != {norm}:
                return [], f"{described(layer)} after it has other inputs too"
            why = linear.obstacle_before(layer, offset) or self.mismatch(norm, layer)
            if why:
                return [], f"{described(layer)} after it {why}"
        return sorted(users, key=lambda layer: layer.name), ""

    def mismatch(self, norm, layer):
        """Whether both mean the same channels, in the same dtype."""
        rank = norm.input_spec.ndim
        axes = [axis % rank for axis in (norm.axis if isinstance(norm.axis, list) else [norm.axis])]
        if axes != [linear.channel_axis(layer, rank)]:
            return "has its channels at another axis"
        return "has another dtype" if layer.compute_dtype != norm.compute_dtype else None

    def remainder(self, norm):
        """What is left of a batch norm that is folded: its activation, and its name where the model ends."""
        settings = {"name": norm.name, "dtype": norm.dtype_policy}
        if norm_activation(norm) is not keras.activations.linear:
            return functools.partial(keras.layers.Activation, norm.activation, **settings)
        if OUTPUT in self.wiring.users[norm]:
            return functools.partial(keras.layers.Identity, **settings)
        return None


def norm_activation(norm):
    return getattr(norm, "activation", keras.activations.linear)


def affine_of(norm):
    """The scale and the offset of a batch norm in inference, as flat arrays in float64."""
    mean, variance = (as_float64(each).ravel() for each in (norm.moving_mean, norm.moving_variance))
    gamma = 1.0 if norm.gamma is None else as_float64(norm.gamma).ravel()
    beta = 0.0 if norm.beta is None else as_float64(norm.beta).ravel()
    scale = gamma / np.sqrt(variance + norm.epsilon)
    return scale, beta - mean * scale


def as_float64(variable):
    return np.asarray(keras.ops.convert_to_numpy(variable), np.float64)


def affine_like(norm):
    return Affine(norm.axis, norm_activation(norm), name=norm.name, dtype=norm.dtype_policy, trainable=norm.trainable)


def described(layer):
    """A layer of a wiring, for a sentence: by class, as a name would make every reason different."""
    if layer is OUTPUT:
        return OUTPUT
    return "a function" if layer is None else type(layer).__name__
