"""Every convolutional family of `keras.applications` with batch norm, converted and folded.

    python -m benchmarks.folding [--out docs/folding.md] [--only MobileNetV2 --only Xception] [--rounds 9] [--side 96]

Each network has random weights, and batch norm with random scales, offsets and statistics. `from_keras` makes its
batch norms ours, `to_sync` and `to_local` turn them into synchronized ones and back, `fold` makes a copy for
inference. Outputs are compared as the largest difference over the largest output; latency is that of a `tf.function`
for one image, the medians of turns in which the networks alternate.
"""

import argparse
import os
import pathlib
import statistics
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf

from bn_keras import surgery
from bn_keras.bench.results import machine
from bn_keras.surgery.tree import layers_of

NETWORKS = {
    "ResNet50": {},
    "ResNet50V2": {},
    "InceptionV3": {},
    "InceptionResNetV2": {},
    "Xception": {},
    "MobileNet": {},
    "MobileNetV2": {},
    "MobileNetV3Small": {"include_preprocessing": False},
    "MobileNetV3Large": {"include_preprocessing": False},
    "DenseNet121": {},
    "NASNetMobile": {},
    "EfficientNetB0": {},
    "EfficientNetV2B0": {"include_preprocessing": False},
}
CALLS = 5


def network(name, side):
    """A network with random weights whose batch norms are all different from the identity."""
    keras.utils.set_random_seed(0)
    settings = {"weights": None, "input_shape": (side, side, 3), "classes": 10, "classifier_activation": None}
    model = getattr(keras.applications, name)(**settings, **NETWORKS[name])
    random = np.random.default_rng(0)
    for layer in layers_of(model):
        if isinstance(layer, keras.layers.BatchNormalization):
            for weight in layer.weights:
                positive = weight.name in ("gamma", "moving_variance")
                values = random.uniform(0.5, 1.5, weight.shape) if positive else random.normal(0, 0.2, weight.shape)
                weight.assign(values)
    return model


def difference(there, here):
    """The largest difference, over the largest output."""
    return float(np.abs(np.asarray(here) - np.asarray(there)).max() / np.abs(np.asarray(there)).max())


def latencies(models, x, rounds):
    """Milliseconds of one inference of each model: medians over turns."""
    functions = [tf.function(lambda x, model=model: model(x, training=False)) for model in models]
    for function in functions:
        for _ in range(3):
            function(x)
    found = [[] for _ in functions]
    for _ in range(rounds):
        for function, times in zip(functions, found, strict=True):
            started = time.perf_counter()
            for _ in range(CALLS):
                function(x).numpy()
            times.append((time.perf_counter() - started) / CALLS * 1e3)
    return [statistics.median(times) for times in found]


def measured(name, side, rounds):
    """A row of the table, and what is left of a network's batch norms."""
    original = network(name, side)
    ours, reports = surgery.from_keras(original), []
    folded = surgery.fold(ours, report=reports.append)
    sync = surgery.to_sync(ours)
    local = surgery.to_local(sync)
    x = np.random.default_rng(1).normal(size=(4, side, side, 3)).astype(np.float32)
    y = ours(x, training=False)
    bit_equal = all(np.array_equal(y, each(x, training=False)) for each in (sync, local))
    times = latencies([original, ours, folded], tf.constant(x[:1]), rounds)
    (report,) = reports
    into = sum(bool(each.into) for each in report)
    return {
        "network": name,
        "layers": f"{len(original.layers)} → {len(folded.layers)}",
        "batch norms": len(report),
        "folded": into,
        "affine maps left": len(report) - into,
        "ours − Keras": f"{difference(original(x, training=False), y):.1e}",
        "folded − ours": f"{difference(y, folded(x, training=False)):.1e}",
        "`to_sync` and back": "bit-equal" if bit_equal else "**not equal**",
        "Keras, ms": f"{times[0]:.1f}",
        "ours, ms": f"{times[1]:.1f}",
        "folded, ms": f"{times[2]:.1f}",
        "Keras/folded": f"{times[0] / times[2]:.2f}",
    }, report


def table(rows):
    lines = ["| " + " | ".join(rows[0]) + " |", "|" + "---|" * len(rows[0])]
    return "\n".join(lines + ["| " + " | ".join(map(str, row.values())) + " |" for row in rows])


def page(rows, reports, side, rounds):
    left = [f"- **{name}**: " + "; ".join(str(report).splitlines()[1:]) + "." for name, report in reports.items()
            if any(not each.into for each in report)]  # fmt: skip
    return f"""\
<!-- Written by `make folding`; not to be edited here. -->
# Conversion and folding of known networks

Every convolutional family of `keras.applications` with batch norm; `python -m benchmarks.folding` makes this page.
Each network has random weights, and batch norm with random scales, offsets and statistics, for images of
{side}×{side}. `from_keras` makes its batch norms ours, `to_sync` and `to_local` turn them into synchronized ones and
back, `fold` makes a copy for inference. A difference is the largest one over the largest output of four images.
Latency is that of a `tf.function` for one image: the median of {rounds} turns of {CALLS} calls, in which the three
networks alternate. Repeats on a machine that others use too differ by 10 to 20 %.

{table(rows)}

TensorFlow {tf.__version__}, Keras {keras.__version__}, {machine()["cores"]} cores of {machine()["processor"]}.

## What is left, and why

{chr(10).join(left) or "Nothing."}

An affine map per channel is one multiplication and one addition for each element. A batch norm that comes before a
ReLU and after a sum, a concatenation or a pooling, as in networks with pre-activation, has no linear layer beside it
that could take it.
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, help="the page to write")
    parser.add_argument("--only", action="append", choices=NETWORKS, help="one of the networks; may be repeated")
    parser.add_argument("--rounds", type=int, default=9, help="turns of each network")
    parser.add_argument("--side", type=int, default=96, help="of the images, in pixels")
    arguments = parser.parse_args()
    if arguments.rounds < 1 or arguments.side < 75:
        parser.error(f"--rounds must be ≥ 1 and --side ≥ 75. Received: {arguments.rounds}, {arguments.side}.")
    rows, reports = [], {}
    for name in arguments.only or NETWORKS:
        row, reports[name] = measured(name, arguments.side, arguments.rounds)
        rows.append(row)
        print(", ".join(f"{title}: {value}" for title, value in row.items()), file=sys.stderr)
        keras.backend.clear_session()
    text = page(rows, reports, arguments.side, arguments.rounds)
    print(text)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
