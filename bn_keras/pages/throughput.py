"""How many examples per second `bn-keras train` trains with, beside `keras.Model.fit`, and whether input keeps up."""

import dataclasses
import itertools
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from bn_keras.experiments import Data, Trainer, load, training_recipe
from bn_keras.experiments.data.arrays import ArraySplit
from bn_keras.lab.machine import provenance
from bn_keras.lab.markdown import table
from bn_keras.models import build
from bn_keras.pages.registry import Request

BATCH = 64
SPEED_COLUMNS = ("width", "training loop", "examples/s", "slowest to fastest", "`bn-keras train` is faster by")
INPUT_COLUMNS = ("source", "network", "input alone, examples/s", "training, examples/s", "relative to memory")
IMAGES = 2_000


@dataclasses.dataclass(frozen=True)
class Size:
    """How much is measured."""

    widths: tuple[float, ...]
    steps: int
    rounds: int
    images: int
    large: int
    network: str = "inception_small"
    large_network: str = "bn_inception"


FULL = Size(widths=(1.0, 0.25), steps=20, rounds=5, images=IMAGES, large=224)
QUICK = Size(widths=(0.1,), steps=2, rounds=2, images=40, large=32, network="mlp_sigmoid", large_network="mlp_sigmoid")


def text(request: Request) -> str:
    """The page."""
    size = QUICK if request.quick else FULL
    images = random_images(size.images, 28 if not request.quick else 8)
    request.watcher.begin("measurement", len(size.widths) + len(SOURCES))
    speeds = [row for width in size.widths for row in speed_rows(size, width, images, request)]
    inputs = [input_row(name, source, size, request) for name, source in SOURCES.items()]
    machine, shape = provenance(), "×".join(map(str, images.input_shape))
    return f"""# Throughput of training

## Beside `keras.Model.fit`

`{size.network}` trains on {size.images:,} images of {shape} in batches of {BATCH}, with SGD with momentum.
`bn-keras train` uses `BatchNorm`; `fit` uses `keras.layers.BatchNormalization` and the same arrays. Each figure is the
median of {size.rounds} rounds of {size.steps} steps, which take turns in one process after a round that compiles;
evaluation and checkpoints are not counted. The ratio is the median over the rounds of ours ÷ theirs.

{table(SPEED_COLUMNS, speeds, left=2)}

`steps_per_execution` moves the loop of `fit` into the graph, as `bn-keras train` always does.

## Input

Input prepares the next batch while a step trains. On a CPU both share the cores. The last column divides the speed of
training from that source by the speed of training from arrays in memory; the first row compares arrays in memory with
themselves, so its distance from 1 is the noise of the table.

{table(INPUT_COLUMNS, inputs, left=2)}

{machine["machine"]["processor"]}, {machine["machine"]["cores"]} cores; TensorFlow {machine["versions"]["tensorflow"]},
Keras {machine["versions"]["keras"]}. The images are random; throughput does not depend on what they show.
"""


def random_images(count: int, size: int, channels: int = 1) -> Data:
    """Images of noise in memory."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (count, size, size, channels), np.uint8)
    split = ArraySplit(images, (np.arange(count) % 10).astype(np.int32))
    return Data("random", 10, images.shape[1:], split, split)


def speed_rows(size: Size, width: float, data: Data, request: Request) -> list[tuple]:
    """Rows of one width: ours first, then each way to call `fit`."""
    request.watcher.item_begins(f"{size.network}, width {width:g}")
    recipe = training_recipe(size.network, "digits", batch_size=BATCH, width=width, learning_rate=0.01)
    trainer = Trainer(recipe, data)
    trainer.start()
    loops = {"`bn-keras train`": lambda: trainer.advance(size.steps)}
    for options in ({}, {"jit_compile": False}, {"jit_compile": False, "steps_per_execution": size.steps}):
        words = ", ".join(f"{name}={value}" for name, value in options.items())
        loops[f"`fit`, {f'`{words}`' if words else 'as it is'}"] = fit_loop(recipe, data, size.steps, options)
    seconds = take_turns(loops, size.rounds)
    rows = []
    for name, times in seconds.items():
        speed = [size.steps * BATCH / each for each in times]
        ratio = statistics.median(their / our for their, our in zip(times, seconds["`bn-keras train`"], strict=True))
        spread = f"{min(speed):,.0f} to {max(speed):,.0f}"
        rows.append((f"{width:g}", name, f"{statistics.median(speed):,.0f}", spread, f"{ratio:.2f}×"))
    request.watcher.item_ends(", ".join(row[4] for row in rows))
    return rows


def fit_loop(recipe, data: Data, steps: int, options: dict) -> Callable[[], object]:
    """A function that trains a number of steps through Keras' `fit` with Keras' batch norm."""
    model = build(
        recipe.preset,
        norm=keras.layers.BatchNormalization,
        classes=data.classes,
        input_shape=data.input_shape,
        width=recipe.width,
        preprocessing=data.preprocessing(),
    )
    model.compile(
        keras.optimizers.SGD(recipe.learning_rate, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        **options,
    )
    count = data.train.examples
    rows = np.arange(steps * BATCH) % count
    inputs, labels = data.train.inputs[rows], data.train.labels[rows]
    return lambda: model.fit(inputs, labels, batch_size=BATCH, epochs=1, verbose=0)


def take_turns(loops: dict[str, Callable], rounds: int) -> dict[str, list[float]]:
    """The seconds of each loop in each round, after a round that is not counted."""
    seconds = {name: [] for name in loops}
    for turn in range(rounds + 1):
        for name, loop in loops.items():
            started = time.perf_counter()
            loop()
            if turn:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def memory_source(folder: pathlib.Path, size: Size) -> tuple[Data, str, float, int]:
    """Arrays in memory."""
    return random_images(size.images, 28 if size is FULL else 8), size.network, size.widths[-1], BATCH


def small_files(folder: pathlib.Path, size: Size) -> tuple[Data, str, float, int]:
    """Small JPEG files, streamed."""
    write_images(folder, size.images, 28 if size is FULL else 8)
    return load(f"folder:{folder}", memory_limit=0), size.network, size.widths[-1], BATCH


def large_files(folder: pathlib.Path, size: Size) -> tuple[Data, str, float, int]:
    """Photographs in size, streamed and resized."""
    write_images(folder, max(40, size.images // 4), size.large + size.large // 7)
    data = load(f"folder:{folder}", image_size=size.large, memory_limit=0)
    return data, size.large_network, 1.0 if size is FULL else 0.1, 16


SOURCES = {
    "arrays in memory": memory_source,
    "small JPEG files, streamed": small_files,
    "large JPEG files, resized and streamed": large_files,
}


def write_images(folder: pathlib.Path, count: int, size: int) -> None:
    """JPEG files of smooth noise in two class folders."""
    random = np.random.default_rng(0)
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
    for index in range(count):
        coarse = random.integers(0, 256, (max(2, size // 8), max(2, size // 8), 3)).astype(np.float32)
        image = tf.cast(tf.image.resize(coarse, (size, size), "bicubic"), tf.int32)
        jpeg = tf.io.encode_jpeg(tf.cast(tf.clip_by_value(image, 0, 255), tf.uint8))
        (folder / "ab"[index % 2] / f"{index}.jpg").write_bytes(jpeg.numpy())


def input_row(name: str, source: Callable, size: Size, request: Request) -> tuple:
    """The input alone, and training from it beside training from memory."""
    request.watcher.item_begins(name)
    with tempfile.TemporaryDirectory(prefix="bn_keras-throughput-") as folder:
        data, preset, width, batch = source(pathlib.Path(folder) / "images", size)
        alone = input_speed(data, batch, 4 * size.steps if batch == BATCH else size.steps)
        channels = data.input_shape[-1]
        memory = random_images(10 * batch, data.input_shape[0], channels)
        recipe = training_recipe(preset, "digits", batch_size=batch, width=width, learning_rate=0.01)
        steps = size.steps if batch == BATCH else max(2, size.steps // 10)
        loops = {key: train_loop(recipe, each, steps) for key, each in (("source", data), ("memory", memory))}
        seconds = take_turns(loops, size.rounds)
    trained = statistics.median(steps * batch / each for each in seconds["source"])
    ratio = statistics.median(b / a for a, b in zip(seconds["source"], seconds["memory"], strict=True))
    words = f"`{preset}`, width {width:g}, {data.input_shape[0]}×{data.input_shape[1]}, batch {batch}"
    request.watcher.item_ends(f"{alone:,.0f} examples/s alone, {trained:,.0f} in training")
    return name, words, f"{alone:,.0f}", f"{trained:,.0f}", f"{ratio:.2f}"


def train_loop(recipe, data: Data, steps: int) -> Callable[[], object]:
    """A function that trains a number of steps."""
    trainer = Trainer(recipe, data)
    trainer.start()
    return lambda: trainer.advance(steps)


def input_speed(data: Data, batch: int, steps: int) -> float:
    """Examples per second of the input without training, after a batch that is not counted."""
    batches = iter(data.train.batches(batch, seed=0))
    next(batches)
    started = time.perf_counter()
    for _ in itertools.islice(batches, steps):
        pass
    return steps * batch / (time.perf_counter() - started)
