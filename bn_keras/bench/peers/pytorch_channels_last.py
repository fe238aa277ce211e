"""PyTorch with channels last in memory, which its batch norm of images can take."""

from bn_keras.bench.peers import NotOfferedError, pytorch


def prepare(case):
    if case.layer != "batch" or len(case.shape) != 4 or case.axis == 1:
        raise NotOfferedError("channels last in memory is for batch norm of images")
    return pytorch.prepare(case, channels_last=True)
