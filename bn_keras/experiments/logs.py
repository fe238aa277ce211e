"""The records of a run: `log.csv` for tables, `tensorboard/` for TensorBoard."""

import csv
import pathlib

import tensorflow as tf

COLUMNS = ("step", "seconds", "learning_rate", "loss", "accuracy", "examples_per_second")


def write_csv(rows: list[dict], path: pathlib.Path) -> None:
    """Writes a line for each evaluation."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def write_events(row: dict, writer: tf.summary.SummaryWriter) -> None:
    """Writes an evaluation for TensorBoard."""
    with writer.as_default(step=row["step"]):
        for name in COLUMNS[1:]:
            if row[name] is not None:
                tf.summary.scalar(name, row[name])
    writer.flush()
