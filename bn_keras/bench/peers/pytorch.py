"""PyTorch, called eagerly as is its custom: channels first, layer norm over the last axis."""

import os

import numpy as np

from bn_keras.bench.peers import EPSILON, GROUPS, MOMENTUM, NotOfferedError, inputs_of


def prepare(case, channels_last=False):
    import torch

    if case.how == "xla":
        raise NotOfferedError("PyTorch's own compiler is not XLA")
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "0")) or os.cpu_count())
    dtype = torch.bfloat16 if case.dtype == "mixed_bfloat16" else torch.float32
    x, dy = (torch.from_numpy(as_is_the_custom(each, case)).to(dtype) for each in inputs_of(case))
    layer = layer_of(torch.nn, case)
    if channels_last:
        x, dy, layer = (each.to(memory_format=torch.channels_last) for each in (x, dy, layer))
    return call_of(torch, layer, x, dy, case.mode)


def as_is_the_custom(x, case):
    over_the_last_axis = case.layer in {"layer", "rms"} or case.axis == 1
    return x if over_the_last_axis else np.ascontiguousarray(np.moveaxis(x, -1, 1))


def layer_of(nn, case):
    channels, rank = case.shape[case.axis], len(case.shape)
    if case.layer == "batch":
        kind = nn.BatchNorm2d if rank == 4 else nn.BatchNorm1d
        return kind(channels, eps=EPSILON, momentum=1 - MOMENTUM)
    if case.layer == "layer":
        return nn.LayerNorm(channels, eps=EPSILON)
    if case.layer == "rms":
        return nn.RMSNorm(channels, eps=EPSILON)
    if case.layer == "group":
        return nn.GroupNorm(GROUPS, channels, eps=EPSILON)
    return nn.InstanceNorm2d(channels, eps=EPSILON, affine=True)


def call_of(torch, layer, x, dy, mode):
    layer.train(mode != "inference")
    if mode in {"training", "gradients"}:
        x.requires_grad_()
        wanted = [x, *layer.parameters()]

        def step():
            y = layer(x)
            gradients = torch.autograd.grad(y, wanted, dy)
            return y if mode == "training" else y.sum(), *gradients

        return step

    def forward():
        with torch.no_grad():
            return layer(x)

    return forward
