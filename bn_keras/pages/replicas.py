"""The same run on one device, on replicas and on workers: how far the losses are apart, with and without `sync`."""

import dataclasses

import numpy as np

from bn_keras.experiments.replicas import PLACES, largest_difference, losses_at
from bn_keras.lab.machine import provenance
from bn_keras.lab.markdown import table
from bn_keras.pages.registry import Request

COMPARED_NORMS = ("sync", "batch")


@dataclasses.dataclass(frozen=True)
class Network:
    """A network and the options that all its runs have."""

    preset: str
    options: tuple[str, ...]

    @property
    def command(self) -> str:
        """The command of a run, without its place."""
        return " ".join(("bn-keras train", self.preset, *self.options))


NETWORKS = (
    Network("mlp_sigmoid", ("--steps", "50", "--batch-size", "64", "--learning-rate", "0.5")),
    Network("inception_small", ("--steps", "50", "--batch-size", "64", "--learning-rate", "0.05", "--width", "0.1",
                                "--dtype", "float64")),
    Network("inception_small", ("--steps", "50", "--batch-size", "64", "--learning-rate", "0.05", "--width", "0.1")),
)  # fmt: skip


def text(request: Request) -> str:
    """The page."""
    networks = NETWORKS[:1] if request.quick else NETWORKS
    request.watcher.begin("run", len(networks) * len(COMPARED_NORMS) * len(PLACES))
    sections = [section(network, curves_of(network, request)) for network in networks]
    machine = provenance()
    return f"""# One device, replicas, workers

The same recipe runs on one device, on two and four replicas of one machine, and on two worker processes, with the same
global batch, the same first weights and the same order of the examples. With `sync` the layers normalize by the moments
of the global batch, so the losses of all 50 steps are equal up to rounding. With `batch` each replica normalizes by the
moments of its own share, so the losses differ. The tables show how much: the largest difference from the loss of one
device at any step, relative to that loss.

{chr(10).join(sections)}
In float32 a deep network amplifies rounding: a sum over replicas rounds differently from a sum over one batch, and the
ReLUs and batch norms of `inception_small` turn that into visible differences within tens of steps. The run in float64
shows that rounding is the only reason: there the losses agree to all digits that `log.csv` keeps.

{machine["machine"]["processor"]}, {machine["machine"]["cores"]} cores; TensorFlow {machine["versions"]["tensorflow"]},
Keras {machine["versions"]["keras"]}. Replicas of one machine are logical CPU devices; workers are processes that talk
over gRPC. `tests/experiments/test_workers.py` repeats the first table.
"""


def curves_of(network: Network, request: Request) -> dict[str, list[np.ndarray]]:
    """For each norm the losses in each place."""
    curves = {norm: [] for norm in COMPARED_NORMS}
    for norm in COMPARED_NORMS:
        for place in PLACES:
            request.watcher.item_begins(f"{network.preset}, {norm}, {place.name}")
            curves[norm].append(losses_at(place, (network.preset, "--norm", norm, *network.options)))
            request.watcher.item_ends(f"last loss {curves[norm][-1][-1]:.6f}")
    return curves


def section(network: Network, curves: dict[str, list[np.ndarray]]) -> str:
    """A heading, the command and the table of a network."""
    rows = [
        (place.name, *(cell(curves[norm][index], curves[norm][0]) for norm in COMPARED_NORMS))
        for index, place in enumerate(PLACES)
    ]
    dtype = "float64" if "float64" in network.options else "float32"
    return f"""## `{network.preset}`, {dtype}

```
{network.command}
```

{table(("place", "`--norm sync`", "`--norm batch`"), rows)}
"""


def cell(losses: np.ndarray, one: np.ndarray) -> str:
    """The largest relative difference, or the last loss of the run that the others are compared with."""
    return f"loss {losses[0]:.4f} → {losses[-1]:.4f}" if losses is one else f"{largest_difference(losses, one):.1e}"
