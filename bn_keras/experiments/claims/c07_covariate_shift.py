"""C7: covariate shift does not explain batch norm's gain: noise brings the shift back, and training is as fast."""

import functools
import statistics

import keras
import numpy as np

from bn_keras.experiments.claims.claim import CONDITIONALLY, FAILS, HOLDS, Cell, Claim, Finding, Form, Found
from bn_keras.experiments.claims.figures import draw_spread, new_figure, spread, written
from bn_keras.experiments.claims.protocol import (
    divergence_notes,
    edge_notes,
    fresh_cells,
    fresh_runs,
    surely_above,
    tuned_cells,
)
from bn_keras.experiments.claims.shifting import ShiftingBatchNorm
from bn_keras.experiments.claims.smoothness import gradient_changes, mean_shift
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
# Sketches are short, and moving averages with the usual momentum of 0.99 would lag behind them.
MOMENTUM = 0.9
# An accuracy counts so many examples at most.
EVALUATED = 4_000
# Shifting batch norm is as fast as batch norm within this factor.
AS_FAST = 1.25
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
    arms, rates = arms_of(form), rates_of(form)
    wanted = [cell for arm in arms.values() for cell in tuned_cells(found, arm, rates, 3)]
    if found.has(tuning_cells([arms["none"]], rates)):
        common = best_rate(found, rates, **arms["none"])
        same = [cell for arm in arms.values() for cell in fresh_cells(arm, common, 3)]
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
    observe = None if cell["seed"] == TUNING_SEED else functools.partial(observed, every=cell["observe"])
    make = shifting_network if cell["arm"] == "shifting" else build_network
    return train_curve(recipe, data, make_network=make, observe=observe)


def shifting_network(recipe: TrainingRecipe, data: Data) -> keras.Model:
    """The network of the recipe, with shifting noise after each batch norm."""
    return build(
        recipe.preset, norm=functools.partial(ShiftingBatchNorm, momentum=MOMENTUM), classes=data.classes,
        input_shape=tuple(data.input_shape), width=recipe.width, preprocessing=data.preprocessing(), **recipe.options,
    )  # fmt: skip


def observed(trainer, evaluation, every: int) -> dict:
    """The shift between batches, and the changes of gradients; `None` between the steps that are looked at."""
    names = ("shift", "earlier_layers", "along_gradient", "loss_range")
    if evaluation.step % every:
        return dict.fromkeys(names)
    size, rate = trainer.recipe.batch_size, float(trainer.schedule.peak)
    images, labels = trainer.data.validation.inputs[: 2 * size], trainer.data.validation.labels[:size]
    shift = mean_shift(trainer.model, images[:size], images[size:])
    return dict(zip(names, (shift, *gradient_changes(trainer.model, images[:size], labels, rate)), strict=True))


def rate_of(form: Form, found: Found, arm: str, own: bool) -> float:
    """The best rate of an arm, or that of the network without norm."""
    return best_rate(found, rates_of(form), **arms_of(form)[arm if own else "none"])


def runs_of(form: Form, found: Found, arm: str, own: bool = True):
    """The fresh runs of an arm, at its own best rate or at that of the network without norm."""
    return fresh_runs(found, arm=arm, learning_rate=rate_of(form, found, arm, own))


def steps_of(form: Form, found: Found, arm: str, own: bool = True) -> list[float]:
    """The steps of each seed to the accuracy that every run without norm reaches; ∞ for a miss."""
    target = min(best_accuracy(run) for run in runs_of(form, found, "none"))
    return [first_step_at(run, target) if target else np.inf for run in runs_of(form, found, arm, own)]


def means(form: Form, found: Found, name: str, arm: str, own: bool) -> list[float]:
    """The mean of a quantity over each run, of the runs that did not diverge."""
    runs = [run for run in runs_of(form, found, arm, own) if not run["diverged_at"]]
    return [statistics.mean(value for value in run[name] if value is not None) for run in runs]


def judge(form: Form, found: Found) -> Finding:
    """Applies the rule."""
    steps = {arm: steps_of(form, found, arm) for arm in ARMS}
    same = {name: {arm: means(form, found, name, arm, False) for arm in ARMS} for name in
            ("shift", "earlier_layers", "along_gradient")}  # fmt: skip
    complete = all(values for by_arm in same.values() for values in by_arm.values())
    shifts = complete and surely_above(same["shift"]["shifting"], same["shift"]["none"])
    faster = surely_above(steps["none"], steps["shifting"])
    fast = statistics.median(steps["shifting"]) <= AS_FAST * statistics.median(steps["batch"]) < np.inf
    missed = []
    if not (complete and not surely_above(same["earlier_layers"]["none"], same["earlier_layers"]["batch"])):
        missed.append("batch norm lowers the change of the gradient by the earlier layers")
    if not (complete and surely_above(same["along_gradient"]["none"], same["along_gradient"]["batch"])):
        missed.append("batch norm does not lower the change of the gradient along itself in every seed")
    verdict = FAILS if not (shifts and faster and fast) else CONDITIONALLY if missed else HOLDS
    rows = [(arm, own) for arm in ARMS for own in (True, False) if own or arm != "none"]
    return Finding(
        verdict,
        number=f"{words(steps['shifting'])} steps with shifting noise, {words(steps['batch'])} with batch norm alone, "
        f"{words(steps['none'])} without norm",
        because=sentences(same),
        columns=("arm", "learning rate", "steps to the target", "test accuracy, %", "shift of means, σ",
                 "change by earlier layers", "change along the gradient", "loss range"),
        rows=tuple(row(form, found, *each) for each in rows),
        conditions="; ".join(missed) if verdict == CONDITIONALLY else "",
        notes=edge_notes(found, {WORDS[arm]: (cell, rates_of(form)) for arm, cell in arms_of(form).items()})
        + divergence_notes(found, lambda cell: WORDS[cell["arm"]]),
    )  # fmt: skip


def sentences(same) -> str:
    """The quantities at the common rate in words."""
    shift, earlier, along = (
        {arm: spread(values, ".2f") for arm, values in same[name].items()}
        for name in ("shift", "earlier_layers", "along_gradient")
    )
    return (
        f"The noise moves the means of channels between batches by {shift['shifting']} σ, against {shift['none']} σ "
        f"without norm and {shift['batch']} σ with batch norm. At the best learning rate without norm, the update of "
        f"earlier layers changes a gradient by {earlier['batch']} of its norm with batch norm, by {earlier['none']} "
        f"without; steps along the gradient by {along['batch']} and {along['none']}."
    )


def words(steps) -> str:
    """The median and the range of steps, some of which may be infinite."""
    low, median, high = (written(of(steps), ".0f") for of in (min, statistics.median, max))
    return f"{median} ({low}–{high})" if low != high else median


def row(form: Form, found: Found, arm: str, own: bool) -> tuple[str, ...]:
    """A row of the table."""
    rate = rate_of(form, found, arm, own)
    test = [100 * (run["test_accuracy"] or 0.0) for run in runs_of(form, found, arm, own)]
    changes = [
        spread(means(form, found, name, arm, own), ".2f")
        for name in ("shift", "earlier_layers", "along_gradient", "loss_range")
    ]
    which = "own best" if own else "best without norm"
    return WORDS[arm], f"{rate:g} ({which})", words(steps_of(form, found, arm, own)), spread(test, ".1f"), *changes


def draw(form: Form, found: Found):
    """The accuracy at the best rates, and the shift and the change of gradients at the common rate."""
    figure, (left, middle, right) = new_figure(
        form, "batch norm with and without stable distributions", 3, width_ratios=(1.6, 1, 1)
    )
    for arm, style in STYLES.items():
        runs = runs_of(form, found, arm)
        count = min(len(run["steps"]) for run in runs)
        rows = [[100 * run["accuracy"][place] for run in runs] for place in range(count)]
        draw_spread(left, runs[0]["steps"][:count], rows, ArmStyle(style.color, style.line, ""))
        for axes, name in ((middle, "shift"), (right, "along_gradient")):
            values = means(form, found, name, arm, own=False)
            axes.plot([ARMS.index(arm)] * len(values), values, style.marker, color=style.color, markersize=8)
    for axes in (middle, right):
        axes.set(xlim=(-0.6, 2.6), ylim=(0, None), xticks=[])
    label(left, x="training step", y="validation accuracy, %", title="each arm at its best learning rate")
    label(middle, y="shift of channel means, σ", title="between two batches")
    label(right, y="change, relative", title="of the gradient along itself")
    legend(figure, {WORDS[arm]: style for arm, style in STYLES.items()})
    return figure


CLAIM = Claim(
    id="C7",
    title="Covariate shift does not explain the gain of batch norm; a smoother loss does",
    question="Does batch norm still train as fast when noise moves its outputs' mean and variance at every step?",
    method="A small VGG on 16×16 colour images (sketch: a fully connected network on the digits) trains by plain SGD "
    "without norm, with batch norm, and with shifting batch norm, whose outputs get a new random mean and scale in "
    "every channel, layer and step. Each arm takes the learning rate with the best validation accuracy of one sweep, "
    "then 3 fresh seeds at that rate and 3 at the best rate without norm. The target is the validation accuracy that "
    "every seed without norm reaches. On the way, the runs measure on fixed examples how far channel means before a "
    "ReLU move between two batches; how far a kernel's gradient changes when the layers before it are updated; and "
    "how far the gradient changes, and the loss ranges, over steps of half to four times the learning rate along the "
    "gradient. Changes of gradients are relative to their norm, with the noise held fixed.",
    rule="Does not hold unless the noise moves the means of every seed more than those of every seed without norm, "
    "every seed with noise gets to the target in fewer steps than every seed without norm, and the median of steps "
    "with noise is at most 1.25 times that of batch norm. Holds if also, at the best rate without norm, the gradient "
    "changes less along itself in every seed with batch norm than in every seed without, but the change by earlier "
    "layers is not smaller in every seed. Holds under conditions otherwise. A run that diverged never reaches the "
    "target.",
    refuted_by="Training with the noise as slow as without norm.",
    literature="VGG on CIFAR-10 with batch norm and noise trains as fast as with batch norm, though its distributions "
    "are less stable than without norm; the gradient changes less along itself.",
    source="Santurkar et al. 2018, How Does Batch Normalization Help Optimization?, arXiv 1805.11604",
    caption="Left: validation accuracy, median and range of the seeds. Middle: how far the means of channels move "
    "between two batches; right: how far the gradient changes along itself; each seed at the best learning rate "
    "without norm, mean over the training.",
    data=data,
    cells=cells,
    measure=measure,
    judge=judge,
    draw=draw,
)
