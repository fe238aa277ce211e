"""Runs a recipe: every arm, learning rate and seed, kept in `results.json` as each one ends."""

import datetime
import json
import math
import os
import pathlib
import platform

import keras
import numpy as np
import tensorflow as tf

from bn_keras import __version__
from bn_keras.experiments.data import load
from bn_keras.experiments.train import Trainer
from bn_keras.layers import BatchNorm
from bn_keras.models import build

ARMS = ("none", "batch")
RESULTS = "results.json"


class ResultsError(Exception):
    """What is in the output directory does not fit what is asked for."""


class Watcher:
    """Is told how a comparison goes on; this one keeps still."""

    def begin(self, recipe, runs, done):
        """`runs` have to be made in all, `done` of them are there already."""

    def run_begins(self, arm, learning_rate, seed):
        """A run is about to start."""

    def evaluated(self, evaluation):
        """The run reached an evaluation."""

    def run_ended(self, run):
        """The run is over and in the results."""


def compare(recipe, out, *, data_dir=None, resume=False, watcher=None):
    """Trains both arms of a recipe and writes `results.json`.

    A run is written as it ends: an interrupted comparison keeps what is finished.

    Args:
        recipe: A `Recipe`.
        out: The directory of `results.json`; made where there is none.
        data_dir: Where tensorflow-datasets keeps its sets; `None` for its default.
        resume: Whether to go on from the runs that `out` holds.
        watcher: A `Watcher` that shows the progress.

    Returns:
        The results: a dict of plain values, as in `results.json`.

    Raises:
        ResultsError: When `out` has results and `resume` is false, and when the recipe of
            those results is another one.
    """
    watcher = watcher or Watcher()
    path = pathlib.Path(out) / RESULTS
    results = earlier_results(path, recipe, resume)
    plan = [(arm, rate, seed) for seed in recipe.seeds for rate in recipe.learning_rates for arm in ARMS]
    finished = {(run["arm"], run["learning_rate"], run["seed"]) for run in results["runs"]} if results else set()
    if finished.issuperset(plan):
        return results
    data = load(recipe.data, data_dir)
    results = results or new_results(recipe, data)
    write_results(results, path)
    watcher.begin(recipe, len(plan), len(finished))
    trainers = {}
    for arm, rate, seed in plan:
        if (arm, rate, seed) in finished:
            continue
        watcher.run_begins(arm, rate, seed)
        if arm not in trainers:
            trainers[arm] = Trainer(builder(arm, recipe, data), data, recipe)
            results["parameters"][arm] = trainers[arm].model.count_params()
        run = one_run(trainers[arm], arm, rate, seed, watcher)
        results["runs"].append(run)
        write_results(results, path)
        watcher.run_ended(run)
    return results


def read_results(path):
    """The results in a `results.json`, or in the directory that holds one."""
    path = pathlib.Path(path)
    path = path / RESULTS if path.is_dir() else path
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ResultsError(f"There is no {str(path)!r}. Make it with `bn-keras compare`.") from None
    except ValueError as error:
        raise ResultsError(f"{str(path)!r} is not JSON: {error}. Remove it and run the comparison.") from None
    if not isinstance(results, dict) or not {"recipe", "runs", "parameters"} <= set(results):
        raise ResultsError(f"{str(path)!r} does not hold the results of a comparison.")
    return results


def builder(arm, recipe, data):
    norm = None if arm == "none" else lambda: BatchNorm(momentum=recipe.norm_momentum)
    return lambda: build(
        recipe.preset, norm=norm, classes=data.classes, input_shape=data.input_shape, width=recipe.width
    )


def one_run(trainer, arm, learning_rate, seed, watcher):
    run = {"arm": arm, "learning_rate": learning_rate, "seed": seed, "diverged_at": None}
    curve = {"step": [], "seconds": [], "loss": [], "accuracy": []}
    for evaluation in trainer.run(learning_rate, seed):
        watcher.evaluated(evaluation)
        finite = evaluation.loss is None or math.isfinite(evaluation.loss)
        if not finite:
            run["diverged_at"] = evaluation.step
        curve["step"].append(evaluation.step)
        curve["seconds"].append(round(evaluation.seconds, 4))
        curve["loss"].append(round(evaluation.loss, 5) if finite and evaluation.loss is not None else None)
        curve["accuracy"].append(round(evaluation.accuracy, 5))
    return run | curve


def earlier_results(path, recipe, resume):
    """What `path` holds, where it may be gone on from."""
    results = read_results(path) if path.exists() else None
    if not results or not results["runs"]:
        return None
    if not resume:
        raise ResultsError(
            f"{str(path)!r} exists already. Go on from it with --resume, or choose another directory with --out."
        )
    for field, value in recipe.to_dict().items():
        if results["recipe"].get(field) != value:
            raise ResultsError(
                f"{str(path)!r} was made with {field}={results['recipe'].get(field)!r}, not {value!r}. "
                "Resume with the same values, or choose another directory with --out."
            )
    return results


def new_results(recipe, data):
    return {
        "recipe": recipe.to_dict(),
        "data": {
            "name": data.name,
            "training_examples": len(data.train_labels),
            "test_examples": len(data.test_labels),
            "image_shape": list(data.input_shape),
            "classes": data.classes,
        },
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": {
            "bn_keras": __version__,
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "machine": machine(),
        "parameters": {},
        "runs": [],
    }


def machine():
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    names = [
        line.split(":", 1)[1].strip()
        for line in (cpuinfo.read_text().splitlines() if cpuinfo.exists() else [])
        if line.startswith("model name")
    ]
    return {
        "processor": names[0] if names else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def write_results(results, path):
    """All or nothing: an interruption leaves the file before or the file after."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".partial")
    unfinished.write_text(to_json(results), encoding="utf-8")
    os.replace(unfinished, path)


def to_json(results):
    """JSON with one line per run."""
    head = json.dumps({key: value for key, value in results.items() if key != "runs"}, indent=1)
    runs = ",\n".join("  " + json.dumps(run) for run in results["runs"])
    return head.removesuffix("\n}") + ',\n "runs": [\n' + runs + "\n ]\n}\n"
