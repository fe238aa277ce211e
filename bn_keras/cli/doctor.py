"""The command `bn-keras doctor`."""

import json
import pathlib
import zipfile
import zlib

import click

from bn_keras.cli.errors import explained, needs
from bn_keras.cli.start import load_keras
from bn_keras.cli.values import DataName, Out, ranged

EXAMPLES = """\b
Examples:
  bn-keras doctor run/model.keras --data digits
  bn-keras doctor model.keras --data batches.npz --fix repaired.keras --figure gaps.png
"""


@click.command(epilog=EXAMPLES)
@click.argument("model", type=click.Path(exists=True, dir_okay=False))
@click.option(
    "--data",
    type=DataName(".npz"),
    required=True,
    metavar="NAME",
    help="digits, a data set of tensorflow-datasets, folder:PATH, text:PATH, or a file .npz with x and perhaps y.",
)
@click.option(
    "--data-dir",
    type=click.Path(exists=True, file_okay=False),
    help="Where tensorflow-datasets keeps its data sets.  [default: its own directory]",
)
@click.option(
    "--image-size", type=ranged("image_size"), metavar="PIXELS", help="Resize the images of a folder to this size."
)
@click.option(
    "--batch-size", type=ranged("batch_size"), default=32, show_default=True, help="Examples per batch, as in training."
)
@click.option(
    "--steps",
    type=ranged("examined_batches"),
    default=16,
    show_default=True,
    help="Batches to read, and to keep in memory.",
)
@click.option("--fix", type=Out(), metavar="OUT.keras", help="Write the model with all repairs that gain something.")
@click.option("--figure", type=Out(), metavar="PATH", help="Draw the gap over depth: .png or .svg.")
@click.option("--json", "report", type=Out(), metavar="PATH", help="Write the report as JSON.")
def doctor(model, data, data_dir, image_size, batch_size, steps, fix, figure, report):
    """Find what is wrong with the batch norms of MODEL, a .keras file.

    Good in training, bad in inference? The command runs training examples through the model in both modes, compares the
    moving statistics with those of the batches, names what is wrong with the number that proves it, and tries the
    repairs on copies. It overwrites nothing.
    """
    check_outputs({"--fix": (fix, (".keras",)), "--figure": (figure, (".png", ".svg")), "--json": (report, (".json",))})
    check_model(model)
    load_keras()
    import tensorflow as tf

    from bn_keras.doctor import examine

    with needs("lab" if figure or not data.endswith(".npz") else ""), explained(ValueError, "Nothing was written."):
        read = examples_of(data, data_dir, image_size, batch_size)
        loaded = load(model)
        try:
            examination = examine(loaded, read, batch_size=batch_size, steps=steps)
        except (TypeError, tf.errors.OpError) as error:  # the latter of labels out of range, say
            raise click.ClickException(str(error)) from None
        click.echo(str(examination))
        if report:
            text = json.dumps(examination.to_dict(), indent=1, allow_nan=False)
            pathlib.Path(report).write_text(text + "\n", encoding="utf-8")
        if figure and examination.layers:
            draw(examination, figure)
        elif figure:
            click.echo(f"{figure} is not drawn: no batch norm was measured.")
        if fix:
            write_repaired(examination, fix)


def check_outputs(outputs) -> None:
    """Refuses paths that exist, are in no folder or have another suffix, before anything is loaded."""
    for option, (path, suffixes) in outputs.items():
        if path is None:
            continue
        if pathlib.Path(path).suffix not in suffixes:
            raise click.UsageError(f"{option} expects a file {' or '.join(suffixes)}. Received: {path!r}.")
        if pathlib.Path(path).exists():
            raise click.UsageError(f"{option}: {path!r} exists, and the command overwrites nothing. Name another file.")
        if not pathlib.Path(path).parent.is_dir():
            raise click.UsageError(f"{option}: there is no folder {str(pathlib.Path(path).parent)!r}. Make it first.")


def check_model(path) -> None:
    """Refuses what is no .keras file, before anything is loaded: Keras would say that the file does not exist."""
    if not zipfile.is_zipfile(path):
        raise click.ClickException(f"{path!r} is no .keras file: those are zip archives, as model.save writes.")
    with zipfile.ZipFile(path) as archive:
        missing = {"config.json", "model.weights.h5"} - set(archive.namelist())
        if missing:
            raise click.ClickException(f"{path!r} is no .keras file: it lacks {' and '.join(sorted(missing))}.")
        try:
            damaged = archive.testzip()
        except zlib.error:
            damaged = "a part"
    if damaged:
        raise click.ClickException(f"{path!r} is damaged: {damaged} cannot be read. Save or copy the model again.")


def load(path):
    """The model, compiled if the file says how: the doctor looks at its loss and its weight decay."""
    import keras

    try:
        return keras.saving.load_model(path)
    except Exception as error:
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise click.ClickException(
            f"{path!r} cannot be loaded: {first} Call bn_keras.doctor.examine in Python if it has custom classes."
        ) from None


def examples_of(name, data_dir, image_size, batch_size):
    """Training examples as `examine` takes them."""
    if name.endswith(".npz"):
        return arrays_of(name)
    from bn_keras import experiments

    try:
        split = experiments.load(name, data_dir, image_size=image_size).train
    except experiments.DataError as error:
        raise click.UsageError(str(error)) from None
    return split.batches(batch_size, seed=0)


def arrays_of(path):
    import numpy as np

    try:
        file = np.load(path)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise click.UsageError(f"--data: {path!r} cannot be read as numpy.savez writes it: {error}") from None
    if isinstance(file, np.ndarray):
        raise click.UsageError(f"--data: {path!r} holds one array. Write it with numpy.savez(path, x=…, y=…).")
    with file:
        if "x" not in file:
            raise click.UsageError(f"--data: {path!r} must hold an array x, and y for labels. It has {file.files}.")
        return (file["x"], file["y"]) if "y" in file else file["x"]


def draw(examination, path) -> None:
    from bn_keras.lab.plot import save

    save(examination.figure(), pathlib.Path(path))
    click.echo(f"Figure: {path}")


def write_repaired(examination, path) -> None:
    """Writes the repaired model, and says which repairs a file cannot hold."""
    if not any(repair.in_model for repair in examination.repairs()):
        click.echo(f"{path} is not written: no repair that a model can hold gains anything.")
        return
    examination.repaired().save(path)
    made = [repair.name for repair in examination.repairs() if repair.in_model]
    click.echo(f"Repaired model: {path} ({', '.join(dict.fromkeys(made))}).")
    for repair in examination.repairs():
        if not repair.in_model:
            click.echo(f"Not in the file, for your code: {repair.call}")
