"""C1: batch norm reaches the same accuracy in fewer steps."""

import statistics
from collections.abc import Callable

import numpy as np

from bn_keras.choices.names import CLAIMS
from bn_keras.experiments.claims import mnist_figure
from bn_keras.experiments.claims.claim import (
    CONDITIONALLY,
    FAILS,
    HOLDS,
    SHARED,
    Cell,
    Claim,
    Finding,
    Form,
    Found,
    Values,
)
from bn_keras.experiments.claims.figures import draw_spread, new_figure, spread
from bn_keras.experiments.claims.mnist_figure import OWN, SAME
from bn_keras.experiments.claims.paper_arms import (
    BASELINE,
    CHANGED,
    FIXED,
    INCEPTION,
    PAPER_ARMS,
    TUNED,
    X5,
    recipe_of,
    train_paper_arm,
)
from bn_keras.experiments.claims.protocol import (
    distinct,
    divergence_notes,
    edge_notes,
    fresh_cells,
    fresh_runs,
    rise_note,
    swept_rates,
    within_the_sweep,
)
from bn_keras.experiments.claims.speedups import LOWEST, MEDIAN, Speedup, speedup, targets_of, times, words_of
from bn_keras.experiments.claims.training import best_accuracy, best_rate, tuning_cells
from bn_keras.experiments.claims.two_arms import ARMS, BATCH, NONE, WITH, WORDS
from bn_keras.experiments.comparison.figure_style import SMALL, STYLES, ArmStyle, label, legend
from bn_keras.experiments.comparison.step_cost import measure_costs
from bn_keras.lab.plot import SKY
from bn_keras.lab.watcher import Watcher

PAPER, COST = "section 4.2", "cost of a step"
MLP_SAME, MLP_OWN = "batch norm, same rate", "batch norm, best rate"
MLP_STYLES = {WORDS[NONE]: STYLES[NONE], MLP_SAME: STYLES[BATCH], MLP_OWN: ArmStyle(SKY, "-.", "^")}
# The arms that the rule reads; the others illustrate.
JUDGED = (INCEPTION, CHANGED, BASELINE, TUNED, X5)


def data(form: Form) -> list[str]:
    """The digits, and colour images for Inception."""
    return ["digits"] if form.quick else ["mnist", form.images]


def paper_arm(form: Form, name: str) -> Cell:
    """The settings that all runs of an arm of section 4.2 share."""
    size = {"network": "inception_small", "data": form.images, "image_size": 16, "steps": 4_000}
    sketch = {"network": "mlp_relu_deep", "data": "digits", "image_size": 8, "steps": 240}
    return {"part": PAPER, "arm": name, "norm": PAPER_ARMS[name].norm} | (sketch if form.quick else size)


def paper_names(form: Form) -> list[str]:
    """The arms of section 4.2."""
    return list(JUDGED if form.quick else PAPER_ARMS)


def paper_rates(form: Form, found: Found) -> tuple[float, ...]:
    """The learning rates of Inception without norm and with batch norm."""
    planned = (0.01, 0.03, 0.1) if form.quick else (0.003, 0.01, 0.03, 0.1, 0.3)
    return swept_rates(found, [paper_arm(form, name) for name in (INCEPTION, TUNED)], planned)


def mlp_runs(form: Form, found: Found) -> dict[str, Cell]:
    """The settings and learning rates of the arms of the sigmoid MLP."""
    pairs = mnist_figure.pairs_of(form, found, (SAME, OWN))
    return {WORDS[NONE]: pairs[OWN][NONE], MLP_SAME: pairs[SAME][BATCH], MLP_OWN: pairs[OWN][BATCH]}


def paper_runs(form: Form, found: Found) -> dict[str, Cell]:
    """The settings and learning rates of the arms of section 4.2."""
    rates = paper_rates(form, found)
    best = {name: best_rate(found, rates, **paper_arm(form, name)) for name in (INCEPTION, TUNED)}
    factors = {name: PAPER_ARMS[name].rate for name in paper_names(form)}
    return {
        name: paper_arm(form, name)
        | {"learning_rate": best[name] if factor is None else round(best[INCEPTION] * factor, 6)}
        for name, factor in factors.items()
    }


def cells(form: Form, found: Found) -> list[Cell]:
    """The sweeps and the costs of a step, and then the fresh seeds."""
    costs = [] if form.quick else [cost_cell(form, network) for network in ("mlp_sigmoid", "inception_small")]
    tuning = tuning_cells([paper_arm(form, name) for name in (INCEPTION, TUNED)], paper_rates(form, found))
    first = [*mnist_figure.cells(form, found, (SAME, OWN)), *costs, *tuning]
    if not found.has(tuning):
        return first
    runs = [
        cell
        for name, run in paper_runs(form, found).items()
        for cell in fresh_cells(run, run["learning_rate"], 5 if name in JUDGED and not form.quick else 3)
    ]
    return distinct(first + runs)


def cost_cell(form: Form, network: str) -> Cell:
    """The settings of the measurement of a step's cost."""
    size = {"data": "mnist"} if network == "mlp_sigmoid" else {"data": form.images, "image_size": 16}
    return {"part": COST, "network": network} | size


def measure(cell: Cell, load: Callable) -> Values:
    """The curve of one run, or the cost of a step without norm and with batch norm."""
    if SHARED in cell:
        return mnist_figure.measure(cell, load)
    return measure_cost(cell, load) if cell["part"] == COST else train_paper_arm(cell, load)


def measure_cost(cell: Cell, load: Callable) -> Values:
    """The seconds of a step of each arm, in turns, and how many times as much a step with batch norm costs."""
    run = {"steps": 4_000, "learning_rate": 0.1, "seed": 0}
    if cell["network"] == "mlp_sigmoid":
        recipes = {arm: mnist_figure.recipe_of(cell | run | {"norm": arm}) for arm in ARMS}
    else:
        arms = {NONE: INCEPTION, BATCH: BASELINE}
        recipes = {arm: recipe_of(cell | run | {"norm": arm}, PAPER_ARMS[name]) for arm, name in arms.items()}
    costs = measure_costs(recipes, load(cell["data"], image_size=cell.get("image_size")), Watcher())
    return {"step_seconds": {arm: costs.arms[arm].median for arm in ARMS}, "ratio": costs.ratio(BATCH, NONE)}


def speedups(form: Form, found: Found) -> dict[tuple[str, str], Speedup]:
    """The speed-up of each arm over the one of its part without norm at its best rate, by arm and target."""
    gains = {}
    for runs in (mlp_runs(form, found), paper_runs(form, found)):
        baseline, *arms = ({name: fresh_runs(found, **run) for name, run in runs.items()}).items()
        for words, target in targets_of(baseline[1]).items():
            gains |= {(name, words): speedup(baseline[1], own, target) for name, own in [baseline, *arms]}
    return gains


def contrasts(form: Form, found: Found) -> dict[str, bool]:
    """The contrasts of the rule, in words: whether the arm is clearly faster."""
    gains, runs = speedups(form, found), paper_runs(form, found)
    changed, x5 = (fresh_runs(found, **runs[name]) for name in (CHANGED, X5))
    control = speedup(changed, x5, gains[X5, LOWEST].target)
    return {
        f"the MLP with {MLP_OWN}, to the {LOWEST}": gains[MLP_OWN, LOWEST].clear,
        f"the MLP with {MLP_OWN}, to the {MEDIAN}": gains[MLP_OWN, MEDIAN].clear,
        TUNED: gains[TUNED, LOWEST].clear,
        BASELINE: gains[BASELINE, LOWEST].clear,
        f"{X5} against {INCEPTION} and {CHANGED}": gains[X5, LOWEST].clear and control.clear,
    }


def judge(form: Form, found: Found) -> Finding:
    """Applies the rule."""
    gains, tests = speedups(form, found), contrasts(form, found)
    clear = [words for words, faster in tests.items() if faster]
    verdict = HOLDS if len(clear) == len(tests) else CONDITIONALLY if clear else FAILS
    edges = edge_notes(found, sweeps_of(form, found))
    verdict, conditions = within_the_sweep(verdict, "; ".join(clear) if verdict == CONDITIONALLY else "", edges)
    runs = mlp_runs(form, found) | paper_runs(form, found)
    numbers = [f"MLP {words_of(gains[MLP_OWN, LOWEST])}", f"Inception {words_of(gains[TUNED, LOWEST])}"]
    return Finding(
        verdict,
        number=f"fewer steps, ratio of medians at each arm's best rate: {', '.join(numbers)}",
        because=f"Clearly faster in {len(clear)} of {len(tests)} contrasts: {'; '.join(clear) or 'none'}.",
        columns=("arm", "target", "learning rate", "steps to the target", "fewer steps", "less time", "best accuracy"),
        rows=tuple(
            (name, f"{words}, {gain.target:.4f}", f"{runs[name]['learning_rate']:g}", spread(gain.crossings, ",.0f"),
             "" if name in (WORDS[NONE], INCEPTION) else words_of(gain), less_time(found, runs[name], gain),
             spread([best_accuracy(run) for run in fresh_runs(found, **runs[name])]))
            for (name, words), gain in gains.items()
        ),
        conditions=conditions,
        notes=(*edges, *baseline_notes(form, found, runs), *divergence_notes(found, name_of)),
    )  # fmt: skip


def less_time(found: Found, run: Cell, gain: Speedup) -> str:
    """How many times less time an arm with batch norm needs; empty where the cost of a step is not measured."""
    costs = found.values("ratio", part=COST, network=run["network"])
    return f"×{times(gain.ratio / costs[0])}" if costs and run["norm"] == BATCH else ""


def baseline_notes(form: Form, found: Found, runs: dict[str, Cell]) -> list[str]:
    """Whether the baselines are through, whether Inception stands five times its rate, and what a step costs."""
    notes = [
        rise_note(f"{words} without norm", fresh_runs(found, **runs[name]))
        for words, name in (("the MLP", WORDS[NONE]), ("Inception", INCEPTION))
    ]
    if form.quick:
        return notes
    fast = fresh_runs(found, **runs["Inception-x5"])
    lost = sum(bool(run["diverged_at"]) for run in fast)
    best = spread([best_accuracy(run) for run in fast])
    notes.append(f"Inception at 5 times its rate: {lost} of {len(fast)} runs diverge; its best accuracy is {best}.")
    costs = {cell["network"]: values["ratio"] for cell, values in found.where(part=COST)}
    words = ", ".join(f"{ratio:.2f} times one without ({network})" for network, ratio in costs.items())
    return [*notes, f"A step with batch norm costs {words}."]


def sweeps_of(form: Form, found: Found) -> dict[str, tuple[Cell, tuple[float, ...]]]:
    """The settings and the learning rates of the arms that are tuned."""
    rates = paper_rates(form, found)
    return mnist_figure.sweeps(form, found) | {
        name: (paper_arm(form, name), rates) for name in (INCEPTION, TUNED)
    }  # fmt: skip


def name_of(cell: Cell) -> str:
    """The arm of a cell of either network."""
    return f"the MLP {WITH[cell['norm']]}" if SHARED in cell else cell["arm"]


def draw(form: Form, found: Found):
    """Validation accuracy over the steps, of the sigmoid MLP and of the arms of section 4.2."""
    figure, (left, right) = new_figure(form, "steps to the same accuracy", 2, height=4.8)
    styles = {name: PAPER_ARMS[name].style for name in paper_names(form)}
    parts = ((left, mlp_runs(form, found), MLP_STYLES), (right, paper_runs(form, found), styles))
    left.set_xscale("log")
    for axes, runs, own in parts:
        draw_curves(axes, found, runs, own)
        for target in targets_of(fresh_runs(found, **next(iter(runs.values())))).values():
            axes.axhline(target, color=STYLES[NONE].color, linewidth=1, linestyle=":")
    lowest = targets_of(fresh_runs(found, **mlp_runs(form, found)[WORDS[NONE]]))[LOWEST]
    left.set_ylim(max(0.0, 1 - 8 * (1 - lowest)), None)
    left.legend(frameon=True, edgecolor="none", fontsize=SMALL, handlelength=3.2, loc="lower right")
    label(left, x="steps", y="validation accuracy", title="sigmoid MLP; dotted: the targets")
    label(right, x="steps", title="the arms of section 4.2")
    legend(figure, styles)
    return figure


def draw_curves(axes, found: Found, runs: dict[str, Cell], styles: dict[str, ArmStyle]) -> None:
    """Medians and ranges of the seeds of each arm that did not diverge, with a few markers."""
    for name, run in runs.items():
        curves = [values for values in fresh_runs(found, **run) if not values["diverged_at"]]
        if not curves:
            continue
        style, steps = styles[name], curves[0]["steps"]
        rows = list(zip(*(curve["accuracy"] for curve in curves), strict=True))
        draw_spread(axes, steps[1:], rows[1:], ArmStyle(style.color, style.line, ""))
        spaced = np.geomspace if axes.get_xscale() == "log" else np.linspace
        places = [int(place) for place in spaced(1, len(steps) - 1, 6)]
        medians = [statistics.median(rows[place]) for place in places]
        axes.plot([steps[place] for place in places], medians, style.marker, color=style.color)
        axes.plot([], [], color=style.color, linestyle=style.line, marker=style.marker, label=name)


CLAIM = Claim(
    id="C1",
    title=CLAIMS["C1"],
    question="How many times fewer steps does batch norm need to the best accuracy of the network without norm?",
    method=f"{mnist_figure.METHOD} The validation accuracy is taken every 250 steps. The arms of section 4.2: "
    "`inception_small`, width 0.125, colour images of 16×16 pixels, SGD with momentum 0.9, batch 32, 4,000 steps (2.7 "
    "epochs). Inception without norm and with batch norm each try five rates from 0.003 to 0.3 (one run each), and "
    "more beyond an edge. The arms of the rule have five fresh seeds, the others three. Of the section's changes these "
    "apply: a 5 or 30 times higher rate, no dropout (here 0.2), a fifth of the weight decay, a six times faster decay "
    "of the rate, no photometric augmentation. Local response normalization and the shuffling within shards have no "
    'counterpart here. "Inception, changed" has these changes without batch norm, at Inception\'s rate. C4 has '
    "Inception with sigmoids and without norm. There are two targets: the lowest and the median best validation "
    "accuracy of the seeds without norm. Every seed of the baseline reaches the lowest one. A speed-up is a ratio of "
    "medians, with its 95 % bootstrap interval over the seeds. The cost of a step is measured apart, both arms in "
    "turns, while other runs may use the other core. The quick form: the digits; five ReLU layers for Inception; no "
    "cost of a step.",
    rule="An arm is clearly faster if its slowest seed is at the target before the fastest seed without norm, and the "
    "medians are at least a factor of 1.2 apart. A miss or a divergence counts as infinitely many steps. There are "
    "five contrasts: the MLP with batch norm at its best rate to the lowest and to the median best accuracy; "
    "BN-Inception at its best rate, BN-Baseline and BN-x5 to the lowest best accuracy of Inception. BN-x5 must also be "
    'clearly faster than "Inception, changed". Holds if all five are clearly faster. Holds under conditions if any is, '
    "or if a best rate lies at an edge of its sweep. Does not hold otherwise.",
    refuted_by="As many steps as without norm when both arms have their best rate.",
    literature="ImageNet: BN-Baseline 2.3 times, BN-x5 14.8 times, BN-x30 11.5 times fewer steps, one run each. A "
    "small tuned MLP: 2.4 times, one run on CIFAR-10 in a notebook of Géron's book.",
    source="Ioffe & Szegedy 2015, section 4.2, arXiv 1502.03167; Géron, Hands-On Machine Learning, notebook on "
    "training deep networks",
    caption="Validation accuracy over the steps; median and range of the fresh seeds that did not diverge.",
    data=data,
    cells=cells,
    measure=measure,
    judge=judge,
    draw=draw,
    settings={"section 4.1": mnist_figure.FIXED, "section 4.2": FIXED},
)
