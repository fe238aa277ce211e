"""Trains a recipe and writes its logs, checkpoints, model and results."""

import contextlib
import math
import os
import pathlib
from collections.abc import Iterator

import tensorflow as tf

from bn_keras.experiments.checkpoints import Checkpoints, reason_of
from bn_keras.experiments.data import Data, load
from bn_keras.experiments.logs import write_csv, write_events
from bn_keras.experiments.trainer import Evaluation, Trainer
from bn_keras.experiments.training_recipe import TrainingRecipe
from bn_keras.experiments.workers import check_same as check_same_on_workers
from bn_keras.experiments.workers import digest, folder_to_write, losses_explained
from bn_keras.lab.machine import provenance
from bn_keras.lab.results import RESULTS, ResultsError, ResultsFile, check_same
from bn_keras.lab.watcher import Watcher

FILE = ResultsFile("bn-keras train", entries="evaluations", fields=("recipe", "data", "parameters"))


def train(
    recipe: TrainingRecipe,
    out: str | os.PathLike,
    *,
    strategy: tf.distribute.Strategy | None = None,
    data: Data | None = None,
    data_dir: str | os.PathLike | None = None,
    resume: bool = False,
    watcher: Watcher | None = None,
) -> dict:
    """Trains a recipe and writes its results to a folder.

    | in the folder | what it holds |
    | --- | --- |
    | `results.json` | the recipe, the data, the machine, and an entry for each evaluation |
    | `log.csv`, `tensorboard/` | the same evaluations, for tables and for TensorBoard |
    | `checkpoints/` | the last three states, one after each evaluation |
    | `model.keras` | the trained model; it takes raw examples |

    An interrupted or killed run keeps its checkpoints; `resume=True` continues from the last one, to the same weights
    and statistics, bit by bit on one device.

    Args:
        recipe: A `TrainingRecipe`.
        out: Str or `os.PathLike`, the folder; `train` creates it. All workers see the same folder, and the first one
            writes.
        strategy: A strategy of `tf.distribute`, such as `make_strategy` returns; `None` for one device. Defaults to
            `None`.
        data: A `Data`, which `load` returns; `None` loads the data set that the recipe names. Defaults to `None`.
        data_dir: Str or `os.PathLike`, where tensorflow-datasets keeps its data sets; `None` for its own directory.
            Defaults to `None`.
        resume: Bool, whether to continue the run in `out`; a run without a checkpoint starts at its first step.
            Defaults to `False`.
        watcher: A `bn_keras.lab.watcher.Watcher` that shows the progress; `None` shows nothing. Defaults to `None`.

    Returns:
        The results: a dict of plain values, as in `results.json`. `"outcome"` is `"finished"`, `"target"` or
        `"diverged"`. With validation examples, `"test_accuracy"` is that of the trained model.

    Raises:
        ResultsError: When `out` has results and `resume` is false, when their recipe is another one, and when the
            folder cannot be written.
        RecipeError: When the recipe does not fit the data or the number of replicas.
        LostWorkerError: When another worker fails.

    >>> import tempfile
    >>> from bn_keras.experiments import training_recipe
    >>> recipe = training_recipe("mlp_sigmoid", "digits", steps=20, evaluate_every=10)
    >>> results = train(recipe, tempfile.mkdtemp())
    >>> [row["step"] for row in results["evaluations"]]
    [0, 10, 20]
    """
    watcher = watcher or Watcher()
    strategy = strategy or tf.distribute.get_strategy()
    out = pathlib.Path(out).expanduser()
    stored = FILE.read_to_resume(out / RESULTS, resume)
    if stored:
        usual = TrainingRecipe(recipe.preset, recipe.data).to_dict()  # earlier versions had fewer fields
        check_same(out / RESULTS, usual | stored["recipe"], recipe.to_dict())
        if stored.get("outcome"):
            return stored
    else:
        check_no_checkpoints(out / "checkpoints")
    data = data or load(recipe.data, data_dir, image_size=recipe.image_size)
    facts = facts_of(data)
    if stored:  # the results of earlier versions hold fewer facts
        check_same(out / RESULTS, stored["data"], {name: facts[name] for name in facts if name in stored["data"]})
    with losses_explained(strategy):
        check_same_on_workers(strategy, {**recipe.to_dict(), "data": facts["fingerprint"]})
        trainer = Trainer(recipe, data, strategy)
        folder = pathlib.Path(folder_to_write(strategy, out))
        results = stored or new_results(trainer, facts)
        return Run(trainer, out, folder, results, watcher).to_the_end()


class Run:
    """A run under way: what is stored after each evaluation."""

    def __init__(self, trainer: Trainer, out: pathlib.Path, folder: pathlib.Path, results: dict, watcher: Watcher):
        self.trainer, self.recipe, self.folder, self.watcher = trainer, trainer.recipe, folder, watcher
        self.results = results
        self.checkpoints = Checkpoints(trainer, out / "checkpoints", folder / "checkpoints")
        self.trainer.start()
        self.notes = [trainer.data.summary]
        step, seconds = self.checkpoints.restore(self.notes.append)
        check_same_on_workers(trainer.strategy, {"checkpoint": step})
        self.trainer.begin_at(step)
        self.begin(step, seconds)

    def begin(self, step: int, seconds: float) -> None:
        """Forgets what was logged after the checkpoint, and evaluates before the first step."""
        self.step, self.seconds = step, seconds
        rows = [row for row in self.results["evaluations"] if row["step"] <= step]
        self.results["evaluations"] = rows
        if step:
            self.notes.append(f"Continued from the checkpoint of step {step:,}.")
        done = step // self.recipe.evaluate_every
        self.watcher.begin("evaluation", self.recipe.steps // self.recipe.evaluate_every, done, self.notes)
        with written_or_explained(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            self.events = tf.summary.create_file_writer(str(self.folder / "tensorboard"))
        if not step:
            self.results["evaluations"] = []
            self.keep(Evaluation(0, 0.0, None, self.trainer.evaluate()))

    def to_the_end(self) -> dict:
        """Trains until the last step, the target or divergence."""
        if self.reaches_target(self.results["evaluations"][-1]):  # killed before it could say so
            return self.close("target")
        for evaluation in self.evaluations():
            row = self.keep(evaluation)
            self.watcher.item_ends(line_of(row))
            if row["loss"] is None:
                return self.close("diverged")
            self.checkpoints.save(evaluation.step, evaluation.seconds)
            if self.reaches_target(row):
                return self.close("target")
        return self.close("finished")

    def reaches_target(self, row: dict) -> bool:
        """Whether the accuracy of an entry ends the run."""
        return self.recipe.target is not None and row["accuracy"] >= self.recipe.target

    def evaluations(self):
        """The evaluations to come; the watcher follows each."""

        def watch(share):
            self.watcher.item_advances(share, "training" if share < 1 else "evaluating")

        self.watcher.item_begins(f"step {self.step + self.recipe.evaluate_every:,}")
        for evaluation in self.trainer.resume(self.step, self.seconds, watch):
            yield evaluation
            if evaluation.step < self.recipe.steps:
                self.watcher.item_begins(f"step {evaluation.step + self.recipe.evaluate_every:,}")

    def keep(self, evaluation: Evaluation) -> dict:
        """Stores an evaluation; returns its entry."""
        row = self.entry(evaluation)
        self.results["evaluations"].append(row)
        with written_or_explained(self.folder):
            FILE.write(self.results, self.folder / RESULTS)
            write_csv(self.results["evaluations"], self.folder / "log.csv")
            write_events(row, self.events)
        return row

    def entry(self, evaluation: Evaluation) -> dict:
        """An evaluation as plain values."""
        earlier = self.results["evaluations"][-1]["seconds"] if self.results["evaluations"] else 0.0
        spent = evaluation.seconds - earlier
        examples = self.recipe.evaluate_every * self.recipe.batch_size
        finite = evaluation.loss is not None and math.isfinite(evaluation.loss)
        return {
            "step": evaluation.step,
            "seconds": round(evaluation.seconds, 4),
            "learning_rate": float(self.trainer.optimizer.learning_rate),
            "loss": round(evaluation.loss, 8) if finite else None,
            "accuracy": round(evaluation.accuracy, 6),
            "examples_per_second": round(examples / spent, 1) if spent > 0 else None,
        }

    def close(self, outcome: str) -> dict:
        """Saves the model and says how the run ended."""
        self.results["outcome"] = outcome
        with written_or_explained(self.folder):
            self.events.close()
            if outcome != "diverged":
                if self.recipe.validation_examples is not None:
                    self.results["test_accuracy"] = round(self.trainer.evaluate(self.trainer.data.test), 6)
                self.trainer.model.save(self.folder / "model.keras")
            FILE.write(self.results, self.folder / RESULTS)
        return self.results


@contextlib.contextmanager
def written_or_explained(folder: pathlib.Path) -> Iterator[None]:
    """Turns an error of the file system in the block into a `ResultsError` that says what is kept."""
    try:
        yield
    except (OSError, tf.errors.OpError) as error:
        if isinstance(error, tf.errors.UnavailableError):  # a lost worker, not a full disk
            raise
        raise ResultsError(
            f"{str(folder)!r} could not be written: {reason_of(error)}. The checkpoints there are kept. "
            "Make room or allow writing, then continue with --resume."
        ) from None


def check_no_checkpoints(folder: pathlib.Path) -> None:
    """Refuses a new run where another one's checkpoints are: it would remove its own as the older ones."""
    if Checkpoints.steps(folder):
        raise ResultsError(
            f"{str(folder)!r} holds checkpoints of a run whose results.json is missing. Choose another --out, or "
            "remove the folder."
        )


def facts_of(data: Data) -> dict:
    """The data set, as the results hold it."""
    return {
        "name": data.name,
        "training_examples": data.train.examples,
        "test_examples": data.test.examples,
        "input_shape": list(data.input_shape),
        "classes": data.classes,
        "skipped": len(data.skipped),
        "fingerprint": fingerprint(data),
    }


def new_results(trainer: Trainer, facts: dict) -> dict:
    return {
        "recipe": trainer.recipe.to_dict(),
        "data": facts,
        **provenance(),
        "replicas": trainer.strategy.num_replicas_in_sync,
        "parameters": trainer.model.count_params(),
        "outcome": None,
        "evaluations": [],
    }


def line_of(row: dict) -> str:
    """An entry in words."""
    if row["loss"] is None:
        return "the loss is not finite any more"
    return f"loss {row['loss']:.4f}, accuracy {row['accuracy']:.2%}, {row['examples_per_second']:,.0f} examples/s"


def fingerprint(data: Data) -> str:
    """What must be the same on all workers and in a resumed run: the arrays in memory, or the files of streams."""
    splits = (data.train, data.test)
    arrays = [part for split in splits for part in (split.inputs, split.labels) if part is not None]
    content = digest(*arrays) if arrays else ", ".join(split.source.identity() for split in splits)
    return f"{data.train.examples}+{data.test.examples}, {content}"
