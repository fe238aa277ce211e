"""The page of accuracy: how exactly one layer computes in float32, ours beside its peers, for inputs with an offset.

The input is random normal, with a mean of 1 to 10,000 standard deviations. The reference is NumPy in float64 on the
same float32 numbers. Every figure is the worst over all channels, or over all elements of the output.
"""

import dataclasses
import platform

import numpy as np

from bn_keras.lab.machine import installed, versions
from bn_keras.lab.markdown import facts, size, table
from bn_keras.pages import accuracy_peers as peers
from bn_keras.pages.registry import Request

OPTIONAL = {"tf_keras": "tf_keras", "torch": "PyTorch"}
FIGURES = {
    "mean": "|μ − μ*| / σ*: how far the mean is off, in deviations",
    "variance": "|σ²/σ*² − 1|: the relative error of the variance",
    "output": "|y − y*|: the absolute error of an output, with γ = 1 and β = 0; outputs are about 1 in size",
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is measured: the shapes of batch norm's input and of layer norm's, and the ratios of mean to deviation."""

    shapes: tuple[tuple[int, ...], ...] = ((32, 56, 56, 64), (256, 64))
    layer_norm_shape: tuple[int, ...] = (1024, 768)
    ratios: tuple[float, ...] = (1.0, 1e2, 1e3, 1e4)


QUICK = Settings(shapes=((8, 12, 12, 4), (64, 8)), layer_norm_shape=(32, 64), ratios=(1.0, 1e4))


def random_input(shape, ratio):
    return np.random.default_rng(0).normal(ratio, 1, shape).astype(np.float32)


def errors_of_batch_norm(peer, x):
    """The three figures of a peer, by name."""
    axes = tuple(range(x.ndim - 1))
    exact = x.astype(np.float64)
    true_mean = exact.mean(axes)
    exact -= true_mean
    true_variance = np.mean(exact**2, axes)
    y, mean, variance = peer(x)
    exact /= np.sqrt(true_variance + peers.EPSILON)
    return {
        "mean": worst((mean - true_mean) / np.sqrt(true_variance)),
        "variance": worst(variance / true_variance - 1),
        "output": worst(y - exact),
    }


def errors_of_layer_norm(peer, x):
    exact = x.astype(np.float64)
    exact -= exact.mean(-1, keepdims=True)
    exact /= np.sqrt(np.mean(exact**2, -1, keepdims=True) + peers.EPSILON)
    return {"output": worst(peer(x) - exact)}


def worst(errors):
    return float(np.abs(errors).max())


def measure(title, layers, errors_of, shapes, ratios, watcher):
    """`{(shape, peer): {ratio: figures}}`."""
    watcher.begin("figure", len(shapes) * len(ratios) * len(layers))
    results = {}
    for shape in shapes:
        for ratio in ratios:
            x = random_input(shape, ratio)
            for name, peer in layers.items():
                watcher.item_begins(f"{title}, {size(shape)}, mean/std {ratio:g}, {name}")
                errors = results.setdefault((shape, name), {})[ratio] = errors_of(peer, x)
                watcher.item_ends(", ".join(f"{figure} {error:.1e}" for figure, error in errors.items()))
    return results


def rows_of(results, figure, ratios):
    for (shape, name), by_ratio in results.items():
        yield [size(shape), name, *(f"{by_ratio[ratio][figure]:.1e}" for ratio in ratios)]


def section(title, text, results, ratios):
    columns = ["shape", "layer", *(f"mean/std {ratio:,.0f}" for ratio in ratios)]
    figures = next(iter(next(iter(results.values())).values()))
    parts = [f"## {title}\n\n{text}"]
    for name in figures:
        rows = rows_of(results, name, ratios)
        parts.append(f"**{name.capitalize()}**, {FIGURES[name]}.\n\n{table(columns, rows, left=2)}")
    return "\n\n".join(parts)


def text(request: Request) -> str:
    """The page; it must be the first use of TensorFlow in the process, as it makes logical devices."""
    settings, watcher = QUICK if request.quick else Settings(), request.watcher
    shapes, ratios, strategy = settings.shapes, settings.ratios, peers.replicas()
    batch = measure("batch norm", peers.batch_norms(), errors_of_batch_norm, shapes, ratios, watcher)
    over_replicas = peers.synchronized_batch_norms(strategy)
    synchronized = measure("synchronized", over_replicas, errors_of_batch_norm, shapes, ratios, watcher)
    layer_norm_shapes = [settings.layer_norm_shape]
    layer = measure("layer norm", peers.layer_norms(), errors_of_layer_norm, layer_norm_shapes, ratios, watcher)
    return f"""# How exact the layers are

{INTRODUCTION}
{section("Batch norm", "PyTorch with channels first, all others with channels last.", batch, ratios)}

{section("Batch norm over two replicas", "Half of the batch on each.", synchronized, ratios)}

{section("Layer norm", "Over the last axis.", layer, ratios)}

---
The seeds are fixed.
Versions: {facts(versions(*OPTIONAL))}, Python {platform.python_version()} on {platform.machine()}.{omissions()}
"""


def omissions():
    missing = [f"{peer} (`pip install {name}`)" for name, peer in OPTIONAL.items() if not installed(name)]
    return f"\nLeft out, because it is not installed: {', '.join(missing)}." if missing else ""


INTRODUCTION = """\
One training step in float32 on random normal inputs, compared with NumPy in float64 on the same float32 numbers. The
mean of the inputs is 1 to 10,000 standard deviations (mean/std). Every figure is the worst over all channels, or over
all elements of the output. An offset of r deviations costs any layer about r · 6e-8 of a deviation in the mean and the
output, because float32 holds no more digits of the mean. A larger error comes from the way the layer computes.
"""
