r"""Layers that are linear in their input, and how an affine map per channel becomes a part of one.

With $y = W x + b$, a map $s y + o$ after it gives $(s W) x + (s b + o)$, and one before it, $W (s x + o) + b$,
gives $(W s) x + (b + W o)$, if the layer adds no zeros of padding to its input, where there would be no $o$.
All arithmetic is NumPy's, in float64.
"""

import typing

import keras
import numpy as np


class Family(typing.NamedTuple):
    """Layers whose kernels lie alike.

    Attributes:
        kinds: Their classes.
        scale_outputs, scale_inputs: `(values, scale, offset, layer)`: the values of the variables with the map
            after and before the layer.
    """

    kinds: tuple
    scale_outputs: typing.Callable
    scale_inputs: typing.Callable


def outputs_last(name):
    """Of kernels with the outputs at the last axis."""

    def scale_outputs(values, scale, offset, layer):
        return values | {name: values[name] * scale, "bias": values["bias"] * scale + offset}

    return scale_outputs


def of_convolution(values, scale, offset, layer):
    """The kernel is (…, inputs of a group, outputs)."""
    kernel, groups = values["kernel"], getattr(layer, "groups", 1)
    outputs = kernel.shape[-1]

    def per_output(channels):
        return np.repeat(channels.reshape(groups, -1).T, outputs // groups, axis=1)

    added = (kernel * per_output(offset)).reshape(-1, outputs).sum(0)
    return values | {"kernel": kernel * per_output(scale), "bias": values["bias"] + added}


def of_transposed(values, scale, offset, layer):
    """The kernel is (…, outputs, inputs); the offset is 0, as `obstacle` sees to."""
    return values | {"kernel": values["kernel"] * scale}


def outputs_of_transposed(values, scale, offset, layer):
    return values | {"kernel": values["kernel"] * scale[:, None], "bias": values["bias"] * scale + offset}


def of_depthwise(values, scale, offset, layer):
    """The kernel is (…, inputs, outputs of each)."""
    added = (spatial_sum(values["kernel"]) * offset[:, None]).ravel()
    return values | {"kernel": values["kernel"] * scale[:, None], "bias": values["bias"] + added}


def outputs_of_depthwise(values, scale, offset, layer):
    kernel = values["kernel"] * scale.reshape(values["kernel"].shape[-2:])
    return values | {"kernel": kernel, "bias": values["bias"] * scale + offset}


def of_separable(values, scale, offset, layer):
    """A depthwise kernel (…, inputs, outputs of each), then a pointwise one (…, all of these, outputs)."""
    depthwise, pointwise = values["depthwise_kernel"], values["pointwise_kernel"]
    added = (spatial_sum(depthwise) * offset[:, None]).ravel() @ spatial_sum(pointwise)
    return values | {"depthwise_kernel": depthwise * scale[:, None], "bias": values["bias"] + added}


def spatial_sum(kernel):
    return kernel.reshape(-1, *kernel.shape[-2:]).sum(0)


layers = keras.layers
FAMILIES = [
    Family((layers.Dense, layers.Conv1D, layers.Conv2D, layers.Conv3D), outputs_last("kernel"), of_convolution),
    Family(
        (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose), outputs_of_transposed, of_transposed
    ),
    Family((layers.DepthwiseConv1D, layers.DepthwiseConv2D), outputs_of_depthwise, of_depthwise),
    Family((layers.SeparableConv1D, layers.SeparableConv2D), outputs_last("pointwise_kernel"), of_separable),
]
FAMILY_OF = {kind: family for family in FAMILIES for kind in family.kinds}
TRANSPOSED = FAMILIES[1].kinds
VARIABLES = {"kernel", "depthwise_kernel", "pointwise_kernel", "bias"}


def is_linear(layer):
    return type(layer) in FAMILY_OF


def values_of(layer):
    """The variables in float64, by name, with a bias of zeros where there is none."""
    values = {each.name: np.asarray(keras.ops.convert_to_numpy(each), np.float64) for each in layer.variables}
    return {"bias": np.zeros(outputs_of(layer))} | values


def outputs_of(layer):
    """The number of output channels."""
    if isinstance(layer, keras.layers.Dense):
        return layer.units
    if hasattr(layer, "filters") and layer.filters is not None:
        return layer.filters
    return int(np.prod(layer.kernel.shape[-2:]))


def with_bias(layer):
    """A layer like this one that has a bias."""
    return type(layer).from_config(layer.get_config() | {"use_bias": True})


def channel_axis(layer, rank):
    """Where the channels are in the input and in the output of a layer."""
    return 1 if getattr(layer, "data_format", None) == "channels_first" else rank - 1


def obstacle(layer):
    """Why the variables of a linear layer are not its whole meaning; `None` if they are."""
    extra = {variable.name for variable in layer.variables} - VARIABLES
    return f"has variables of its own, {sorted(extra)}" if extra else None


def obstacle_before(layer, offset):
    """Why an affine map before a linear layer cannot become a part of it; `None` if it can."""
    if obstacle(layer) or not offset.any():
        return obstacle(layer)
    if isinstance(layer, TRANSPOSED):
        return "gets less of the offset at its border"
    kernel_size = getattr(layer, "kernel_size", ())
    if getattr(layer, "padding", "valid") != "valid" and any(size > 1 for size in kernel_size):
        return "pads its input with zeros, which have no offset"
    return None
