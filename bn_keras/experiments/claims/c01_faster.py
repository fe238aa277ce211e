"""C1: batch norm reaches the same accuracy in fewer steps."""

import statistics
from collections.abc import Sequence

from bn_keras.experiments.claims.claim import CONDITIONALLY, FAILS, HOLDS, Cell, Claim, Finding, Form, Found, Values
from bn_keras.experiments.claims.figures import draw_spread, new_figure, spread
from bn_keras.experiments.claims.paper_arms import (
    BASELINE,
    INCEPTION,
    PAPER_ARMS,
    X5,
    train_paper_arm,
    training_seconds,
)
from bn_keras.experiments.claims.protocol import distinct, divergence_notes, edge_notes, fresh_cells, fresh_runs
from bn_keras.experiments.claims.speedups import Speedup, speedup, target_of, times, words_of
from bn_keras.experiments.claims.training import best_accuracy, best_rate, train_curve, tuning_cells
from bn_keras.experiments.claims.two_arms import ARMS, BATCH, NONE, WITH, WORDS, norm_of
from bn_keras.experiments.comparison.figure_style import SMALL, STYLES, ArmStyle, label, legend
from bn_keras.experiments.training_recipe import TrainingRecipe
from bn_keras.lab.plot import SKY

CONTROLLED, PAPER = "controlled", "section 4.2"
SAME, OWN = "batch norm, same rate", "batch norm, best rate"
HARD, EASY = "best accuracy without norm", "twice its errors"
LEFT_STYLES = {WORDS[NONE]: STYLES[NONE], SAME: STYLES[BATCH], OWN: ArmStyle(SKY, "-.", "^")}


def data(form: Form) -> list[str]:
    """The digits, and colour images for Inception."""
    return ["digits"] if form.quick else ["mnist", form.images]


def controlled_arm(form: Form, arm: str) -> Cell:
    """The settings that all controlled runs of an arm share."""
    return {"part": CONTROLLED, "data": data(form)[0], "norm": arm, "steps": 800 if form.quick else 10_000}


def controlled_rates(form: Form) -> tuple[float, ...]:
    """The learning rates of the controlled part."""
    return (0.1, 1.0, 3.0, 10.0) if form.quick else (0.1, 0.3, 1.0, 3.0, 10.0)


def paper_arm(form: Form, name: str) -> Cell:
    """The settings that all runs of an arm of section 4.2 share."""
    size = {"network": "inception_small", "data": form.images, "image_size": 16, "steps": 3_000}
    sketch = {"network": "mlp_relu_deep", "data": "digits", "image_size": 8, "steps": 240}
    return {"part": PAPER, "arm": name, "norm": PAPER_ARMS[name].norm} | (sketch if form.quick else size)


def paper_names(form: Form) -> list[str]:
    """The arms of section 4.2."""
    return [INCEPTION, BASELINE, X5] if form.quick else list(PAPER_ARMS)


def paper_rates(form: Form) -> tuple[float, ...]:
    """The learning rates of Inception."""
    return (0.01, 0.03, 0.1) if form.quick else (0.003, 0.01, 0.03, 0.1, 0.3)


def controlled_runs(form: Form, found: Found) -> dict[str, Cell]:
    """The settings and learning rates of the controlled arms."""
    best = {arm: best_rate(found, controlled_rates(form), **controlled_arm(form, arm)) for arm in ARMS}
    pairs = {WORDS[NONE]: (NONE, best[NONE]), SAME: (BATCH, best[NONE]), OWN: (BATCH, best[BATCH])}
    return {name: controlled_arm(form, arm) | {"learning_rate": rate} for name, (arm, rate) in pairs.items()}


def paper_runs(form: Form, found: Found) -> dict[str, Cell]:
    """The settings and learning rates of the arms of section 4.2."""
    base = best_rate(found, paper_rates(form), **paper_arm(form, INCEPTION))
    return {
        name: paper_arm(form, name) | {"learning_rate": round(base * PAPER_ARMS[name].rate, 6)}
        for name in paper_names(form)
    }


def cells(form: Form, found: Found) -> list[Cell]:
    """The sweeps, and then the fresh seeds."""
    tuning = tuning_cells([controlled_arm(form, arm) for arm in ARMS], controlled_rates(form))
    tuning += tuning_cells([paper_arm(form, INCEPTION)], paper_rates(form))
    if not found.has(tuning):
        return tuning
    seeds = [(run, 3 if form.quick else 5) for run in controlled_runs(form, found).values()]
    seeds += [(run, 3) for run in paper_runs(form, found).values()]
    return distinct(
        [*tuning, *(cell for run, count in seeds for cell in fresh_cells(run, run["learning_rate"], count))]
    )


def measure(cell: Cell, load) -> Values:
    """The curve of one run."""
    if cell["part"] == PAPER:
        return train_paper_arm(cell, load)
    recipe = TrainingRecipe(
        preset="mlp_sigmoid", data=cell["data"], norm=norm_of(cell), optimizer="sgd", batch_size=60,
        learning_rate=cell["learning_rate"], steps=cell["steps"],
        evaluate_every=25 if cell["data"] == "digits" else 100,
        validation_examples=300 if cell["data"] == "digits" else 5_000, seed=cell["seed"],
    )  # fmt: skip
    return train_curve(recipe, load(cell["data"]), observe=training_seconds)


def speedups(form: Form, found: Found) -> dict[tuple[str, str], Speedup]:
    """The speed-up of each arm of both parts, by arm and target."""
    controlled = {name: fresh_runs(found, **run) for name, run in controlled_runs(form, found).items()}
    paper = {name: fresh_runs(found, **run) for name, run in paper_runs(form, found).items()}
    own, inception = controlled[WORDS[NONE]], paper[INCEPTION]
    best = target_of(own)
    return {
        (name, words): speedup(own, runs, target)
        for words, target in ((HARD, best), (EASY, 1 - 2 * (1 - best)))
        for name, runs in controlled.items()
    } | {(name, HARD): speedup(inception, runs, target_of(inception)) for name, runs in paper.items()}


def judge(form: Form, found: Found) -> Finding:
    """Applies the rule."""
    gains = speedups(form, found)
    runs = controlled_runs(form, found) | paper_runs(form, found)
    needed = ((OWN, HARD), (OWN, EASY), (BASELINE, HARD), (X5, HARD))
    clear = [key for key, gain in gains.items() if runs[key[0]]["norm"] == BATCH and gain.clear]
    verdict = HOLDS if set(needed) <= set(clear) else CONDITIONALLY if clear else FAILS
    return Finding(
        verdict,
        number=f"fewer steps: {words_of(gains[OWN, HARD])} at each arm's best rate, {words_of(gains[SAME, HARD])} at "
        f"the same rate; {BASELINE} {words_of(gains[BASELINE, HARD])}, {X5} {words_of(gains[X5, HARD])}",
        because=f"Clearly faster: {names_of(clear) or 'no arm with batch norm'}.",
        columns=("arm", "target", "learning rate", "steps to the target", "fewer steps", "less time", "best accuracy"),
        rows=tuple(
            (name, target, f"{runs[name]['learning_rate']:g}", spread(gain.crossings, ",.0f"),
             words_of(gain), f"×{times(gain.ratio / gain.cost)}",
             spread([best_accuracy(run) for run in fresh_runs(found, **runs[name])]))
            for (name, target), gain in gains.items()
        ),
        conditions=names_of(clear) if verdict == CONDITIONALLY else "",
        notes=(
            *edge_notes(found, sweeps_of(form)),
            *literature_notes(form, found),
            *divergence_notes(found, name_of),
        ),
    )  # fmt: skip


def names_of(clear: Sequence[tuple[str, str]]) -> str:
    """Arms with the targets that they reach faster; the arms of section 4.2 have only one."""
    targets: dict[str, list[str]] = {}
    for name, target in clear:
        targets.setdefault(name, []).append(target)
    return "; ".join(
        name if name in PAPER_ARMS else f"{name} (to {' and '.join(own)})" for name, own in targets.items()
    )


def literature_notes(form: Form, found: Found) -> list[str]:
    """Whether Inception diverges at five times its rate, and stays at chance with sigmoids."""
    if form.quick:
        return []
    runs = {name: fresh_runs(found, **run) for name, run in paper_runs(form, found).items()}
    lost = sum(bool(run["diverged_at"]) for run in runs["Inception-x5"])
    best = [best_accuracy(run) for run in runs["Inception-Sigmoid"]]
    return [
        f"{INCEPTION} at 5 times its rate: {lost} of {len(runs['Inception-x5'])} runs diverge; its best accuracy is "
        f"{spread([best_accuracy(run) for run in runs['Inception-x5']])}.",
        f"{INCEPTION} with sigmoids reaches {spread(best)}; chance is 0.1.",
    ]


def sweeps_of(form: Form) -> dict[str, tuple[Cell, tuple[float, ...]]]:
    """The settings and the learning rates of the arms that are tuned."""
    arms = {WITH[arm]: (controlled_arm(form, arm), controlled_rates(form)) for arm in ARMS}
    return arms | {INCEPTION: (paper_arm(form, INCEPTION), paper_rates(form))}


def name_of(cell: Cell) -> str:
    """The arm of a cell of either part."""
    return cell["arm"] if cell["part"] == PAPER else WITH[cell["norm"]]


def draw(form: Form, found: Found):
    """Validation accuracy over the steps, of the controlled arms and of those of section 4.2."""
    figure, (left, right) = new_figure(form, "steps to the same accuracy", 2, height=4.6)
    draw_curves(left, form, found, controlled_runs(form, found), LEFT_STYLES)
    styles = {name: PAPER_ARMS[name].style for name in paper_names(form)}
    draw_curves(right, form, found, paper_runs(form, found), styles)
    target = target_of(fresh_runs(found, **controlled_runs(form, found)[WORDS[NONE]]))
    left.axhline(target, color=STYLES[NONE].color, linewidth=1, linestyle=":")
    right.axhline(
        target_of(fresh_runs(found, **paper_runs(form, found)[INCEPTION])), color=STYLES[NONE].color, linewidth=1,
        linestyle=":",
    )  # fmt: skip
    left.set_ylim(max(0.0, 1 - 8 * (1 - target)), None)
    left.legend(frameon=False, fontsize=SMALL, handlelength=3.2, loc="lower right")
    label(left, x="steps", y="validation accuracy", title="sigmoid MLP; dotted: the target")
    label(right, x="steps", title="the arms of section 4.2")
    legend(figure, styles)
    return figure


def draw_curves(axes, form: Form, found: Found, runs: dict[str, Cell], styles: dict[str, ArmStyle]) -> None:
    """Medians and ranges of the seeds of each arm that did not diverge, with a few markers."""
    for name, run in runs.items():
        curves = [values for values in fresh_runs(found, **run) if not values["diverged_at"]]
        if not curves:
            continue
        style, steps = styles[name], curves[0]["steps"]
        rows = list(zip(*(curve["accuracy"] for curve in curves), strict=True))
        draw_spread(axes, steps, rows, ArmStyle(style.color, style.line, ""))
        every = slice(len(steps) // 5, None, len(steps) // 5)
        axes.plot(steps[every], [statistics.median(row) for row in rows][every], style.marker, color=style.color)
        axes.plot([], [], color=style.color, linestyle=style.line, marker=style.marker, label=name)


CLAIM = Claim(
    id="C1",
    title="Batch norm reaches the same accuracy in fewer steps",
    question="How many times fewer steps does batch norm need to the best accuracy of the network without norm?",
    method="Controlled: the paper's network of three layers of 100 sigmoids on MNIST, plain SGD, batch 60, 10,000 "
    "steps, without norm and with batch norm, five rates from 0.1 to 10 each (one tuning run), then five fresh seeds. "
    "The target is the median over seeds of the best validation accuracy without norm, and an easier one with twice "
    "its errors. The arms of section 4.2: `inception_small`, width 0.125, colour images of 16×16 pixels, SGD with "
    "momentum 0.9, batch 32, 3,000 steps, three seeds. The base rate is the best of five for Inception. Of the "
    "section's changes these apply: a 5 or 30 times higher rate, no dropout (here 0.2), a fifth of the weight decay, "
    "a six times faster decay of the rate, no photometric augmentation. Local response normalization and the "
    'shuffling within shards have no counterpart here. "Inception, changed" has these changes without batch norm '
    "and at its own rate. The quick form: the digits; five ReLU layers for Inception.",
    rule="An arm is clearly faster if its slowest seed is at the target before the fastest seed without norm, and the "
    "medians are at least a factor of 1.2 apart. A miss or a divergence counts as infinitely many steps. Holds if the "
    "controlled arm at its best rate is clearly faster to both targets, and so are BN-Baseline and BN-x5. Holds under "
    "conditions if any arm with batch norm is clearly faster to any target. Does not hold otherwise.",
    refuted_by="As many steps as without norm when both arms have their best rate.",
    literature="ImageNet: BN-Baseline 2.3 times, BN-x5 14.8 times, BN-x30 11.5 times fewer steps, one run each. A "
    "small tuned MLP: 2.4 times.",
    source="Ioffe & Szegedy 2015, section 4.2, arXiv 1502.03167; Géron 2019, Hands-On Machine Learning",
    caption="Validation accuracy over the steps; median and range of the fresh seeds that did not diverge.",
    data=data,
    cells=cells,
    measure=measure,
    judge=judge,
    draw=draw,
)
