"""The card of a comparison in the zoo: its tables, figures, settings and commands."""

import statistics

from bn_keras.experiments.comparison import report
from bn_keras.experiments.comparison.analysis import Comparison
from bn_keras.experiments.comparison.figures import CAPTIONS
from bn_keras.experiments.comparison.plan import FASTEST, SAME
from bn_keras.experiments.comparison.recipe import BASELINE
from bn_keras.experiments.comparison.runs import Job
from bn_keras.experiments.comparison.zoo import compare_command
from bn_keras.experiments.ship import command_of
from bn_keras.lab.markdown import sentence, table


def card_text(comparison: Comparison, earlier: dict | None) -> str:
    """The card of a comparison."""
    recipe = comparison.recipe
    return f"""# {report.title(comparison)}

{report.target_line(comparison)} The [protocol](../../../docs/protocol.md) says how the arms are tuned and measured.

{bullets(report.verdicts(comparison) + report.notes(comparison))}

{figure_text("learning_curves")}

## Steps and seconds to the target
{table(report.SPEED_COLUMNS, report.speed_rows(comparison))}

Steps are the median over {recipe.seeds} seeds, with the lowest and the highest that got there. In brackets after the
speed-up is its 95 % interval. *Faster* is the probability that a run is faster than one without norm. *Same* is the
baseline's winner with the norm and nothing else changed.

## Steps and seconds to the harder target
{table(report.SPEED_COLUMNS, report.speed_rows(comparison, hard=True))}

## How much the answer depends on the target and the protocol
{table(report.SENSITIVITY_COLUMNS, report.sensitivity_rows(comparison))}

{earlier_text(comparison, earlier)}{paper_text(comparison)}
## Easier targets
{table(report.EASIER_COLUMNS, report.easier_rows(comparison))}

Targets with 4, 2, 1.5 and 1.2 times the errors of the target. The interval holds for a fixed target here. The last
column takes the trial of each arm that is the first at this target; it has one seed.

{figure_text("speedup_over_target")}

## What tuning is worth
{budget_text(comparison)}

{figure_text("speedup_over_budget")}

{figure_text("accuracy_over_rate")}

## Accuracy
{table(report.ACCURACY_COLUMNS, report.accuracy_rows(comparison))}

Medians over the seeds of the most accurate winner. The test images are used once, with the weights of the best
validation accuracy. *Diverged* counts trials whose loss stopped being finite.

## The winners
{table(report.SETTING_COLUMNS, report.setting_rows(comparison))}

Train a winner again, with the same curve on the same machine:

```
{commands_text(comparison)}
```

## Cost of a step
{table(report.COST_COLUMNS, report.cost_rows(comparison))}

Medians of {len(next(iter(comparison.costs.arms.values())).seconds)} rounds, all arms in turns, without evaluations.
{report.machine_text(comparison.costs.provenance)}

## Recipe
{table(("field", "value"), [(f"`{key}`", report.value_text(value)) for key, value in recipe.to_dict().items()])}

- Hash: `{recipe.hash}`. Each run took {comparison.plan.steps:,} steps.
- Trials of each arm: {len(comparison.plan.pools[BASELINE])}. Space: {report.space_text(comparison)}.
- {report.data_text(comparison)}
- [results of all comparisons](../../results.csv) · stored runs in `runs/`

Run it again: `{compare_command(recipe)}`
"""


def bullets(lines: list[str]) -> str:
    """Lines as a list."""
    return "\n".join(f"- {sentence(line)}" for line in lines)


def figure_text(name: str) -> str:
    """A figure and its caption."""
    return f"![{CAPTIONS[name]}]({name}.svg)\n\n*{CAPTIONS[name]}* [PNG]({name}.png)"


def earlier_text(comparison: Comparison, earlier: dict | None) -> str:
    """The earlier protocol beside the present one."""
    if earlier is None:
        return ""
    recipe, rows = earlier["recipe"], []
    role = {"same": SAME, "own": FASTEST}
    for row in earlier["rows"]:
        rates = " and ".join(f"{rate:g}" for rate in row["learning_rates"])
        now = comparison.speedup("batch", role[row["question"]])
        was = [report.times(row[key]) if row[key] else "never" for key in ("fewer_steps", "fewer_steps_lowered")]
        rows.append((f"batch, {role[row['question']]}", rates, *was, report.gain(now)))
    columns = ("arm", "rates of both arms", "earlier", "earlier, target − 1 standard error", "this protocol")
    tried = report.value_text(recipe["learning_rates"])
    return f"""An earlier protocol tuned the learning rate alone, on the test images, and took the crossing of the mean
curve (rates {tried}; {len(recipe["seeds"])} seeds; {recipe["steps"]:,} steps; width {recipe["width"]:g}; batch
{recipe["batch_size"]}; images of {recipe["image_size"]}×{recipe["image_size"]}):

{table(columns, rows)}

"""


def paper_text(comparison: Comparison) -> str:
    """The paper's speed-up of batch norm alone beside the present one."""
    if "batch" not in comparison.arms:
        return ""
    same = comparison.speedup("batch", SAME)
    return f"""The paper reports 2.3× fewer steps for batch norm alone at the same learning rate (Inception on ImageNet,
one run). Here it is {report.times(same.ratio)}, with a 95 % interval of {report.interval(same)}.

"""


def budget_text(comparison: Comparison) -> str:
    """The tuning budget as a table."""
    target = comparison.target - comparison.error
    rows = []
    for trials, budgets in comparison.budgets().items():
        cells = [
            f"{report.steps(statistics.median(each.crossings.tolist()))} ({each.reached:.0%})"
            for each in budgets.values()
        ]
        cells += [f"{statistics.median(each.accuracies.tolist()):.2%}" for each in budgets.values()]
        rows.append((trials, *cells))
    arms = comparison.recipe.arms
    columns = ("trials", *(f"steps, {arm}" for arm in arms), *(f"best accuracy, {arm}" for arm in arms))
    return (
        f"Median steps to {target:.2%}, a standard error under the target, and the share of budgets that get there; "
        f"and the median best validation accuracy.\n\n{table(columns, rows)}"
    )


def commands_text(comparison: Comparison) -> str:
    """The command of the first seed of each winner."""
    lines = []
    for (arm, role), trial in comparison.plan.winners.items():
        if arm == BASELINE and role != FASTEST:
            continue
        job = Job(arm, trial, comparison.plan.steps, 1)
        training = comparison.recipe.training(arm, trial, job.steps, job.seed)
        lines.append(f"# {arm}, {'the one' if arm == BASELINE else role}: runs/{job.key(comparison.recipe)}.json")
        lines.append(command_of(training))
    return "\n".join(lines)
