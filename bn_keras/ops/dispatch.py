"""Which implementation a training step takes: all give the same numbers, up to rounding."""

import dataclasses
import math
import types

import tensorflow as tf

from bn_keras.ops.kernels import composed, elements, fused, ghost, replicas, xla
from bn_keras.ops.settings import Settings
from bn_keras.ops.traces import Fixed


def kernel_for(x: tf.Tensor, mask: tf.Tensor | None, settings: Settings) -> types.ModuleType:
    """The module of `bn_keras.ops.kernels` that normalizes `x`.

    Raises:
        ValueError: For `fused=True` where the kernel cannot be used.
    """
    obstacle = fused.obstacle(x, mask, settings)
    if settings.fused and obstacle:
        raise ValueError(
            f"`fused=True` cannot be had {obstacle}. Received: an input of shape {x.shape} and dtype "
            f"{x.dtype.name}, axes {settings.axes}. Use fused=None, which takes the kernel where it can."
        )
    for kernel in (replicas, ghost):
        if not kernel.obstacle(x, mask, settings):
            return kernel
    by_xla = not xla.obstacle(x, mask, settings)
    if settings.fused is None and not obstacle:
        quick = fused.is_quick(x, settings)
        worth = fused.FROM_ELEMENTS if quick else xla.FROM_ELEMENTS
        if (quick or not by_xla) and elements(x.shape, otherwise=math.inf) >= worth:
            return fused
    elif settings.fused:
        return fused
    return xla if by_xla else composed


def settings_for(kernel: types.ModuleType, settings: Settings) -> Settings:
    """The settings with those that are attributes of the kernel as a part of the trace."""
    return dataclasses.replace(settings, **{name: Fixed(getattr(settings, name)) for name in kernel.ATTRIBUTES})
