"""`compare`: runs what the plan asks for, one stored file per run, until nothing is missing."""

import json
import math
import os
import pathlib
import time

import numpy as np

from bn_keras.experiments.comparison.analysis import Comparison
from bn_keras.experiments.comparison.plan import Plan, plan
from bn_keras.experiments.comparison.recipe import Recipe
from bn_keras.experiments.comparison.runs import Job, Run, RunStore
from bn_keras.experiments.comparison.step_cost import COSTS, measure_costs, read_costs, write_costs
from bn_keras.experiments.data import Data, load
from bn_keras.experiments.network import build_network
from bn_keras.experiments.shared_trainer import is_compiled, last_trainer, shared_trainer
from bn_keras.experiments.train import facts_of
from bn_keras.experiments.trainer import Trainer
from bn_keras.experiments.training_recipe import TrainingRecipe
from bn_keras.lab.machine import machine, provenance
from bn_keras.lab.markdown import counted
from bn_keras.lab.results import ResultsError, check_same, write_whole
from bn_keras.lab.watcher import Watcher

COMPARISON, RUNS = "comparison.json", "runs"
WAIT_SECONDS = 5.0


def compare(
    recipe: Recipe,
    out: str | os.PathLike,
    *,
    data_dir: str | os.PathLike | None = None,
    resume: bool = False,
    watcher: Watcher | None = None,
) -> Comparison:
    """Tunes every arm alike, runs the winners with new seeds, and measures the cost of a step.

    | in the folder | what it holds |
    | --- | --- |
    | `comparison.json` | the recipe and the data |
    | `runs/` | a file for each finished run |
    | `costs.json` | the cost of a step of each arm, measured at the end, in turns |

    The comparison is a function of these files. Several processes, on several machines that see the same folder, may
    run the same command with `resume=True`: they share the runs. The files in `runs` of two machines can also be copied
    together.

    Args:
        recipe: A `Recipe`.
        out: Str or path of the folder; `compare` creates it.
        data_dir: Str or path of the directory of tensorflow-datasets; `None` for its default. Defaults to `None`.
        resume: Bool, whether to continue the comparison that `out` holds. Defaults to `False`.
        watcher: A `bn_keras.lab.watcher.Watcher` that shows the progress; `None` shows nothing. Defaults to `None`.

    Returns:
        The `Comparison`.

    Raises:
        ResultsError: If `out` has results and `resume` is false, or if their recipe or data differ.
        DataError, NetworkError: If the data or the network cannot be made.

    References:
        `docs/protocol.md` has the protocol and its reasons.

    >>> import tempfile
    >>> from bn_keras.experiments import default_recipe
    >>> recipe = default_recipe("mlp_sigmoid", width=0.1, steps=8, trials=1, seeds=1, extensions=0)
    >>> compare(recipe, tempfile.mkdtemp()).arms
    ('batch',)
    """
    watcher = watcher or Watcher()
    out = pathlib.Path(out).expanduser()
    stored = read_header(out, missing_ok=True)
    if stored and not resume:
        raise ResultsError(
            f"{str(out / COMPARISON)!r} exists already. Continue it with --resume, or choose another directory with "
            "--out."
        )
    if stored:
        check_same(out / COMPARISON, stored["recipe"], recipe.to_dict())
    work = Work(recipe, out, watcher)
    if not stored or work.plan().stage != "done" or read_costs(out) is None:
        work.prepare(load(recipe.data, data_dir, image_size=recipe.image_size), stored)
        work.run_all()
    return read_comparison(out)


class UnfinishedError(ResultsError):
    """Runs of a comparison, or the cost of a step, are missing."""


def read_comparison(out: str | os.PathLike) -> Comparison:
    """Reads the comparison that a folder holds.

    Args:
        out: Str or path of the folder.

    Returns:
        A `Comparison`.

    Raises:
        ResultsError: If the folder holds no comparison; an `UnfinishedError` if runs or the cost of a step are missing.

    >>> read_comparison("models/mlp_sigmoid/mnist").arms
    ('batch',)
    """
    out = pathlib.Path(out)
    header = read_header(out)
    try:
        recipe = Recipe.from_dict(header["recipe"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        path = str(out / COMPARISON)
        raise ResultsError(
            f"{path!r} does not hold a comparison of this version of bn_keras: {error}. Choose another path."
        ) from None
    work = Work(recipe, out, Watcher())
    found, costs = work.plan(), read_costs(out)
    if found.stage != "done" or costs is None:
        what = (
            f"{counted(len(found.missing), 'run')} of the stage {found.stage!r}"
            if found.missing
            else "the cost of a step"
        )
        raise UnfinishedError(f"{str(out)!r} lacks {what}. Finish it with `bn-keras compare … --resume`.")
    if set(costs.arms) != set(recipe.arms):
        raise ResultsError(f"{str(out / COSTS)!r} has the arms {', '.join(costs.arms)}. Remove it, and resume.")
    return Comparison(recipe, header["data"], found, work.seed_runs(found), costs)


def read_header(out: pathlib.Path, missing_ok: bool = False) -> dict | None:
    """The recipe and the data of a comparison."""
    path = out / COMPARISON
    try:
        header = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        if missing_ok:
            return None
        raise ResultsError(f"There is no {str(path)!r}. Make it with `bn-keras compare`.") from None
    except ValueError as error:
        raise ResultsError(f"{str(path)!r} is not JSON: {error}. Remove it and run `bn-keras compare`.") from None
    if not isinstance(header, dict) or not {"recipe", "data"} <= set(header):
        raise ResultsError(f"{str(path)!r} does not hold a comparison. Choose another path.")
    return header


class Work:
    """A comparison under way in a folder."""

    def __init__(self, recipe: Recipe, out: pathlib.Path, watcher: Watcher):
        self.recipe, self.out, self.watcher = recipe, out, watcher
        self.store = RunStore(out / RUNS)
        self.keys: dict[Job, str] = {}

    def key(self, job: Job) -> str:
        """The name of a run."""
        if job not in self.keys:
            self.keys[job] = job.key(self.recipe)
        return self.keys[job]

    def find(self, job: Job) -> Run | None:
        """The stored run of a job."""
        return self.store.get(self.key(job))

    def plan(self) -> Plan:
        """What is missing, by the runs that are stored now."""
        self.store.refresh()
        return plan(self.recipe, self.find)

    def seed_runs(self, found: Plan) -> dict[tuple[str, str], tuple[Run, ...]]:
        """The runs with new seeds of each arm and role."""
        return {
            (arm, role): tuple(self.find(job) for job in found.jobs if (job.arm, job.trial) == (arm, trial))
            for (arm, role), trial in found.winners.items()
        }

    def prepare(self, data: Data, stored: dict | None) -> None:
        """Checks the data, and writes what the comparison is about."""
        facts = facts_of(data)
        self.data = data.with_validation(self.recipe.validation_examples)
        if stored:
            check_same(self.out / COMPARISON, stored["data"], facts)
            return
        self.recipe_fits()
        header = {"recipe": self.recipe.to_dict(), "data": facts, **provenance()}
        write_whole(self.out / COMPARISON, json.dumps(header, indent=1) + "\n")

    def recipe_fits(self) -> None:
        """Builds every network once, so that an arm that cannot be built is refused before the first run."""
        for arm in self.recipe.arms:
            build_network(self.recipe.training(arm, self.recipe.space.draw(1)[0], self.recipe.steps, 0), self.data)

    def run_all(self) -> None:
        """Runs what is missing, stage by stage, then measures the cost of a step."""
        stage = None
        while (found := self.plan()).missing:
            if (found.stage, found.steps, len(found.jobs)) != stage:
                stage = found.stage, found.steps, len(found.jobs)
                self.watcher.begin("run", len(found.jobs), len(found.jobs) - len(found.missing), self.notes(found))
            if not self.run_one_of(found):
                self.wait("runs", f"{len(found.missing)} under way")
        last_trainer.clear()
        while read_costs(self.out) is None:
            with self.store.claim("costs") as claim:  # two processes would measure each other
                if claim and read_costs(self.out) is None:
                    self.measure(found)
            if not claim:
                self.wait("the cost of a step", "under way")

    def wait(self, what: str, note: str) -> None:
        """Waits for what other processes are making."""
        self.watcher.item_begins(f"waiting for {what} of other processes")
        self.watcher.item_advances(0.0, note)
        time.sleep(WAIT_SECONDS)

    def notes(self, found: Plan) -> list[str]:
        """What the watcher says at the start of a stage."""
        titles = {
            "baseline": "Tuning without normalization",
            "tuning": "Tuning of all arms",
            "seeds": "The winners with new seeds",
        }
        return [
            *found.notes,
            f"{titles[found.stage]}: {counted(len(found.jobs), 'run')} of {counted(found.steps, 'step')}.",
        ]

    def run_one_of(self, found: Plan) -> bool:
        """Makes a missing run that no other process is making; whether there was one.

        Runs come first that the compiled trainer can make.
        """
        for job in sorted(found.missing, key=lambda job: not is_compiled(self.training(job), self.data)):
            with self.store.claim(self.key(job)) as claim:
                if claim is None:
                    continue
                self.store.refresh()  # another process may have finished it in the meantime
                if self.find(job) is None:
                    self.run(job, claim)
                return True
        return False

    def run(self, job: Job, claim) -> None:
        """Makes a run and stores it."""
        self.watcher.item_begins(job.words)
        started = time.perf_counter()
        trainer = shared_trainer(self.training(job), self.data)
        run = one_run(trainer, job, lambda share, note: (claim.renew(), self.watcher.item_advances(share, note)))
        seconds = round(time.perf_counter() - started, 1)
        facts = {"recipe": trainer.recipe.to_dict(), "parameters": trainer.model.count_params(), "seconds": seconds}
        self.store.put(self.key(job), run, facts | {"processor": machine()["processor"]})
        result = f"diverged at step {run.diverged_at:,}" if run.diverged_at else f"best {run.best:.2%}"
        self.watcher.item_ends(f"{result}, {seconds:.0f} s")

    def training(self, job: Job) -> TrainingRecipe:
        """The recipe of a job's run."""
        return self.recipe.training(job.arm, job.trial, job.steps, job.seed)

    def measure(self, found: Plan) -> None:
        """Measures the cost of a step of each arm."""
        self.watcher.begin("arm", 1, 0, ["The cost of a step, all arms in turns. Leave the machine alone meanwhile."])
        recipes = {
            arm: self.recipe.training(arm, found.winners[arm, "same"], found.steps, 1) for arm in self.recipe.arms
        }
        write_costs(self.out, measure_costs(recipes, self.data, self.watcher, sketch=self.recipe.sketch))


def one_run(trainer: Trainer, job: Job, watch) -> Run:
    """A run from its first step to its last."""
    steps, accuracies, diverged_at, best, weights = [], [], None, -1.0, None
    for evaluation in trainer.run(job.trial.learning_rate, job.seed):
        watch(evaluation.step / job.steps, f"{evaluation.accuracy:6.2%}")
        if evaluation.loss is not None and not math.isfinite(evaluation.loss):
            diverged_at = evaluation.step
            break
        steps.append(evaluation.step)
        accuracies.append(evaluation.accuracy)
        if job.tests and evaluation.accuracy > best:
            best, weights = evaluation.accuracy, trainer.model.get_weights()
    test = None
    if job.tests:
        trainer.model.set_weights(weights)
        test = round(trainer.evaluate(trainer.data.test), 6)
    return Run(job, np.array(steps), np.array(accuracies), diverged_at, test)
