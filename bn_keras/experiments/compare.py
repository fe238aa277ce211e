"""Runs a recipe: every arm, learning rate and seed; `results.json` keeps each finished run."""

import math
import pathlib

from bn_keras.experiments.data import load
from bn_keras.experiments.report import LABELS
from bn_keras.experiments.trainer import Trainer
from bn_keras.lab.machine import provenance
from bn_keras.lab.results import RESULTS, ResultsFile, check_same
from bn_keras.lab.watcher import Watcher

ARMS = ("none", "batch")
FILE = ResultsFile("bn-keras compare", entries="runs", fields=("recipe", "data", "parameters"))


def read_results(path):
    """The results of a comparison, from a `results.json` or the directory that holds one.

    Raises:
        ResultsError: When there is no such file, or it holds something else.
    """
    return FILE.read(path)


def compare(recipe, out, *, data_dir=None, resume=False, watcher=None):
    """Trains both arms of a recipe and writes `results.json`.

    An interrupted comparison keeps its finished runs.

    Args:
        recipe: A `Recipe`.
        out: The directory of `results.json`; `compare` creates it.
        data_dir: Where tensorflow-datasets keeps its data sets; `None` for its default.
        resume: Whether to continue the comparison that `out` holds.
        watcher: A `bn_keras.lab.watcher.Watcher` that shows the progress; `None` shows nothing.

    Returns:
        The results: a dict of plain values, as in `results.json`.

    Raises:
        ResultsError: When `out` has results and `resume` is false, or when their recipe is
            another one.
    """
    watcher = watcher or Watcher()
    path = pathlib.Path(out) / RESULTS
    results = FILE.read_to_resume(path, resume)
    if results:
        check_same(path, results["recipe"], recipe.to_dict())
    plan = [(arm, rate, seed) for seed in recipe.seeds for rate in recipe.learning_rates for arm in ARMS]
    finished = {(run["arm"], run["learning_rate"], run["seed"]) for run in results["runs"]} if results else set()
    if finished.issuperset(plan):
        return results
    data = load(recipe.data, data_dir)
    results = results or new_results(recipe, data)
    FILE.write(results, path)
    watcher.begin("run", len(plan), len(finished))
    trainers = {}
    for arm, rate, seed in plan:
        if (arm, rate, seed) in finished:
            continue
        watcher.item_begins(f"{LABELS[arm]}, lr {rate:g}, seed {seed}")
        if arm not in trainers:
            trainers[arm] = Trainer(recipe.training(arm), data)
            results["parameters"][arm] = trainers[arm].model.count_params()
        run = one_run(trainers[arm], arm, rate, seed, watcher)
        results["runs"].append(run)
        FILE.write(results, path)
        watcher.item_ends(f"{outcome(run)}, {run['seconds'][-1]:.1f} s")
    return results


def one_run(trainer, arm, learning_rate, seed, watcher):
    run = {"arm": arm, "learning_rate": learning_rate, "seed": seed, "diverged_at": None}
    curve = {"step": [], "seconds": [], "loss": [], "accuracy": []}
    for evaluation in trainer.run(learning_rate, seed):
        watcher.item_advances(evaluation.step / trainer.recipe.steps, f"{evaluation.accuracy:6.2%}")
        finite = evaluation.loss is None or math.isfinite(evaluation.loss)
        if not finite:
            run["diverged_at"] = evaluation.step
        curve["step"].append(evaluation.step)
        curve["seconds"].append(round(evaluation.seconds, 4))
        curve["loss"].append(round(evaluation.loss, 5) if finite and evaluation.loss is not None else None)
        curve["accuracy"].append(round(evaluation.accuracy, 5))
    return run | curve


def outcome(run):
    """How a run ended, in words."""
    return f"diverged at step {run['diverged_at']:,}" if run["diverged_at"] else f"{run['accuracy'][-1]:.2%}"


def new_results(recipe, data):
    return {
        "recipe": recipe.to_dict(),
        "data": {
            "name": data.name,
            "training_examples": data.train.examples,
            "test_examples": data.test.examples,
            "image_shape": list(data.input_shape),
            "classes": data.classes,
        },
        **provenance(),
        "parameters": {},
        "runs": [],
    }
