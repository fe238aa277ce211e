r"""Layers that are linear in their input, and how an affine map per channel is merged into one.

With $y = W x + b$, a map $s y + o$ after it gives $(s W) x + (s b + o)$, and one before it, $W (s x + o) + b$,
gives $(W s) x + (b + W o)$, if the layer pads its input with no zeros, where there would be no $o$. All arithmetic is
NumPy's, in float64.
"""

import dataclasses
import typing

import keras
import numpy as np

from bn_keras.layers import Affine
from bn_keras.layers.kernels import DEPTHWISE, OUTPUTS_LAST, SEPARABLE, TRANSPOSED, einsum_labels

Values = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Family:
    """Layers whose kernels have one layout.

    Attributes:
        kinds: Their classes.
        scale_outputs, scale_inputs: `(values, scale, offset, layer)`, the values of the variables with the map merged
            in that comes after or before the layer.
    """

    kinds: tuple[type, ...]
    scale_outputs: typing.Callable[[Values, np.ndarray, np.ndarray, keras.layers.Layer], Values]
    scale_inputs: typing.Callable[[Values, np.ndarray, np.ndarray, keras.layers.Layer], Values]


def outputs_last(name):
    """For kernels with the outputs at the last axis."""

    def scale_outputs(values, scale, offset, layer):
        return values | {name: values[name] * scale, "bias": values["bias"] * scale + offset}

    return scale_outputs


def inputs_of_convolution(values, scale, offset, layer):
    """The kernel is (…, inputs of a group, outputs)."""
    kernel, groups = values["kernel"], getattr(layer, "groups", 1)
    outputs = kernel.shape[-1]

    def per_output(channels):
        return np.repeat(channels.reshape(groups, -1).T, outputs // groups, axis=1)

    added = (kernel * per_output(offset)).reshape(-1, outputs).sum(0)
    return values | {"kernel": kernel * per_output(scale), "bias": values["bias"] + added}


def inputs_of_transposed(values, scale, offset, layer):
    """The kernel is (…, outputs, inputs); the offset is 0: `obstacle_before` refuses any other."""
    return values | {"kernel": values["kernel"] * scale}


def outputs_of_transposed(values, scale, offset, layer):
    return values | {"kernel": values["kernel"] * scale[:, None], "bias": values["bias"] * scale + offset}


def inputs_of_depthwise(values, scale, offset, layer):
    """The kernel is (…, inputs, outputs of each)."""
    added = (spatial_sum(values["kernel"]) * offset[:, None]).ravel()
    return values | {"kernel": values["kernel"] * scale[:, None], "bias": values["bias"] + added}


def outputs_of_depthwise(values, scale, offset, layer):
    kernel = values["kernel"] * scale.reshape(values["kernel"].shape[-2:])
    return values | {"kernel": kernel, "bias": values["bias"] * scale + offset}


def inputs_of_separable(values, scale, offset, layer):
    """A depthwise kernel (…, inputs, outputs of each), then a pointwise one (…, all of these, outputs)."""
    depthwise, pointwise = values["depthwise_kernel"], values["pointwise_kernel"]
    added = (spatial_sum(depthwise) * offset[:, None]).ravel() @ spatial_sum(pointwise)
    return values | {"depthwise_kernel": depthwise * scale[:, None], "bias": values["bias"] + added}


def spatial_sum(kernel):
    return kernel.reshape(-1, *kernel.shape[-2:]).sum(0)


def inputs_of_affine(values, scale, offset, layer):
    size = values["scale"].shape
    scale, offset = scale.reshape(size), offset.reshape(size)
    return {"scale": values["scale"] * scale, "offset": values["scale"] * offset + values["offset"]}


def outputs_of_affine(values, scale, offset, layer):
    size = values["scale"].shape
    scale, offset = scale.reshape(size), offset.reshape(size)
    return {"scale": values["scale"] * scale, "offset": values["offset"] * scale + offset}


def outputs_of_einsum(values, scale, offset, layer):
    """The channels are one label of the kernel and of the bias."""
    _, kernel, output = einsum_labels(layer)
    shape = [-1 if label == output[-1] else 1 for label in kernel]
    bias = values["bias"]  # the channels are its last axis, as they are of the output
    return values | {"kernel": values["kernel"] * scale.reshape(shape), "bias": bias * scale + offset}


def inputs_of_einsum(values, scale, offset, layer):
    """The channels are one label that is summed over; what the offset adds has the labels of the bias."""
    inputs, kernel, output = einsum_labels(layer)
    shape = [-1 if label == inputs[-1] else 1 for label in kernel]
    bias = "".join(label for label in output if label in kernel)
    added = np.einsum(f"{kernel}->{bias}", values["kernel"] * offset.reshape(shape))
    return values | {"kernel": values["kernel"] * scale.reshape(shape), "bias": values["bias"] + added}


layers = keras.layers
FAMILIES = [
    Family(OUTPUTS_LAST, outputs_last("kernel"), inputs_of_convolution),
    Family(TRANSPOSED, outputs_of_transposed, inputs_of_transposed),
    Family(DEPTHWISE, outputs_of_depthwise, inputs_of_depthwise),
    Family(SEPARABLE, outputs_last("pointwise_kernel"), inputs_of_separable),
    Family((layers.EinsumDense,), outputs_of_einsum, inputs_of_einsum),
    Family((Affine,), outputs_of_affine, inputs_of_affine),
]
FAMILY_OF = {kind: family for family in FAMILIES for kind in family.kinds}
VARIABLES = {"kernel", "depthwise_kernel", "pointwise_kernel", "bias", "scale", "offset"}


def is_linear(layer) -> bool:
    return type(layer) in FAMILY_OF


def values_of(layer) -> Values:
    """The variables in float64 by name, with a bias of zeros where the layer has none."""
    values = {each.name: np.asarray(keras.ops.convert_to_numpy(each), np.float64) for each in layer.variables}
    return values if isinstance(layer, Affine) else {"bias": np.zeros(bias_shape(layer))} | values


def bias_shape(layer) -> tuple[int, ...]:
    if isinstance(layer, layers.Dense):
        return (layer.units,)
    if isinstance(layer, layers.EinsumDense):
        _, kernel, output = einsum_labels(layer)
        sizes = dict(zip(kernel, layer.kernel.shape, strict=True))
        return tuple(sizes[label] for label in output if label in kernel)
    if getattr(layer, "filters", None) is not None:
        return (layer.filters,)
    return (int(np.prod(layer.kernel.shape[-2:])),)


def with_bias(layer, settings: dict[str, typing.Any] | None = None):
    """A layer like this one that has a bias, with other entries of its config if `settings` has some."""
    config = layer.get_config() | (settings or {})
    if isinstance(layer, layers.EinsumDense):
        _, kernel, output = einsum_labels(layer)
        config["bias_axes"] = "".join(label for label in output if label in kernel)
    elif not isinstance(layer, Affine):
        config["use_bias"] = True
    return type(layer).from_config(config)


def channel_axis(layer, rank: int) -> list[int]:
    """The axes of the channels in the input and in the output of a layer."""
    if isinstance(layer, Affine):
        axes = layer.axis if isinstance(layer.axis, list) else [layer.axis]
        return sorted(axis % rank for axis in axes)
    return [1 if getattr(layer, "data_format", None) == "channels_first" else rank - 1]


def obstacle(layer) -> str | None:
    """Why the variables of a linear layer are not its whole meaning; `None` if they are."""
    if extra_variables(layer):
        return f"has variables of its own, {extra_variables(layer)}"
    if getattr(layer, "data_format", None) == "channels_first" and may_add_bias_elsewhere(layer):
        return "has its channels first, where Keras may add a bias along the last axis"
    return None


def extra_variables(layer) -> list[str]:
    """The names of the variables that no map is merged into: those of LoRA and of quantization."""
    return sorted({variable.name for variable in layer.variables} - VARIABLES)


def may_add_bias_elsewhere(layer) -> bool:
    """Whether Keras on TensorFlow takes the last axis for the channels, as it does if it has as many elements."""
    last = layer.compute_output_shape(layer.get_build_config()["input_shape"])[-1]
    return last is None or last == bias_shape(layer)[0]


def obstacle_after(layer) -> str | None:
    """Why an affine map after a linear layer cannot be merged into it; `None` if it can."""
    if isinstance(layer, layers.EinsumDense):
        inputs, kernel, output = einsum_labels(layer)
        bias = "".join(label for label in output if label in kernel)
        if "." in layer.equation or output[-1] not in kernel or output[-1] in inputs:
            return "computes its channels otherwise than by its kernel alone"
        if layer.bias_axes is not None and sorted(layer.bias_axes) != sorted(bias):
            return "has a bias with other axes than its kernel gives the output"
    return obstacle(layer)


def obstacle_before(layer, offset) -> str | None:
    """Why an affine map before a linear layer cannot be merged into it; `None` if it can."""
    if isinstance(layer, layers.EinsumDense):
        inputs, kernel, output = einsum_labels(layer)
        if "." in layer.equation or inputs[-1] not in kernel or inputs[-1] in output:
            return "does not sum over its channels"
        if any(label in inputs and label in output for label in kernel) or obstacle_after(layer):
            return "has a kernel that the offset does not sum up to a bias"
    if obstacle(layer) or not offset.any():
        return obstacle(layer)
    if isinstance(layer, TRANSPOSED):
        return "gets less of the offset at its border"
    kernel_size = getattr(layer, "kernel_size", ())
    if getattr(layer, "padding", "valid") != "valid" and any(size > 1 for size in kernel_size):
        return "pads its input with zeros, which have no offset"
    return None
