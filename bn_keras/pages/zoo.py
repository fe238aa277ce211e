"""The zoo: a card and a picture for each comparison, and the table above them, from the stored results alone."""

from bn_keras.experiments import read_results, report
from bn_keras.experiments.analysis import answers
from bn_keras.experiments.plot import figure_of
from bn_keras.lab.markdown import facts, sentence, size, table
from bn_keras.lab.plot import svg
from bn_keras.lab.results import RESULTS, ResultsError, digest_of
from bn_keras.models import preset
from bn_keras.pages.registry import Request

CARD, PICTURE, TABLE = "README.md", "curves.svg", "README.md"


def files(request: Request) -> dict[str, str]:
    """The table of all presets, and the card and the picture of each.

    Raises:
        ResultsError: When there are no results, or unfinished ones.
    """
    paths = {path.parent.name: path for path in sorted(request.results.glob(f"*/{RESULTS}"))}
    if not paths:
        raise ResultsError(f"There is no {request.results}/PRESET/{RESULTS}. Make one with `bn-keras compare`.")
    entries = {name: read_results(path) for name, path in paths.items()}
    texts = {}
    for name, results in entries.items():
        try:
            texts[f"{name}/{CARD}"] = card_text(results)
        except ValueError as error:
            raise ResultsError(f"{paths[name]}: {error}") from None
        texts[f"{name}/{PICTURE}"] = svg(figure_of(results), digest_of(paths[name]))
    return texts | {TABLE: table_text(entries)}


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

## How many steps does each arm need to reach the best accuracy without norm?
{sentence(report.target_line(results))}

{table(report.ANSWER_COLUMNS, report.answer_rows(results))}

{chr(10).join("- " + sentence(note) for note in notes)}

## Best accuracy at every learning rate
The highest mean test accuracy over {len(recipe["seeds"])} seeds, at any evaluation.

{table(report.SWEEP_COLUMNS, report.sweep_rows(results))}

## Recipe
{table(("field", "value"), [(f"`{key}`", text(value)) for key, value in recipe.items()])}

- Data: {data["training_examples"]:,} training and {data["test_examples"]:,} test images of
  {size(data["image_shape"])}, {data["classes"]} classes.
- Machine: {facts(machine)}. Versions: {facts(versions)}. Started {results["started"]}.
- Seconds count training steps alone, without evaluations and compilation.

Run it again: `{command(recipe)}`
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

How much batch norm shortens the training of each preset: how many times fewer steps, and how much less time, it needs
to reach the best accuracy of the network without norm. Both arms sweep the same learning rates. Each card has the
recipe, the accuracy at every rate, and how much the answer depends on the target.

{table(columns, rows)}

`make zoo` trains what is missing and writes these pages from the `results.json` beside each card.
"""


def text(value):
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
