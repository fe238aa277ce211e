"""Exported networks where they are served: TensorFlow, LiteRT and ONNX Runtime, with batch norm and folded.

    python -m benchmarks.serving [--out docs/serving.md] [--only MobileNetV2 --only ResNet50] [--rounds 15]

Each network has random weights, and batch norm with random scales, offsets and statistics. It is exported twice to each
format, as it is and folded; a process of its own, which cannot import bn_keras, loads both and answers one image, in
turns. Its outputs are compared with those of the Keras model here.
"""

import argparse
import functools
import os
import pathlib
import pickle
import platform
import statistics
import subprocess
import sys
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf

from benchmarks import folding
from bn_keras import BatchNorm, export, surgery
from bn_keras.bench.results import machine
from bn_keras.export import served
from bn_keras.export.formats import FORMATS
from bn_keras.models import build
from bn_keras.surgery.rewrite import layers_of

SIDE, THREADS, CALLS = 128, 2, 10
PROCESS = pathlib.Path(__file__).with_name("serving_process.py")


def inception_small():
    """The preset, for its own images, with random batch norms."""
    keras.utils.set_random_seed(0)
    model, random = build("inception_small"), np.random.default_rng(0)
    for norm in (layer for layer in layers_of(model) if isinstance(layer, BatchNorm)):
        for weight in norm.weights:
            positive = weight.name in ("gamma", "moving_variance")
            weight.assign(random.uniform(0.5, 1.5, weight.shape) if positive else random.normal(0, 0.2, weight.shape))
    return model


def of_keras(name):
    """A network of `keras.applications` with our batch norm."""
    return surgery.from_keras(folding.network(name, SIDE))


NETWORKS = {"inception_small": inception_small} | {
    name: functools.partial(of_keras, name) for name in ("MobileNetV2", "ResNet50")
}


def exported_twice(model, format, folder):
    """As it is, and folded; not checked, as outputs are compared where they are measured."""
    found = []
    for fold in (False, True):
        path = folder / (f"folded_{fold}" + FORMATS[format].suffix)
        found.append(export.export(model, path, format=format, fold=fold, check=False, report=None))
    return found


def served_in_turns(files, x, rounds, folder):
    """What the process that serves both files says of them."""
    format, request, answer = files[0].format, folder / "request", folder / "answer"
    settings = {"format": format, "threads": THREADS, "rounds": rounds, "calls": CALLS, "names": files[0].outputs}
    paths = [str(file.path) for file in files]
    request.write_bytes(pickle.dumps({**settings, "x": {files[0].inputs[0]: x}, "paths": paths}))
    command = [sys.executable, "-I", str(PROCESS), served.__file__, str(request), str(answer)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"The process that serves {format} ended with code {done.returncode}:\n{done.stderr[-2000:]}")
    return pickle.loads(answer.read_bytes())


def rows_of(name, formats, rounds):
    """A row for each format."""
    model = NETWORKS[name]()
    x = np.random.default_rng(1).normal(size=(1, *model.input_shape[1:])).astype(np.float32)
    y = model(x, training=False)
    for format in formats:
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            files = exported_twice(model, format, folder)
            found = served_in_turns(files, x, rounds, folder)
        times = [statistics.median(each) for each in found["milliseconds"]]
        ratios = [plain / folded for plain, folded in zip(*found["milliseconds"], strict=True)]
        row = {"network": f"{name}, {'×'.join(map(str, x.shape[1:3]))}", "served with": found["runtime"]}
        for what, file, output, time in zip(("as it is", "folded"), files, found["outputs"], times, strict=True):
            row[f"{what}: MB"] = f"{file.bytes / 1e6:.1f}"
            row[f"{what}: difference"] = f"{folding.difference(y, output):.1e}"
            row[f"{what}: ms"] = f"{time:.2f}"
        yield row | {"as it is/folded": f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"}


def page(rows, rounds):
    return f"""\
<!-- Written by `make serving`; not to be edited here. -->
# Exported networks where they are served

This page measures files of `bn_keras.export` in the runtimes that serve them; `python -m benchmarks.serving` writes it.
Each network has random weights, and batch norm with random scales, offsets and statistics. It is exported as it is and
folded (`fold=True`). A new process, which cannot import bn_keras, loads both files with {THREADS} threads and answers
one image. A difference is the largest difference from an output of the Keras model, over the largest output. Latency is
the median of {rounds} turns of {CALLS} calls, in which the two files alternate. The ratio is the median over all turns,
with the lowest and the highest in brackets.

{folding.table(rows)}

Folding pays in TensorFlow. In LiteRT and ONNX Runtime the ratios are within their spread: both converters fold batch
norm into the convolutions themselves, as the ops in the files of inception_small show.

{versions()}.
"""


def versions():
    packages = f"TensorFlow {tf.__version__}, Keras {keras.__version__}, Python {platform.python_version()}"
    return f"{packages}, {machine()['cores']} cores of {machine()['processor']}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, help="the page to write")
    parser.add_argument("--only", action="append", choices=NETWORKS, help="one of the networks; may be repeated")
    parser.add_argument("--format", action="append", choices=FORMATS, help="one of the formats; may be repeated")
    parser.add_argument("--rounds", type=int, default=15, help="turns of each file")
    arguments = parser.parse_args()
    if arguments.rounds < 1:
        parser.error(f"--rounds must be ≥ 1. Received: {arguments.rounds}.")
    formats, rows = arguments.format or list(FORMATS), []
    try:
        for format in formats:
            FORMATS[format].require(check=True)
    except ImportError as error:
        parser.error(f"{error}, or leave it out with --format.")
    for name in arguments.only or NETWORKS:
        for row in rows_of(name, formats, arguments.rounds):
            rows.append(row)
            print(", ".join(f"{title}: {value}" for title, value in row.items()), file=sys.stderr, flush=True)
        keras.backend.clear_session()
    text = page(rows, arguments.rounds)
    print(text)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
