"""The libraries that are measured side by side. Each has a module with `prepare(case)`.

`prepare` returns a function that makes one call and returns when its results are there: all outputs and all
gradients, so that nothing can be left out. It raises `NotOfferedError` where the peer has no such layer or mode.
"""

import dataclasses
import importlib

import numpy as np

from bn_keras.lab.machine import installed

EPSILON, MOMENTUM, GROUPS = 1e-3, 0.99, 32


class NotOfferedError(Exception):
    """The peer has nothing to compare; the message says what is missing."""


@dataclasses.dataclass(frozen=True)
class Peer:
    """Where a peer's `prepare` is, the packages that it needs beside TensorFlow and Keras, and what it is given."""

    module: str
    packages: tuple = ()
    options: tuple = ()

    @property
    def missing(self):
        return [name for name in self.packages if not installed(name)]


PEERS = {
    "bn_keras": Peer("bn_keras.bench.peers.ours"),
    "keras": Peer("bn_keras.bench.peers.keras3"),
    "tf_keras": Peer("bn_keras.bench.peers.keras2", ("tf_keras",)),
    "fused_op": Peer("bn_keras.bench.peers.fused_op"),
    "torch": Peer("bn_keras.bench.peers.pytorch", ("torch",)),
    "torch channels-last": Peer("bn_keras.bench.peers.pytorch_channels_last", ("torch",)),
    "jax": Peer("bn_keras.bench.peers.flax_linen", ("jax", "flax")),
    **{
        "without norm" if norm == "without norm" else f"{norm} network": Peer(
            "bn_keras.bench.peers.networks", options=(("norm", norm),)
        )
        for norm in ("bn_keras", "keras", "without norm")
    },
    "bn_keras folded": Peer("bn_keras.bench.peers.networks", options=(("norm", "bn_keras"), ("folded", True))),
    **{
        f"{library} {kind}": Peer(
            "bn_keras.bench.peers.replicas", options=(("library", library), ("synchronized", kind == "synchronized"))
        )
        for library in ("bn_keras", "keras")
        for kind in ("plain", "synchronized")
    },
}


def prepare(name, case):
    """The call of a peer, by its name or by the dotted path of its module."""
    peer = PEERS.get(name) or Peer(name)
    return importlib.import_module(peer.module).prepare(case, **dict(peer.options))


def inputs_of(case):
    """x and dy in float32; the offset keeps a mean from being zero."""
    random = np.random.default_rng(0)
    return tuple(random.normal(mean, 1, case.shape).astype(np.float32) for mean in (0.5, 0.0))
