"""The zoo: a card for each comparison, and the matrix of presets and norms, from the stored runs alone."""

import csv
import io
import json
import pathlib
import statistics

from bn_keras.experiments.comparison import report
from bn_keras.experiments.comparison.analysis import Comparison, Speedup
from bn_keras.experiments.comparison.compare import COMPARISON, RUNS, UnfinishedError, read_comparison
from bn_keras.experiments.comparison.figures import FIGURES
from bn_keras.experiments.comparison.plan import FASTEST, MOST_ACCURATE, SAME
from bn_keras.experiments.comparison.recipe import BASELINE, Recipe
from bn_keras.experiments.comparison.zoo import ZOO, compare_command, place_of
from bn_keras.lab.markdown import sentence, table
from bn_keras.lab.plot import png, svg
from bn_keras.lab.results import ResultsError
from bn_keras.models import preset
from bn_keras.pages.registry import Request
from bn_keras.pages.zoo_card import CAPTIONS, bullets, card_text

CARD, MATRIX, CSV, EARLIER = "README.md", "README.md", "results.csv", "earlier.json"
CSV_COLUMNS = (
    "preset", "data", "batch_size", "norm", "winner", "target", "validation_accuracy", "test_accuracy", "median_steps",
    "seeds", "never", "fewer_steps", "low", "high", "faster", "step_seconds", "seconds", "less_time", "recipe",
)  # fmt: skip


def files(request: Request) -> dict[str, str | bytes]:
    """The matrix of all comparisons, its CSV, a page for each preset, and a card with figures for each comparison.

    Raises:
        ResultsError: When there are no finished results, when a comparison that has a card lacks runs, or when it was
            made with another recipe than `ZOO` has now.
    """
    comparisons = read_zoo(request.results)
    texts = {MATRIX: matrix_text(comparisons), CSV: csv_text(comparisons)}
    for place, comparison in comparisons.items():
        earlier = read_earlier(request.results / place / EARLIER)
        texts[f"{place}/{CARD}"] = card_text(comparison, earlier)
        for name, figure in FIGURES.items():
            drawn = figure(comparison)
            texts[f"{place}/{name}.svg"] = svg(drawn, f"drawn from the stored runs of recipe {comparison.recipe.hash}")
            texts[f"{place}/{name}.png"] = png(drawn)
    for name in {place.parts[0] for place in comparisons}:
        own = {place: each for place, each in comparisons.items() if place.parts[0] == name}
        texts[f"{name}/{CARD}"] = preset_text(name, own)
    return texts


def read_zoo(folder: pathlib.Path) -> dict[pathlib.PurePosixPath, Comparison]:
    """The comparisons in a folder, in the order of `ZOO`; those that `ZOO` does not have come last.

    A comparison of `ZOO` that never had a card is left out until it is finished: the matrix names it with its command.
    """
    order = {str(place_of(recipe)): recipe for recipe in ZOO}
    begun = [path.parent for path in folder.glob(f"*/*/{COMPARISON}") if any((path.parent / RUNS).glob("*.json"))]
    found = {path.relative_to(folder).as_posix() for path in begun}
    if not found:
        raise ResultsError(f"There is no {folder}/PRESET/DATA/{COMPARISON}. Make one with `make zoo`.")
    comparisons = {}
    for name in [*(name for name in order if name in found), *sorted(found - set(order))]:
        try:
            comparison = read_comparison(folder / name)
        except UnfinishedError:
            if name in order and len(found) > 1 and not (folder / name / CARD).exists():
                continue
            raise
        if name in order and comparison.recipe != order[name]:
            raise ResultsError(
                f"{folder / name} is stale: it was made with the recipe {comparison.recipe.hash}, and the zoo's is "
                f"{order[name].hash} now. Move the folder away and run `make zoo`."
            )
        comparisons[pathlib.PurePosixPath(name)] = comparison
    return comparisons


def read_earlier(path: pathlib.Path) -> dict | None:
    """What an earlier protocol said of the same preset and data, where it is stored."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def preset_text(name: str, comparisons: dict[pathlib.PurePosixPath, Comparison]) -> str:
    """The page of a preset: what it is, and its comparisons."""
    entry = preset(name)
    parts = [f"# {name}\n\n{sentence(entry.summary)} Source: {sentence(entry.source)}"]
    for place, comparison in comparisons.items():
        parts.append(
            f"## [{comparison.recipe.data_in_words}]({place.parts[1]}/{CARD})\n{report.target_line(comparison)}\n\n"
            f"{bullets(report.verdicts(comparison))}\n\n![{CAPTIONS['learning_curves']}]({place.parts[1]}/learning_curves.svg)"
        )
    return "\n\n".join(parts) + "\n"


MATRIX_COLUMNS = (
    "preset", "data", "norm", "test accuracy", "steps to the target", "fewer steps", "at the same settings",
    "seconds", "less time",
)  # fmt: skip


def matrix_text(comparisons: dict[pathlib.PurePosixPath, Comparison]) -> str:
    """The page of the whole zoo."""
    rows = [row for place, comparison in comparisons.items() for row in matrix_rows(place, comparison)]
    lines = [
        f"On {comparison.recipe.data_in_words}, {comparison.recipe.preset}: {line}"
        for comparison in comparisons.values()
        for line in report.losses(comparison)
    ]
    missing = [recipe for recipe in ZOO if place_of(recipe) not in comparisons]
    losses = bullets(lines) if lines else "Every norm is faster in all comparisons above, in steps and in time."
    return f"""# Model zoo

What does a norm do to the speed of training? Each row is one network with one norm: the steps and seconds that it needs
to reach the best validation accuracy of the same network without norm. All arms are tuned alike, the winners run with
new seeds, and the [protocol](../docs/protocol.md) was written down before the runs.

{table(MATRIX_COLUMNS, rows)}

- *Steps* and *seconds* are medians over seeds, with each arm's fastest settings. In brackets: 95 % intervals.
- *At the same settings* changes the norm alone, as the paper does for its 2.3×.
- *Test accuracy* is the median of each arm's most accurate settings.
- The numbers of this table, and more, are in [results.csv](results.csv).

## Where a norm does not win
Its interval reaches 1×, its steps cost more time than they save, or the target is easy.

{losses}

{missing_text(missing)}`make zoo` makes the runs that are missing and writes these pages from the stored runs.
"""


def missing_text(missing: list[Recipe]) -> str:
    """The comparisons of the zoo that are not finished."""
    if not missing:
        return ""
    rows = [(recipe.preset, recipe.data_in_words, f"`{compare_command(recipe)}`") for recipe in missing]
    return f"## Not finished yet\n{table(('preset', 'data', 'command'), rows)}\n\n"


SPEEDUP_COLUMNS = (
    "network", "data", "norm", "fewer steps", "norm alone, at the same settings", "test accuracy", "without norm",
)  # fmt: skip


def speedups(request: Request) -> str:
    """The table of the README: a row for each norm of each comparison that has no small batches.

    Raises:
        ResultsError: As `files` does.
    """
    comparisons = read_zoo(request.results).items()
    rows = [
        row
        for place, comparison in comparisons
        if not comparison.recipe.is_of_small_batches
        for row in speedup_rows(place, comparison)
    ]
    return table(SPEEDUP_COLUMNS, rows) + "\n"


def speedup_rows(place: pathlib.PurePosixPath, comparison: Comparison) -> list[tuple[str, ...]]:
    """The rows of a comparison in the README."""
    link = f"[{place.parts[0]}](models/{place}/{CARD})"
    tests = {arm: f"{statistics.median(comparison.test_accuracies(arm)):.1%}" for arm in comparison.recipe.arms}
    return [
        (
            link,
            comparison.recipe.data,
            arm,
            *(report.gain(comparison.speedup(arm, role)) for role in (FASTEST, SAME)),
            tests[arm],
            tests[BASELINE],
        )
        for arm in comparison.arms
    ]


def matrix_rows(place: pathlib.PurePosixPath, comparison: Comparison) -> list[tuple[str, ...]]:
    """The rows of a comparison in the matrix."""
    cost = comparison.costs.arms
    rows = []
    for arm in comparison.recipe.arms:
        test = f"{statistics.median(comparison.test_accuracies(arm)):.2%}"
        start = (f"[{place.parts[0]}]({place}/{CARD})", comparison.recipe.data_in_words, arm, test)
        if arm == BASELINE:
            own = comparison.speedup(comparison.arms[0]).baseline_crossings
            cells = (report.steps(statistics.median(own)), "1×", "1×", report.seconds(own, cost[arm].median), "1×")
        else:
            tuned, same = comparison.speedup(arm), comparison.speedup(arm, SAME)
            own, gains = tuned.crossings, (report.gain(tuned), report.gain(same))
            seconds = report.seconds(own, cost[arm].median)
            cells = (report.steps(statistics.median(own)), *gains, seconds, report.less_time(tuned))
        rows.append((*start, *cells))
    return rows


def csv_text(comparisons: dict[pathlib.PurePosixPath, Comparison]) -> str:
    """Every speed-up of the zoo, a row each."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for comparison in comparisons.values():
        for arm in comparison.arms:
            for role, hard in ((FASTEST, False), (SAME, False), (MOST_ACCURATE, True)):
                speedup = comparison.speedup(arm, role, hard=hard)
                if arm == comparison.arms[0] and role != SAME:
                    writer.writerow(csv_row(comparison, BASELINE, speedup, speedup.baseline_crossings))
                writer.writerow(csv_row(comparison, arm, speedup, speedup.crossings))
    return text.getvalue()


def csv_row(comparison: Comparison, arm: str, speedup: Speedup, crossings: tuple[float, ...]) -> list:
    """A row of the CSV; the baseline has no ratios."""
    recipe, cost = comparison.recipe, comparison.costs.arms[arm].median
    median = statistics.median(crossings)
    numbers = (speedup.ratio, speedup.low, speedup.high, speedup.faster) if arm != BASELINE else ("",) * 4
    never = sum(step == float("inf") for step in crossings)
    return [
        recipe.preset, recipe.data, recipe.batch_size, arm, speedup.role if arm != BASELINE else "",
        round(speedup.target, 6), round(comparison.accuracy(arm), 6),
        round(statistics.median(comparison.test_accuracies(arm)), 6), median, len(crossings), never,
        *(f"{number:.4g}" if number != "" else "" for number in numbers), f"{cost:.4g}",
        f"{median * cost:.4g}", f"{speedup.time_ratio:.4g}" if arm != BASELINE else "", comparison.recipe.hash,
    ]  # fmt: skip
