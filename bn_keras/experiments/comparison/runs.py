"""Stored runs: one file each, named by a hash of all that the run depends on."""

import contextlib
import dataclasses
import functools
import json
import math
import os
import pathlib
import socket
import time
from collections.abc import Iterator, Mapping

import numpy as np

from bn_keras.experiments.comparison.recipe import TUNING_SEED, Recipe, hash_of
from bn_keras.experiments.comparison.space import Trial
from bn_keras.experiments.training_recipe import TrainingRecipe
from bn_keras.lab.results import ResultsError, write_whole

# A claim is renewed at every evaluation; a process that stays silent for so long is taken for dead.
STALE_SECONDS = 600.0


@dataclasses.dataclass(frozen=True)
class Job:
    """A run to be made: an arm with the settings of a trial, a number of steps and a seed."""

    arm: str
    trial: Trial
    steps: int
    seed: int

    @property
    def tests(self) -> bool:
        """Whether the run looks at the test examples, at its end; tuning does not."""
        return self.seed != TUNING_SEED

    @property
    def words(self) -> str:
        """The job for people, short enough for a progress bar on 80 columns."""
        return f"{self.arm}, lr {self.trial.learning_rate:g}, gain {self.trial.initial_gain:g}, seed {self.seed}"

    def key(self, recipe: Recipe) -> str:
        """The name of the run: a hash of its recipe of training, without the fields that have their defaults."""
        training = recipe.training(self.arm, self.trial, self.steps, self.seed)
        defaults = TrainingRecipe(training.preset, training.data).to_dict()
        values = training.to_dict()
        named = {"preset", "data"}
        return hash_of({field: value for field, value in values.items() if field in named or value != defaults[field]})


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """A finished run.

    Args:
        job: What was run.
        steps: The steps of the evaluations; int array (evaluations,).
        accuracy: The validation accuracy at each; float array (evaluations,).
        diverged_at: The step at which the loss was no longer finite, or `None`. A run that diverges reaches no target,
            whatever it reached before.
        test_accuracy: The test accuracy of the weights of the best evaluation, or `None` for a run that was tuning.
    """

    job: Job
    steps: np.ndarray
    accuracy: np.ndarray
    diverged_at: int | None
    test_accuracy: float | None

    @functools.cached_property
    def running_best(self) -> np.ndarray:
        """The highest accuracy so far, at each evaluation."""
        return np.maximum.accumulate(self.accuracy)

    @property
    def best(self) -> float:
        """The highest validation accuracy; that before the first step for a run that diverged."""
        return float(self.accuracy[0] if self.diverged_at else self.running_best[-1])

    def crossing(self, target: float) -> float:
        """The step of the first evaluation at the target or above it; ∞ for a miss or a divergence."""
        reached = np.flatnonzero(self.running_best >= target - 1e-9)
        return math.inf if self.diverged_at or not len(reached) else float(self.steps[reached[0]])

    def late_gain(self) -> float:
        """What the best accuracy gained over the last quarter of the steps."""
        earlier = self.running_best[self.steps <= 0.75 * self.job.steps][-1]
        return 0.0 if self.diverged_at else float(self.running_best[-1] - earlier)


def entry_of(run: Run, key: str, facts: Mapping[str, object]) -> dict:
    """A run as its file holds it."""
    return {
        "key": key,
        "arm": run.job.arm,
        "trial": dataclasses.asdict(run.job.trial),
        "steps": run.job.steps,
        "seed": run.job.seed,
        "diverged_at": run.diverged_at,
        "test_accuracy": run.test_accuracy,
        **facts,
        "step": run.steps.tolist(),
        "accuracy": [round(value, 6) for value in run.accuracy.tolist()],
    }


def run_of(entry: Mapping[str, object]) -> Run:
    """The run that a file holds."""
    job = Job(entry["arm"], Trial(**entry["trial"]), entry["steps"], entry["seed"])
    accuracy = np.array(entry["accuracy"], float)
    if not ((accuracy >= 0) & (accuracy <= 1)).all():
        raise ValueError("its accuracies are not all in [0, 1]")
    return Run(job, np.array(entry["step"]), accuracy, entry["diverged_at"], entry["test_accuracy"])


class RunStore:
    """The folder of stored runs. Several processes may share it: a claim keeps two from making the same run."""

    def __init__(self, folder: str | os.PathLike):
        self.folder = pathlib.Path(folder)
        self.runs: dict[str, Run] = {}

    def refresh(self) -> None:
        """Reads the files that are new.

        Raises:
            ResultsError: For a file that is no stored run; it names the file.
        """
        for path in sorted(self.folder.glob("*.json")):
            if path.stem in self.runs:
                continue
            try:
                entry = json.loads(path.read_text(encoding="utf-8"))
                run = run_of(entry)
                if entry["key"] != path.stem or len(run.steps) != len(run.accuracy) or not len(run.steps):
                    raise ValueError("its name and its content do not belong together")
            except (ValueError, KeyError, TypeError) as error:
                raise ResultsError(f"{str(path)!r} is not a stored run: {error}. Remove it, and resume.") from None
            self.runs[path.stem] = run

    def get(self, key: str) -> Run | None:
        """A stored run, or `None`."""
        return self.runs.get(key)

    def put(self, key: str, run: Run, facts: Mapping[str, object]) -> None:
        """Stores a finished run."""
        entry = entry_of(run, key, facts)
        write_whole(self.folder / f"{key}.json", json.dumps(entry) + "\n")
        self.runs[key] = run_of(entry)  # as rounded in the file: a comparison is the same whoever reads it

    @contextlib.contextmanager
    def claim(self, key: str) -> Iterator["Claim | None"]:
        """The right to make a run; `None` when another process is making it."""
        claim = Claim(self.folder / f"{key}.claim")
        taken = claim.take()
        try:
            yield claim if taken else None
        finally:
            if taken:
                claim.path.unlink(missing_ok=True)


class Claim:
    """A file that tells other processes who makes a run."""

    def __init__(self, path: pathlib.Path):
        self.path = path

    def take(self) -> bool:
        """Creates the file; `False` when another living process has it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists() and self.abandoned():
            self.path.unlink(missing_ok=True)
        try:
            with self.path.open("x", encoding="utf-8") as file:
                file.write(f"{socket.gethostname()} {os.getpid()}\n")
        except FileExistsError:
            return False
        return True

    def abandoned(self) -> bool:
        """Whether the process that has the file is dead, or has been silent for long."""
        try:
            if time.time() - self.path.stat().st_mtime > STALE_SECONDS:
                return True
            host, number = self.path.read_text(encoding="utf-8").split()
        except FileNotFoundError:
            return False
        except ValueError:  # the other process is about to write it
            return False
        return host == socket.gethostname() and not alive(int(number))

    def renew(self) -> None:
        """Tells that this process is alive."""
        with contextlib.suppress(FileNotFoundError):  # removed by hand: the run goes on, and is stored
            os.utime(self.path)


def alive(process: int) -> bool:
    """Whether a process of this machine runs."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it runs, and belongs to somebody else
        return True
    return True
