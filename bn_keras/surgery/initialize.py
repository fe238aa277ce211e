"""Weight norm started from a batch of data, as its paper does."""

import contextlib
import functools
import typing

import keras
import numpy as np

from bn_keras.layers import WeightNorm
from bn_keras.layers.kernel_layer import prefix_of
from bn_keras.layers.kernels import kernels_of
from bn_keras.surgery.reports import Report, ReportTo, Row, Verified, hand_over, refuse_kept
from bn_keras.surgery.rewrite import check_model, rewrite
from bn_keras.surgery.tree import layers_of


def initialize_weight_norm(
    model: keras.Model, inputs: typing.Any, *, strict: bool = False, report: ReportTo = print
) -> keras.Model:
    r"""Gives the outputs of each `WeightNorm` the mean 0 and the variance 1 on a batch of data, in a copy of a model.

    $$ g = \frac{1}{\sigma} \qquad b = -\frac{\mu}{\sigma} $$

    μ and σ are the mean and the standard deviation of a channel for g = 1 and no bias, before the activation, over the
    batch and all positions. One inference initializes all layers: each gets its inputs from layers that are initialized
    already. The first call of a layer that is called several times counts. A layer without a bias gets the variance 1
    alone, and a separable convolution a new `pointwise_g` alone. The direction v and all other layers stay as they are.
    Call the function before the training.

    Args:
        model: Keras model that has been built: functional, Sequential or subclassed. Keras must be able to make its
            layers again from their configs, as for a `.keras` file.
        inputs: Tensor, array, or list or dict of them: a batch of the model's inputs, of 100 examples or more.
        strict: Bool, whether a `WeightNorm` that stays as it is raises an error. Defaults to `False`.
        report: Function that gets the `Report`, or `None` for no report. A row is "initialized", or "kept" with the
            reason: a layer that nothing calls, and an `EinsumDense`. Defaults to `print`.

    Returns:
        A new model, not compiled. The original model does not change.

    Raises:
        TypeError, ValueError: If `model` is not a built Keras model or has no `WeightNorm`; if a channel is constant or
            not finite on the data; with `strict=True`, if a layer stays as it is. The error names the layer.

    References:
        [Salimans and Kingma 2016](https://arxiv.org/abs/1602.07868), section 3.

    Example:

    >>> import keras
    >>> from bn_keras import WeightNorm
    >>> x = keras.random.normal((500, 8), mean=3.0, seed=1)
    >>> model = keras.Sequential([keras.Input((8,)), WeightNorm(keras.layers.Dense(4))])
    >>> y = initialize_weight_norm(model, x, report=None)(x)
    >>> keras.ops.std(y, 0).numpy().round(3).tolist()
    [1.0, 1.0, 1.0, 1.0]
    """
    check_model(model)
    wrappers = [layer for layer in layers_of(model) if isinstance(layer, WeightNorm)]
    if not wrappers:
        raise ValueError(f"The model {model.name!r} has no WeightNorm. Wrap its linear layers first.")
    copy, copies, _ = rewrite(model, {})
    initialized: set = set()
    with calls_initialize([copies[each] for each in wrappers if not why_kept(each)], initialized):
        copy(inputs)
    rows = []
    for wrapper in wrappers:
        why = why_kept(wrapper) or ("" if copies[wrapper] in initialized else "nothing calls it")
        rows.append(Row(wrapper.name, type(wrapper).__name__, "kept" if why else "initialized", why))
    if strict:
        refuse_kept("initialize_weight_norm", rows)
    made = Report("initialize_weight_norm", tuple(rows), Verified(None, "g and the bias are others on purpose"))
    return hand_over(copy, made, report)


def why_kept(wrapper: WeightNorm) -> str:
    """Why a wrapper stays as it is."""
    return "EinsumDense has channels of several axes" if isinstance(wrapper.layer, keras.layers.EinsumDense) else ""


@contextlib.contextmanager
def calls_initialize(wrappers: list[WeightNorm], initialized: set):
    """Within it, the first call of each wrapper initializes it."""
    try:
        for wrapper in wrappers:
            object.__setattr__(wrapper, "call", initializing(wrapper, initialized))
        yield
    finally:
        for wrapper in wrappers:
            object.__delattr__(wrapper, "call")


def initializing(wrapper: WeightNorm, initialized: set) -> typing.Callable:
    call = wrapper.call

    @functools.wraps(call)
    def initialize_and_call(inputs, training=None):
        if wrapper not in initialized:
            initialize(wrapper, call, inputs)
            initialized.add(wrapper)
        return call(inputs, training=training)

    return initialize_and_call


def initialize(wrapper: WeightNorm, call: typing.Callable, inputs) -> None:
    """Sets g and the bias of one wrapper by its inputs."""
    layer = wrapper.layer
    *_, kernel = kernels_of(layer)  # the pointwise one of a separable convolution
    g = getattr(wrapper, f"{prefix_of(kernel)}g")
    g.assign(np.ones(g.shape))
    if layer.bias is not None:
        layer.bias.assign(np.zeros(layer.bias.shape))
    mean, deviation = moments_of(linear_outputs(layer, call, inputs), layer)
    if not (np.isfinite(deviation).all() and (deviation > 0).all()):
        raise ValueError(
            f"The outputs of {wrapper.name!r} have a channel that is constant or not finite on the data, so that no g "
            f"gives them the variance 1. Received: inputs of shape {tuple(inputs.shape)} at this layer. "
            "Pass more, and different, examples."
        )
    g.assign(np.reshape(1 / deviation, g.shape))
    if layer.bias is not None:
        layer.bias.assign(-mean / deviation)


def linear_outputs(layer: keras.layers.Layer, call: typing.Callable, inputs) -> np.ndarray:
    """What a call gives before the activation of the layer."""
    activation, layer.activation = layer.activation, keras.activations.linear
    try:
        return keras.ops.convert_to_numpy(keras.ops.cast(call(inputs), "float64"))
    finally:
        layer.activation = activation


def moments_of(outputs: np.ndarray, layer: keras.layers.Layer) -> tuple[np.ndarray, np.ndarray]:
    """The mean and the standard deviation of each channel."""
    channels = 1 if getattr(layer, "data_format", None) == "channels_first" else outputs.ndim - 1
    others = tuple(axis for axis in range(outputs.ndim) if axis != channels)
    return outputs.mean(others), outputs.std(others)
