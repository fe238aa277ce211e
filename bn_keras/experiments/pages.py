"""The zoo's pages, each made from its `results.json` alone."""

import hashlib
import pathlib

from bn_keras.experiments import report
from bn_keras.experiments.analysis import answers
from bn_keras.experiments.compare import RESULTS, ResultsError, read_results
from bn_keras.experiments.plot import draw
from bn_keras.models import preset

CARD, PICTURE, TABLE = "README.md", "curves.svg", "README.md"


def write_pages(directory):
    """Writes a card and a picture beside each `results.json`, and the table above them.

    Args:
        directory: Holds one directory per preset.

    Returns:
        The paths written.

    Raises:
        ResultsError: When there are no results, or some that are not finished.
    """
    directory = pathlib.Path(directory)
    written = []
    entries = {path.parent.name: read_results(path) for path in sorted(directory.glob(f"*/{RESULTS}"))}
    if not entries:
        raise ResultsError(f"There is no {directory}/PRESET/{RESULTS}. Make one with `bn-keras compare`.")
    for name, results in entries.items():
        card = directory / name / CARD
        try:
            card.write_text(card_text(results), encoding="utf-8")
        except ValueError as error:
            raise ResultsError(f"{directory / name / RESULTS}: {error}") from None
        draw(results, directory / name / PICTURE, digest_of(directory / name / RESULTS))
        written += [card, directory / name / PICTURE]
    (directory / TABLE).write_text(table_text(entries), encoding="utf-8")
    return [*written, directory / TABLE]


def digest_of(path):
    """What a picture carries to show which results it was drawn from."""
    return "drawn from results.json, sha256 " + hashlib.sha256(path.read_bytes()).hexdigest()


def card_text(results):
    recipe, data, machine, versions = (results[key] for key in ("recipe", "data", "machine", "versions"))
    entry = preset(recipe["preset"])
    parameters = results["parameters"]
    notes = [report.sensitivity_line(results), *report.warnings(results)]
    return f"""# {entry.name}

{sentence(entry.summary)} Source: {entry.source}.
Parameters as trained here: {parameters["none"]:,} without norm, {parameters["batch"]:,} with batch norm,
moving statistics included.

![Accuracy over steps, and best accuracy over learning rates]({PICTURE})

## When is the accuracy there that the arm without norm reaches at its best?
{sentence(report.target_line(results))}

{report.markdown_table(report.ANSWER_COLUMNS, report.answer_rows(results))}

{chr(10).join("- " + sentence(note) for note in notes)}

## Best accuracy at every learning rate
The highest mean test accuracy over {len(recipe["seeds"])} seeds, at any evaluation.

{report.markdown_table(report.SWEEP_COLUMNS, report.sweep_rows(results))}

## Recipe
{report.markdown_table(("field", "value"), [(f"`{key}`", text(value)) for key, value in recipe.items()])}

- Data: {data["training_examples"]:,} training and {data["test_examples"]:,} test images of
  {"×".join(map(str, data["image_shape"]))}, {data["classes"]} classes.
- Machine: {text(machine)}. Versions: {text(versions)}. Started {results["started"]}.
- Seconds are those of training steps alone, without evaluations and compilation.

Rerun it: `{command(recipe)}`
"""


def table_text(entries):
    rows = []
    for name, results in entries.items():
        same, own = answers(results)
        recipe = results["recipe"]
        rows.append(
            (
                f"[{name}]({name}/{CARD})",
                recipe["data"],
                f"{results['parameters']['batch']:,}",
                f"{own.without.best:.2%}",
                f"{own.with_norm.best:.2%}",
                report.gain(same),
                report.gain(own),
            )
        )
    columns = (
        "preset",
        "data",
        "parameters",
        "best accuracy without norm",
        "with batch norm",
        "same learning rate",
        "each arm's best rate",
    )
    return f"""# Model zoo

What batch normalization does to the training of each preset: how many times fewer steps, and
seconds, until the accuracy that the network without it reaches at its best. The learning rates of
both arms are swept alike; each card has the recipe, every rate, and what the answer hangs on.

{report.markdown_table(columns, rows)}

These pages are made by `make zoo` from the `results.json` beside each card.
"""


def sentence(line):
    return line[0].upper() + line[1:] + ("" if line.endswith(".") else ".")


def text(value):
    if isinstance(value, dict):
        return ", ".join(f"{key} {text(part)}" for key, part in value.items())
    if isinstance(value, list):
        return ", ".join(map(text, value))
    if value is None:
        return "all"
    return f"{value:g}" if isinstance(value, float) else str(value)


def command(recipe):
    """The command line that runs a recipe."""
    options = {
        "data": recipe["data"],
        "rates": ",".join(f"{rate:g}" for rate in recipe["learning_rates"]),
        "seeds": ",".join(map(str, recipe["seeds"])),
    }
    skipped = {"preset", "data", "learning_rates", "seeds"}
    options |= {
        key.replace("_", "-"): value for key, value in recipe.items() if key not in skipped and value is not None
    }
    return f"bn-keras compare {recipe['preset']} " + " ".join(f"--{key} {value}" for key, value in options.items())
