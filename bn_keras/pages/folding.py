"""The page of folding: each convolutional family of `keras.applications` with batch norm, converted and folded.

Each network has random weights, and its batch norms have random scales, offsets and statistics. `from_keras` converts
the batch norms to ours, `to_sync` and `to_local` synchronize them and undo it, and `fold` makes a copy for inference.
A difference is the largest one over the largest output. Latency is that of a `tf.function` for one image: medians of
turns in which the networks alternate.
"""

import dataclasses
import statistics
import time

import keras
import numpy as np
import tensorflow as tf

from bn_keras import surgery
from bn_keras.lab.machine import machine
from bn_keras.lab.markdown import table_of
from bn_keras.pages.registry import Request
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


@dataclasses.dataclass(frozen=True)
class Settings:
    """Which networks, for images of how many pixels a side, and in how many turns."""

    networks: tuple[str, ...] = tuple(NETWORKS)
    side: int = 96
    rounds: int = 9


QUICK = Settings(networks=("MobileNetV3Small",), side=75, rounds=1)


def network(name, side):
    """A network with random weights whose batch norms all change their input."""
    keras.utils.set_random_seed(0)
    settings = {"weights": None, "input_shape": (side, side, 3), "classes": 10, "classifier_activation": None}
    model = getattr(keras.applications, name)(**settings, **NETWORKS[name])
    randomize(model, keras.layers.BatchNormalization)
    return model


def randomize(model, kind):
    """Assigns random scales, offsets and statistics to all batch norms of a class."""
    random = np.random.default_rng(0)
    for layer in layers_of(model):
        for weight in layer.weights if isinstance(layer, kind) else ():
            positive = weight.name in ("gamma", "moving_variance")
            weight.assign(random.uniform(0.5, 1.5, weight.shape) if positive else random.normal(0, 0.2, weight.shape))


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


def row_of(name, side, rounds):
    """A row of the table, and the report of what became of the batch norms."""
    original = network(name, side)
    ours = surgery.from_keras(original, report=None)
    folded = surgery.fold(ours, report=None)
    sync = surgery.to_sync(ours, report=None)
    local = surgery.to_local(sync, report=None)
    x = np.random.default_rng(1).normal(size=(4, side, side, 3)).astype(np.float32)
    y = ours(x, training=False)
    bit_equal = all(np.array_equal(y, each(x, training=False)) for each in (sync, local))
    times = latencies([original, ours, folded], tf.constant(x[:1]), rounds)
    report = surgery.report(folded)
    return {
        "network": name,
        "layers": f"{len(original.layers)} → {len(folded.layers)}",
        "batch norms": len(report.rows),
        "folded": len(report.of("folded")),
        "affine maps left": len(report.of("mapped")),
        "ours − Keras": f"{difference(original(x, training=False), y):.1e}",
        "folded − ours": f"{difference(y, folded(x, training=False)):.1e}",
        "`to_sync` and back": "bit-equal" if bit_equal else "**not equal**",
        "Keras, ms": f"{times[0]:.1f}",
        "ours, ms": f"{times[1]:.1f}",
        "folded, ms": f"{times[2]:.1f}",
        "Keras/folded": f"{times[0] / times[2]:.2f}",
    }, report


def text(request: Request) -> str:
    """The page."""
    settings, watcher = QUICK if request.quick else Settings(), request.watcher
    watcher.begin("network", len(settings.networks))
    rows, reports = [], {}
    for name in settings.networks:
        watcher.item_begins(name)
        row, reports[name] = row_of(name, settings.side, settings.rounds)
        rows.append(row)
        watcher.item_ends(", ".join(f"{title}: {value}" for title, value in row.items()))
        keras.backend.clear_session()
    return page_text(rows, reports, settings)


def page_text(rows, reports, settings):
    left = [
        f"- **{name}**: {'; '.join(line.strip() for line in report.reasons())}."
        for name, report in reports.items()
        if report.reasons()
    ]
    return f"""\
# Conversion and folding of known networks

{INTRODUCTION.format(side=settings.side, rounds=settings.rounds, calls=CALLS)}
{table_of(rows)}

TensorFlow {tf.__version__}, Keras {keras.__version__}, {machine()["cores"]} cores of {machine()["processor"]}.

## What is left, and why

{chr(10).join(left) or "Nothing."}

An affine map per channel is one multiplication and one addition per element. Where batch norm comes after a sum, a
concatenation or a pooling and before a ReLU, as in networks with pre-activation, no layer beside it can absorb it.
"""


INTRODUCTION = """\
Each convolutional family of `keras.applications` with batch norm, converted and folded.

- The weights are random, and so are the scales, offsets and statistics of batch norm. Images have {side}×{side} pixels.
- `from_keras` converts the batch norms to ours, `to_sync` and `to_local` synchronize them and undo it, and `fold` makes
  a copy for inference.
- A difference is the largest one over the largest output of four images.
- Latency is that of a `tf.function` for one image: the median of {rounds} turns of {calls} calls, in which the three
  networks alternate. Repeats on a shared machine differ by 10 to 20 %.
"""
