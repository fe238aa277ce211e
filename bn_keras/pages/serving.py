"""The page of serving: exported networks in TensorFlow, LiteRT and ONNX Runtime, with batch norm and folded.

Each network has random weights, and its batch norms have random scales, offsets and statistics. It is exported twice to
each format, unfolded and folded. A process that cannot import bn_keras loads both files and answers one image, in
turns. The page compares its outputs with those of the Keras model.
"""

import dataclasses
import functools
import pathlib
import pickle
import platform
import statistics
import subprocess
import sys
import tempfile

import keras
import numpy as np
import tensorflow as tf

from bn_keras import export, surgery
from bn_keras.choices.formats import FORMATS
from bn_keras.export import served
from bn_keras.export.formats import require
from bn_keras.lab.machine import machine
from bn_keras.lab.markdown import size, table_of
from bn_keras.layers import BatchNorm
from bn_keras.models import build
from bn_keras.pages import folding
from bn_keras.pages.registry import Request

SIDE, THREADS, CALLS = 128, 2, 10
PROCESS = pathlib.Path(__file__).with_name("serving_process.py")


def inception_small():
    """The preset, for its own images, with random batch norms."""
    keras.utils.set_random_seed(0)
    model = build("inception_small")
    folding.randomize(model, BatchNorm)
    return model


def of_keras(name):
    """A network of `keras.applications` with our batch norm."""
    return surgery.from_keras(folding.network(name, SIDE), report=None)


NETWORKS = {"inception_small": inception_small} | {
    name: functools.partial(of_keras, name) for name in ("MobileNetV2", "ResNet50")
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """Which networks, in which formats, and in how many turns of each file."""

    networks: tuple[str, ...] = tuple(NETWORKS)
    formats: tuple[str, ...] = tuple(FORMATS)
    rounds: int = 15


QUICK = Settings(networks=("inception_small",), formats=("tflite",), rounds=1)


def exported_twice(model, format, folder):
    """The file as it is and the folded one; unchecked, because `rows_of` compares their outputs."""
    found = []
    for fold in (False, True):
        path = folder / (f"folded_{fold}" + FORMATS[format].suffix)
        found.append(export.export(model, path, format=format, fold=fold, check=False, report=None))
    return found


def served_in_turns(files, batches, rounds, folder, threads=THREADS):
    """What the serving process measured: the first output of each file by batch, the times for the first batch."""
    format, request, answer = files[0].format, folder / "request", folder / "answer"
    settings = {"format": format, "threads": threads, "rounds": rounds, "calls": CALLS, "names": files[0].outputs}
    paths = [str(file.path) for file in files]
    batches = [{files[0].inputs[0]: x} for x in batches]
    request.write_bytes(pickle.dumps({**settings, "batches": batches, "paths": paths}))
    command = [sys.executable, "-I", str(PROCESS), served.__file__, str(request), str(answer)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ChildProcessError(
            f"The process that serves {format} ended with code {done.returncode}:\n{done.stderr[-2000:]}"
        )
    return pickle.loads(answer.read_bytes())


def rows_of(name, settings, watcher):
    """A row for each format."""
    model = NETWORKS[name]()
    x = np.random.default_rng(1).normal(size=(1, *model.input_shape[1:])).astype(np.float32)
    y = model(x, training=False)
    rows = []
    for format in settings.formats:
        watcher.item_begins(f"{name}, {FORMATS[format].title}")
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            files = exported_twice(model, format, folder)
            found = served_in_turns(files, [x], settings.rounds, folder)
        times = [statistics.median(each) for each in found["milliseconds"]]
        ratios = [plain / folded for plain, folded in zip(*found["milliseconds"], strict=True)]
        row = {"network": f"{name}, {size(x.shape[1:3])}", "served with": found["runtime"]}
        for what, file, (output,), time in zip(("as it is", "folded"), files, found["outputs"], times, strict=True):
            row[f"{what}: MB"] = f"{file.bytes / 1e6:.1f}"
            row[f"{what}: difference"] = f"{folding.difference(y, output):.1e}"
            row[f"{what}: ms"] = f"{time:.2f}"
        row["as it is/folded"] = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"
        rows.append(row)
        watcher.item_ends(", ".join(f"{title}: {value}" for title, value in row.items()))
    return rows


def text(request: Request) -> str:
    """The page."""
    settings, watcher = QUICK if request.quick else Settings(), request.watcher
    for format in settings.formats:
        require(FORMATS[format], check=True)
    watcher.begin("file", len(settings.networks) * len(settings.formats))
    rows = []
    for name in settings.networks:
        rows += rows_of(name, settings, watcher)
        keras.backend.clear_session()
    return page_text(rows, settings.rounds)


def page_text(rows, rounds):
    return f"""\
# Exported networks where they are served

{INTRODUCTION.format(threads=THREADS, rounds=rounds, calls=CALLS)}
{table_of(rows)}

Folding pays off in TensorFlow. In LiteRT and ONNX Runtime the ratios are within their spread: the ops in the files of
inception_small show that both converters merge batch norm into the convolutions themselves.

{versions()}.
"""


def versions():
    packages = f"TensorFlow {tf.__version__}, Keras {keras.__version__}, Python {platform.python_version()}"
    return f"{packages}, {machine()['cores']} cores of {machine()['processor']}"


INTRODUCTION = """\
What `bn_keras.export` writes, served as a user serves it.

- The weights are random, and so are the scales, offsets and statistics of batch norm. Each network is exported as it is
  and folded (`fold=True`).
- A process that cannot import bn_keras loads both files with {threads} threads and answers one image.
- A difference is that of its outputs from the outputs of the Keras model: the largest one over the largest output.
- Latency is the median of {rounds} turns of {calls} calls, in which the two files alternate. The ratio is taken turn by
  turn: its median, and in brackets the lowest and the highest.
"""
