"""How exactly one normalization layer computes in float32, ours beside its peers, for inputs with an offset.

    python -m benchmarks.accuracy [--out docs/accuracy.md] [--shape 32,56,56,64 --shape 256,64] [--ratio 1 --ratio 1e4]

The input is random normal with a mean of so many deviations. The truth is NumPy's float64 of the same float32
numbers. Every figure is the worst over all channels, or over all elements of the output.
"""

import argparse
import importlib.metadata
import pathlib
import platform
import sys

import numpy as np

from benchmarks import accuracy_peers as peers

SHAPES = [(32, 56, 56, 64), (256, 64)]
LAYER_NORM_SHAPE = (1024, 768)
RATIOS = [1.0, 1e2, 1e3, 1e4]
OPTIONAL = {"tf_keras": "tf_keras", "torch": "PyTorch"}
FIGURES = {
    "mean": "|μ − μ*| / σ*: how far the mean is off, in deviations",
    "variance": "|σ²/σ*² − 1|: the relative error of the variance",
    "output": "|y − y*|: the absolute error of an output, with γ = 1 and β = 0; outputs are about 1 in size",
}


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


def measure(title, found, errors_of, shapes, ratios):
    """`{(shape, peer): {ratio: figures}}`."""
    results = {}
    for shape in shapes:
        for ratio in ratios:
            x = random_input(shape, ratio)
            for name, peer in found.items():
                print(f"{title}, {size(shape)}, mean/std {ratio:g}: {name}", file=sys.stderr, flush=True)
                results.setdefault((shape, name), {})[ratio] = errors_of(peer, x)
    return results


def size(shape):
    return "×".join(map(str, shape))


def table(results, figure, ratios):
    columns = ["shape", "layer", *(f"mean/std {ratio:,.0f}" for ratio in ratios)]
    rows = [columns, ["---"] * 2 + ["---:"] * len(ratios)]
    for (shape, name), by_ratio in results.items():
        rows.append([size(shape), name, *(f"{by_ratio[ratio][figure]:.1e}" for ratio in ratios)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def section(title, text, results, ratios):
    figures = next(iter(next(iter(results.values())).values()))
    parts = [f"## {title}\n\n{text}"]
    parts += [f"**{name.capitalize()}**, {FIGURES[name]}.\n\n{table(results, name, ratios)}" for name in figures]
    return "\n\n".join(parts)


def versions():
    packages = ["bn_keras", "tensorflow", "keras", "numpy", *(name for name in OPTIONAL if peers.found(name))]
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)


def left_out():
    missing = [f"{peer} (`pip install {name}`)" for name, peer in OPTIONAL.items() if not peers.found(name)]
    return f"\nLeft out, as not installed: {', '.join(missing)}." if missing else ""


def page(arguments):
    """The whole page, as Markdown."""
    strategy, ratios = peers.replicas(), arguments.ratio
    batch = measure("batch norm", peers.batch_norms(), errors_of_batch_norm, arguments.shape, ratios)
    over_replicas = peers.synchronized_batch_norms(strategy)
    synchronized = measure("synchronized", over_replicas, errors_of_batch_norm, arguments.shape, ratios)
    layer = measure("layer norm", peers.layer_norms(), errors_of_layer_norm, [arguments.layer_norm_shape], ratios)
    return f"""# How exact the layers are

One training step in float32 on random normal inputs with a mean of so many deviations, compared with NumPy's
float64 of the same float32 numbers. Every figure is the worst over all channels, or over all elements of the
output. An offset of r deviations costs any layer about r · 6e-8 of a deviation in the mean and the output, as
float32 holds no more digits of the mean; what is above that is lost by the way it is computed.

{section("Batch norm", "PyTorch with channels first, all others with channels last.", batch, ratios)}

{section("Batch norm over two replicas", "Half of the batch on each.", synchronized, ratios)}

{section("Layer norm", "Over the last axis.", layer, ratios)}

---
Made by `{command(arguments)}` (`make accuracy` writes this page), with fixed seeds. Not to be edited.
Versions: {versions()}, Python {platform.python_version()} on {platform.machine()}.{left_out()}
"""


def command(arguments):
    given = [f"--shape {','.join(map(str, shape))}" for shape in arguments.shape if arguments.shape != SHAPES]
    given += [f"--ratio {ratio:g}" for ratio in arguments.ratio if arguments.ratio != RATIOS]
    return " ".join(["python -m benchmarks.accuracy", *given])


def shape_of(text):
    return tuple(map(int, text.split(",")))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=shape_of, action="append", help="of batch norm's input, rank 2 or 4")
    parser.add_argument("--layer-norm-shape", type=shape_of, default=LAYER_NORM_SHAPE, help="default: 1024,768")
    parser.add_argument("--ratio", type=float, action="append", help="mean over deviation")
    parser.add_argument("--out", type=pathlib.Path, help="where to write the page (default: only print it)")
    arguments = parser.parse_args()
    arguments.shape, arguments.ratio = arguments.shape or SHAPES, arguments.ratio or RATIOS
    text = page(arguments)
    print(text)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
