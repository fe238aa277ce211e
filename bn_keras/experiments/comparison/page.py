"""The HTML page of a comparison: verdicts, tables, figures, the recipe and all runs."""

import os
import pathlib

from bn_keras.experiments.comparison import report
from bn_keras.experiments.comparison.analysis import Comparison
from bn_keras.experiments.comparison.figures import CAPTIONS, FIGURES
from bn_keras.experiments.comparison.recipe import BASELINE
from bn_keras.experiments.comparison.runs import Run
from bn_keras.experiments.comparison.zoo import compare_command
from bn_keras.lab.html import Code, Details, Facts, Items, Page, Paragraph, Picture, Section, Table, to_html
from bn_keras.lab.markdown import counted, sentence
from bn_keras.lab.plot import svg
from bn_keras.lab.results import write_whole

PAGE = "index.html"
RUN_COLUMNS = (
    "arm",
    "learning rate",
    "warm-up",
    "weight decay",
    "gain",
    "seed",
    "accuracy",
    "test",
    "diverged at",
)


def write_page(comparison: Comparison, folder: str | os.PathLike) -> pathlib.Path:
    """Writes a comparison as one HTML page.

    Args:
        comparison: A `Comparison`.
        folder: Where the page goes; `write_page` creates it.

    Returns:
        The path of the page, `folder/index.html`. The same comparison gives the same bytes.
    """
    path = pathlib.Path(folder) / PAGE
    write_whole(path, to_html(page_of(comparison)))
    return path


def page_of(comparison: Comparison) -> Page:
    """A comparison as a page."""
    sections = (
        answer_section(comparison),
        steps_section(comparison),
        targets_section(comparison),
        tuning_section(comparison),
        accuracy_section(comparison),
        cost_section(comparison),
        recipe_section(comparison),
        runs_section(comparison),
    )
    return Page(report.title(comparison), report.target_line(comparison), sections)


def answer_section(comparison: Comparison) -> Section:
    """The verdicts, the doubts, and the learning curves."""
    lines = tuple(sentence(line) for line in report.verdicts(comparison))
    notes = tuple(f"Note: {sentence(line)}" for line in report.notes(comparison))
    return Section("answer", "The answer", (Items(lines + notes), picture(comparison, "learning_curves")))


def steps_section(comparison: Comparison) -> Section:
    """Steps and seconds to both targets."""
    words = (
        f"Steps are the median over {comparison.recipe.seeds} seeds, with the lowest and the highest that got there. "
        "In brackets after the speed-up is its 95 % interval. “Faster” is the probability that a run is faster than "
        "one without norm. “Same” is the baseline's winner with the norm and nothing else changed."
    )
    tables = (
        Table("Steps and seconds to the target", report.SPEED_COLUMNS, tuple(report.speed_rows(comparison))),
        Table(
            "Steps and seconds to the harder target", report.SPEED_COLUMNS,
            tuple(report.speed_rows(comparison, hard=True)),
        ),
    )  # fmt: skip
    return Section("steps", "Steps to the target", (Paragraph(words), *tables))


def targets_section(comparison: Comparison) -> Section:
    """The speed-up at other targets."""
    easier = (
        "Easier targets have 4, 2, 1.5 and 1.2 times the errors of the target. The last column takes the trial of each "
        "arm that is the first at this target; it has one seed."
    )
    blocks = (
        picture(comparison, "speedup_over_target"),
        Table("The target, shifted", report.SENSITIVITY_COLUMNS, tuple(report.sensitivity_rows(comparison))),
        Table("Easier targets", report.EASIER_COLUMNS, tuple(report.easier_rows(comparison))),
        Paragraph(easier),
    )
    return Section("targets", "Other targets", blocks)


def tuning_section(comparison: Comparison) -> Section:
    """What tuning is worth, and the settings that won."""
    blocks = (
        picture(comparison, "speedup_over_budget"),
        picture(comparison, "accuracy_over_rate"),
        Table("The settings of the winners", report.SETTING_COLUMNS, tuple(report.setting_rows(comparison))),
    )
    return Section("tuning", "Tuning", blocks)


def accuracy_section(comparison: Comparison) -> Section:
    """The best accuracies."""
    words = (
        "Medians over the seeds of the most accurate winner. The test images are used once, with the weights of the "
        "best validation accuracy. A trial diverged if its loss stopped being finite."
    )
    rows = tuple(report.accuracy_rows(comparison))
    return Section("accuracy", "Accuracy", (Table("Best accuracy", report.ACCURACY_COLUMNS, rows), Paragraph(words)))


def cost_section(comparison: Comparison) -> Section:
    """The cost of a step."""
    costs = comparison.costs
    rounds = len(next(iter(costs.arms.values())).seconds)
    words = (
        f"Medians of {rounds} rounds, all arms in turns, without evaluations. {report.machine_text(costs.provenance)}"
    )
    table = Table("The cost of a step", report.COST_COLUMNS, tuple(report.cost_rows(comparison)))
    return Section("cost", "Cost", (table, Paragraph(words)))


def recipe_section(comparison: Comparison) -> Section:
    """The recipe, the data and the command."""
    recipe, found = comparison.recipe, comparison.plan
    facts = (
        ("Data", report.data_text(comparison).removeprefix("Data: ")),
        ("Steps of each run", f"{found.steps:,}"),
        ("Trials of each arm", str(len(found.pools[BASELINE]))),
        ("Searched space", report.space_text(comparison)),
        ("Hash of the recipe", recipe.hash),
    )
    fields = tuple((name, report.value_text(value)) for name, value in recipe.to_dict().items())
    blocks = (
        Code(compare_command(recipe), "The command that runs the comparison"),
        Facts(facts),
        Details("All fields of the recipe", (Table("Fields of the recipe", ("field", "value"), fields),)),
    )
    return Section("recipe", "Recipe", blocks)


def runs_section(comparison: Comparison) -> Section:
    """Every run: the trials, then the seeds of the winners."""
    trials = [run for pool in comparison.plan.pools.values() for run in pool]
    seeds = {run.job: run for runs in comparison.seeds.values() for run in runs}
    tables = [
        Details(f"{what} ({counted(len(runs), 'run')})", (Table(what, RUN_COLUMNS, tuple(map(run_row, runs))),))
        for what, runs in (("Trials", trials), ("Winners with new seeds", list(seeds.values())))
    ]
    return Section("runs", "All runs", tuple(tables))


def run_row(run: Run) -> tuple[str, ...]:
    """A run as a row."""
    job, trial = run.job, run.job.trial
    settings = (f"{trial.learning_rate:g}", f"{trial.warmup:.0%}", f"{trial.weight_decay:g}", f"{trial.initial_gain:g}")
    test = "–" if run.test_accuracy is None else f"{run.test_accuracy:.2%}"
    diverged = f"{run.diverged_at:,}" if run.diverged_at else "–"
    return (job.arm, *settings, str(job.seed), f"{run.best:.2%}", test, diverged)


def picture(comparison: Comparison, name: str) -> Picture:
    """A figure of the comparison."""
    words = name.replace("_", " ").replace("speedup", "speed-up").capitalize()
    return Picture(svg(FIGURES[name](comparison)), words, CAPTIONS[name])
