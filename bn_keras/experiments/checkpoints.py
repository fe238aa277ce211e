"""Checkpoints of a run: the last few are kept, a damaged one falls back to the one before it."""

import pathlib
import re
import shutil
from collections.abc import Callable

import tensorflow as tf

from bn_keras.experiments.trainer import Trainer
from bn_keras.lab.results import ResultsError

KEEP = 3
PREFIX = "step"
# What `tf.train.Checkpoint.read` raises for a file that is damaged, missing or another network's.
UNREADABLE = (OSError, tf.errors.OpError, IndexError, ValueError, AssertionError)


class Checkpoints:
    """The checkpoints of a run: weights, statistics, optimizer and random states, by `tf.train.Checkpoint`.

    Args:
        trainer: The trainer whose state is saved and restored.
        read_from: The folder that a resumed run reads.
        write_to: The folder that this process writes; workers other than the first write to one that is thrown away.
    """

    def __init__(self, trainer: Trainer, read_from: pathlib.Path, write_to: pathlib.Path):
        self.read_from, self.write_to = pathlib.Path(read_from), pathlib.Path(write_to)
        self.step = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.seconds = tf.Variable(0.0, dtype=tf.float64, trainable=False)
        self.checkpoint = tf.train.Checkpoint(
            model=trainer.model,
            optimizer=trainer.optimizer,
            peak=trainer.schedule.peak,
            random_states=[state.value for state in trainer.random_states()],
            step=self.step,
            seconds=self.seconds,
        )

    def save(self, step: int, seconds: float) -> None:
        """Saves the state after `step` steps, then removes the oldest beyond the number kept.

        Raises:
            ResultsError: When the file system does not take it; the checkpoints before it stay.
        """
        self.step.assign(step)
        self.seconds.assign(seconds)
        try:
            self.write_to.mkdir(parents=True, exist_ok=True)
            self.checkpoint.write(str(self.write_to / f"{PREFIX}-{step}"))
        except (OSError, tf.errors.OpError) as error:
            self.remove(step)
            raise ResultsError(
                f"The checkpoint of step {step:,} could not be written to {str(self.write_to)!r}: {reason_of(error)}. "
                "Make room there, then continue with --resume."
            ) from None
        for old in self.steps(self.write_to)[KEEP:]:
            self.remove(old)

    def restore(self, tell: Callable[[str], None]) -> tuple[int, float]:
        """Restores the newest checkpoint that can be read.

        Args:
            tell: Called with a sentence for each checkpoint that cannot be read.

        Returns:
            The steps and the seconds that are done; zeros where there is no checkpoint.

        Raises:
            ResultsError: When there are checkpoints, and none can be read.
        """
        steps = self.steps(self.read_from)
        for step in steps:
            path = self.read_from / f"{PREFIX}-{step}"
            try:
                self.checkpoint.read(str(path)).assert_consumed()
            except UNREADABLE as error:
                tell(f"The checkpoint {str(path)!r} cannot be read and is left out: {reason_of(error)}.")
                continue
            return int(self.step), float(self.seconds)
        if steps:
            raise ResultsError(
                f"None of the {len(steps)} checkpoints in {str(self.read_from)!r} can be read. "
                "Start again with another --out, or remove the folder to train from the first step."
            )
        return 0, 0.0

    @staticmethod
    def steps(folder: pathlib.Path) -> list[int]:
        """The steps of the checkpoints in a folder, the newest first."""
        names = (re.fullmatch(rf"{PREFIX}-(\d+)\.index", path.name) for path in folder.glob(f"{PREFIX}-*.index"))
        return sorted((int(name[1]) for name in names if name), reverse=True)

    def remove(self, step: int) -> None:
        """Removes what there is of a checkpoint; its index first, so that half of one is never restored."""
        for path in sorted(self.write_to.glob(f"{PREFIX}-{step}.*"), key=lambda path: path.suffix != ".index"):
            path.unlink(missing_ok=True)
        shutil.rmtree(self.write_to / f"{PREFIX}-{step}_temp", ignore_errors=True)  # of a write that failed


def reason_of(error: Exception) -> str:
    """The first line of an error of TensorFlow or of the file system."""
    text = error.message if isinstance(error, tf.errors.OpError) else str(error)
    return (text.strip().splitlines() or [type(error).__name__])[0].rstrip(".")[:300]
