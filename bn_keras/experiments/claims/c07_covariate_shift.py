"""C7: covariate shift does not explain batch norm's gain: noise brings the shift back, and training is as fast."""

import functools
import math
import statistics

import keras

from bn_keras.choices.names import CLAIMS
from bn_keras.experiments.claims.claim import CONDITIONALLY, FAILS, HOLDS, Cell, Claim, Finding, Form, Found
from bn_keras.experiments.claims.figures import draw_spread, new_figure, spread, written
from bn_keras.experiments.claims.protocol import (
    CAPPED,
    divergence_notes,
    edge_notes,
    fresh_cells,
    fresh_runs,
    surely_above,
    tuned_cells,
    within_the_sweep,
)
from bn_keras.experiments.claims.shifting import NOISE, ShiftingBatchNorm
from bn_keras.experiments.claims.smoothness import CHANGES, FIXED, observer
from bn_keras.experiments.claims.training import (
    TUNING_SEED,
    best_accuracy,
    best_rate,
    first_step_at,
    train_curve,
    tuning_cells,
)
from bn_keras.experiments.comparison.figure_style import ArmStyle, label, legend
from bn_keras.experiments.data import Data
from bn_keras.experiments.network import build_network
from bn_keras.experiments.training_recipe import TrainingRecipe, training_recipe
from bn_keras.lab.plot import BLUE, PURPLE, VERMILION
from bn_keras.models import build

ARMS = ("none", "batch", "shifting")
# Runs are short, and moving averages with the usual momentum of 0.99 would lag behind them.
MOMENTUM = 0.9
# An accuracy counts so many examples at most.
EVALUATED = 4_000
# Shifting batch norm is as fast as batch norm within this factor.
AS_FAST = 1.25
# Batch norm does not lower the change by earlier layers if that is at least such a share of the one without norm.
NO_LESS = 0.9
# The phases of training: from one share of the steps to another.
PHASES = {"first tenth": (0.0, 0.1), "next four tenths": (0.1, 0.5), "second half": (0.5, 1.0)}
STYLES = {
    "none": ArmStyle(VERMILION, "--", "s"),
    "batch": ArmStyle(BLUE, "-", "o"),
    "shifting": ArmStyle(PURPLE, (0, (3, 1, 1, 1)), "v"),
}
WORDS = {"none": "no norm", "batch": "batch norm", "shifting": "batch norm, then shifting noise"}


def data(form: Form) -> tuple[str, ...]:
    """The digits, or the colour images."""
    return ("digits",) if form.quick else (form.images,)


def rates_of(form: Form) -> tuple[float, ...]:
    """The learning rates that every arm tries."""
    return (0.03, 0.1, 0.3, 1.0) if form.quick else (0.01, 0.03, 0.1, 0.3, 1.0)


def arms_of(form: Form) -> dict[str, Cell]:
    """The settings of the arms."""
    if form.quick:
        sizes = {"network": "mlp_relu_deep", "data": "digits", "size": 8, "width": 1.0, "options": {"depth": 4,
                 "units": 64}, "batch": 64, "steps": 120, "every": 5, "validation": 300, "observe": 60}  # fmt: skip
    else:
        sizes = {"network": "vgg_small", "data": form.images, "size": 16, "width": 0.125, "options": {}, "batch": 32,
                 "steps": 2000, "every": 50, "validation": 1000, "observe": 500}  # fmt: skip
    return {arm: sizes | {"arm": arm} for arm in ARMS}


def cells(form: Form, found: Found) -> list[Cell]:
    """Every arm, tuned; fresh seeds at its best rate, and at the best rate of the network without norm."""
    arms, rates, seeds = arms_of(form), rates_of(form), 3 if form.quick else 5
    wanted = [cell for arm in arms.values() for cell in tuned_cells(found, arm, rates, seeds)]
    if found.has(tuning_cells([arms["none"]], rates)):
        common = best_rate(found, rates, **arms["none"])
        same = [cell for arm in arms.values() for cell in fresh_cells(arm, common, seeds)]
        wanted += [cell for cell in same if cell not in wanted]
    return wanted


def measure(cell: Cell, load) -> dict:
    """The curve of a run; with a fresh seed also the shift and how smooth the loss is on the way."""
    data = load(cell["data"]) if cell["size"] == 8 else load(cell["data"], image_size=cell["size"])
    recipe = training_recipe(
        cell["network"], cell["data"], norm=None if cell["arm"] == "none" else ("batch", {"momentum": MOMENTUM}),
        width=cell["width"], options=cell["options"], optimizer="sgd", batch_size=cell["batch"],
        learning_rate=cell["learning_rate"], steps=cell["steps"], evaluate_every=cell["every"],
        validation_examples=cell["validation"], evaluation_examples=EVALUATED, seed=cell["seed"],
    )  # fmt: skip
    observe = None if cell["seed"] == TUNING_SEED else observer(cell["observe"])
    make = shifting_network if cell["arm"] == "shifting" else build_network
    return train_curve(recipe, data, make_network=make, observe=observe)


def shifting_network(recipe: TrainingRecipe, data: Data) -> keras.Model:
    """The network of the recipe, with shifting noise after each batch norm."""
    return build(
        recipe.preset, norm=functools.partial(ShiftingBatchNorm, momentum=MOMENTUM), classes=data.classes,
        input_shape=tuple(data.input_shape), width=recipe.width, preprocessing=data.preprocessing(), **recipe.options,
    )  # fmt: skip


def rate_of(form: Form, found: Found, arm: str, own: bool) -> float:
    """The best rate of an arm, or that of the network without norm."""
    return best_rate(found, rates_of(form), **arms_of(form)[arm if own else "none"])


def runs_of(form: Form, found: Found, arm: str, own: bool = True):
    """The fresh runs of an arm, at its own best rate or at that of the network without norm."""
    return fresh_runs(found, arm=arm, learning_rate=rate_of(form, found, arm, own))


def steps_of(form: Form, found: Found, arm: str, own: bool = True) -> list[float]:
    """The steps of each seed to the accuracy that every run without norm reaches; ∞ for a miss.

    Runs that diverged do not set the target.
    """
    reached = [best_accuracy(run) for run in runs_of(form, found, "none") if not run["diverged_at"]]
    return [first_step_at(run, min(reached, default=0.0)) for run in runs_of(form, found, arm, own)]


def changes(form: Form, found: Found, name: str, arm: str, own: bool = False) -> list[float]:
    """The mean of a change of gradients over each run; ∞ for a run that diverged."""
    return [
        math.inf if run["diverged_at"] else statistics.mean(value for value in run[name] if value is not None)
        for run in runs_of(form, found, arm, own)
    ]


def shifts(form: Form, found: Found, phase: str, arm: str, own: bool = True) -> list[float]:
    """The mean shift from one evaluation to the next in a phase of each run; ∞ for a run that did not finish it."""
    steps = arms_of(form)[arm]["steps"]
    start, end = (share * steps for share in PHASES[phase])
    by_run = []
    for run in runs_of(form, found, arm, own):
        values = [shift for step, shift in zip(run["steps"], run["shift"], strict=True) if start < step <= end]
        by_run.append(statistics.mean(values) if values and run["steps"][-1] >= end else math.inf)
    return by_run


def judge(form: Form, found: Found) -> Finding:
    """Applies the rule."""
    steps = {arm: steps_of(form, found, arm) for arm in ARMS}
    faster = surely_above(steps["none"], steps["shifting"])
    fast = statistics.median(steps["shifting"]) <= AS_FAST * statistics.median(steps["batch"]) < math.inf
    stable = [phase for phase in PHASES if not less_stable(form, found, phase)]
    earlier, along = ({arm: changes(form, found, name, arm) for arm in ARMS} for name in CHANGES[:2])
    missed = [f"in the {phase} of training, the noise does not make the distributions less stable" for phase in stable]
    if min(earlier["batch"]) < NO_LESS * statistics.mean(earlier["none"]):
        missed.append("batch norm lowers the change of the gradient by the earlier layers")
    if not surely_above(along["none"], along["batch"]):
        missed.append("batch norm does not lower the change of the gradient along itself in every seed")
    holds = faster and fast and len(stable) < len(PHASES)
    verdict = FAILS if not holds else CONDITIONALLY if missed else HOLDS
    edges = edge_notes(found, {WORDS[arm]: (cell, rates_of(form)) for arm, cell in arms_of(form).items()})
    verdict, conditions = within_the_sweep(verdict, "; ".join(missed) if verdict == CONDITIONALLY else "", edges)
    rows = [(arm, own) for arm in ARMS for own in (True, False) if own or arm != "none"]
    return Finding(
        verdict,
        number=f"{words(steps['shifting'])} steps with shifting noise, {words(steps['batch'])} with batch norm alone, "
        f"{words(steps['none'])} without norm",
        because=sentences(form, found),
        columns=("arm", "learning rate", "steps to the target", "test accuracy, %",
                 *(f"shift, σ, {phase}" for phase in PHASES),
                 "change by earlier layers", "change along the gradient", "loss range"),
        rows=tuple(row(form, found, *each) for each in rows),
        conditions=conditions,
        notes=edges
        + divergence_notes(found, lambda cell: WORDS[cell["arm"]]),
    )  # fmt: skip


def less_stable(form: Form, found: Found, phase: str) -> bool:
    """Whether the noise shifts more in a phase than the other arms, in every seed."""
    none, batch, shifting = (shifts(form, found, phase, arm) for arm in ARMS)
    return surely_above(shifting, none + batch)


def sentences(form: Form, found: Found) -> str:
    """The quantities in words."""
    first, *_, last = ({arm: amount(shifts(form, found, phase, arm)) for arm in ARMS} for phase in PHASES)
    earlier, along = ({arm: amount(changes(form, found, name, arm)) for arm in ARMS} for name in CHANGES[:2])
    return (
        f"From one evaluation to the next, the means of channels move by {first['shifting']} σ with the noise in the "
        f"first tenth of training, by {first['none']} σ without norm and by {first['batch']} σ with batch norm; in "
        f"the second half by {last['shifting']}, {last['none']} and {last['batch']} σ. At the best learning rate "
        f"without norm, the update of earlier layers changes a gradient by {earlier['batch']} of its norm with batch "
        f"norm, by {earlier['none']} without; steps along the gradient by {along['batch']} and {along['none']}."
    )


def amount(values) -> str:
    """The median and the range of shifts or changes."""
    return spread(values, ".2f").replace("never", "∞")


def words(steps) -> str:
    """The median and the range of steps, some of which may be infinite."""
    low, median, high = (written(of(steps), ",.0f") for of in (min, statistics.median, max))
    return f"{median} ({low}–{high})" if low != high else median


def row(form: Form, found: Found, arm: str, own: bool) -> tuple[str, ...]:
    """A row of the table."""
    rate = rate_of(form, found, arm, own)
    test = [100 * (run["test_accuracy"] or 0.0) for run in runs_of(form, found, arm, own)]
    moved = [shifts(form, found, phase, arm, own) for phase in PHASES]
    moved += [changes(form, found, name, arm, own) for name in CHANGES]
    which = "own best" if own else "best without norm"
    return (
        WORDS[arm], f"{rate:g} ({which})", words(steps_of(form, found, arm, own)), spread(test, ".1f"),
        *map(amount, moved),
    )  # fmt: skip


def draw(form: Form, found: Found):
    """The accuracy and the shift over the steps at the best rates, and the change of gradients at the common rate."""
    figure, (left, middle, right) = new_figure(
        form, "batch norm with and without stable distributions", 3, width_ratios=(1.4, 1.4, 1)
    )
    for arm, style in STYLES.items():
        runs = runs_of(form, found, arm)
        count = min(len(run["steps"]) for run in runs)
        steps, line = runs[0]["steps"][:count], ArmStyle(style.color, style.line, "")
        draw_spread(left, steps, [[100 * run["accuracy"][place] for run in runs] for place in range(count)], line)
        draw_spread(middle, steps[1:], [[run["shift"][place] for run in runs] for place in range(1, count)], line)
        values = changes(form, found, "along_gradient", arm)
        right.plot([ARMS.index(arm)] * len(values), values, style.marker, color=style.color, markersize=8)
    middle.set(yscale="log")
    right.set(xlim=(-0.6, 2.6), ylim=(0, None), xticks=[])
    label(left, x="training step", y="validation accuracy, %", title="own best learning rate")
    label(middle, x="training step", y="shift of channel means, σ", title="own best learning rate")
    label(right, y="change, relative", title="gradient along itself")
    legend(figure, {WORDS[arm]: style for arm, style in STYLES.items()})
    return figure


CLAIM = Claim(
    id="C7",
    title=CLAIMS["C7"],
    question="Does batch norm still train as fast when noise moves its outputs' mean and variance at every step?",
    method="A small VGG on 16×16 colour images (2,000 steps of 32 examples, 1.3 epochs; sketch: a fully connected "
    "network on the digits, 120 steps of 64, 6.8 epochs) trains by plain SGD without norm, with batch norm, and with "
    "shifting batch norm, whose outputs get a new random mean and scale in every channel, layer and step. Each arm "
    "takes the learning rate with the best validation accuracy of one sweep, then 5 fresh seeds at that rate and 5 at "
    "the best rate without norm (sketch: 3). The target is the validation accuracy that every seed without norm "
    "reaches within these epochs. The shift is how far the channel means of one fixed batch before a ReLU move from "
    "one evaluation to the next (50 steps; sketch: 5), with the noise drawn anew: root mean square over the channels, "
    "in standard deviations, at each arm's best rate. On the same batch, the runs measure how far a kernel's gradient "
    "changes when the layers before it are updated; and how far the gradient changes, and the loss ranges, over steps "
    "of half to four times the learning rate along the gradient. These changes are relative to the gradient's norm, "
    "with the noise held fixed, at the best rate without norm.",
    rule="In a phase of training (first tenth, next four tenths, second half), the noise makes the distributions less "
    "stable if its mean shift in every seed is above that of every seed of both other arms. The claim does not hold "
    "unless that is so in some phase, every seed with noise gets to the target in fewer steps than every seed without "
    "norm, and the median of steps with noise is at most 1.25 times that of batch norm. It holds if also the noise "
    "makes the distributions less stable in all three phases, the gradient changes less along itself in every seed "
    "with batch norm than in every seed without, and the change by earlier layers is at least 0.9 times the mean "
    "without norm in every seed with batch norm. It holds under conditions otherwise. A run that diverged does not set "
    "the target and never reaches it; its changes, and its shift in a phase that it did not finish, count as ∞. "
    + CAPPED,
    refuted_by="Training with the noise as slow as without norm.",
    literature="VGG on CIFAR-10 with batch norm and noise trains as fast as with batch norm, though its distributions "
    "are less stable than without norm. The change by earlier layers is as large with batch norm as without, or "
    "larger. The gradient changes less along itself.",
    source="Santurkar et al. 2018, How Does Batch Normalization Help Optimization?, arXiv 1805.11604",
    caption="Left: validation accuracy; middle: how far the channel means of one batch move from one evaluation to the "
    "next; median and range of the seeds. Right: how far the gradient changes along itself; each seed at the best "
    "learning rate without norm, mean over the training.",
    data=data,
    cells=cells,
    measure=measure,
    judge=judge,
    draw=draw,
    settings={"momentum of the averages": MOMENTUM, "evaluated": EVALUATED, **FIXED, **NOISE},
)
