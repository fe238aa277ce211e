"""C4: batch norm makes networks with sigmoids trainable."""

import statistics
from collections.abc import Callable

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
from bn_keras.experiments.claims.mnist_figure import OWN, SLOW
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
from bn_keras.experiments.claims.training import best_rate, train_curve, tuning_cells
from bn_keras.experiments.claims.two_arms import (
    ARM_STYLES,
    ARMS,
    BATCH,
    NONE,
    WITH,
    WORDS,
    build_sigmoid_network,
    final_accuracy,
    norm_of,
    words_of_arm,
)
from bn_keras.experiments.comparison.figure_style import ArmStyle, label, legend
from bn_keras.experiments.training_recipe import TrainingRecipe

MLP = "the MLP"
WIDTH, BATCH_SIZE = 0.125, 32
CHANCE = 0.1
# Points of accuracy that are more than the noise of seeds.
MARGIN = 0.02
NEEDED, HELPS, HURTS, NEITHER = "needed", "helps", "hurts", "no clear difference"
EFFECTS = {NEEDED: "is needed by", HELPS: "helps", HURTS: "hurts", NEITHER: "makes no clear difference to"}


def data(form: Form) -> list[str]:
    """The digits, and colour images for the deep network."""
    return ["digits"] if form.quick else ["mnist", form.images]


def deep_name(form: Form) -> str:
    """The deep network in words."""
    return "VGG" if form.quick else "Inception"


def deep_arm(form: Form, arm: str, tuning: bool = False) -> Cell:
    """The settings that all runs of an arm of the deep network share."""
    if form.quick:
        return {"network": "vgg_small", "data": "digits", "image_size": 8, "norm": arm, "steps": 80}
    size = {"data": form.images, "image_size": 16, "steps": 2_000 if tuning else 4_000}
    return {"network": "inception_small", "norm": arm} | size


def deep_rates(form: Form, found: Found) -> tuple[float, ...]:
    """The learning rates that both arms of the deep network try."""
    planned = (0.003, 0.03, 0.3) if form.quick else (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
    return swept_rates(found, [deep_arm(form, arm, tuning=True) for arm in ARMS], planned)


def deep_pair(form: Form, found: Found) -> dict[str, Cell]:
    """What the fresh runs of both arms of the deep network share, with their learning rate."""
    rates = deep_rates(form, found)
    return {
        arm: deep_arm(form, arm) | {"learning_rate": best_rate(found, rates, **deep_arm(form, arm, tuning=True))}
        for arm in ARMS
    }


def contrasts(form: Form, found: Found) -> dict[tuple[str, str], dict[str, Cell]]:
    """By network and setting: the settings and the learning rate of both arms."""
    mlp = mnist_figure.pairs_of(form, found, (SLOW, OWN))
    return {(MLP, SLOW): mlp[SLOW], (MLP, OWN): mlp[OWN], (deep_name(form), OWN): deep_pair(form, found)}


def cells(form: Form, found: Found) -> list[Cell]:
    """The sweeps, and then the fresh seeds."""
    tuning = tuning_cells([deep_arm(form, arm, tuning=True) for arm in ARMS], deep_rates(form, found))
    first = [*mnist_figure.cells(form, found, (SLOW, OWN)), *tuning]
    if not found.has(tuning):
        return first
    seeds = 3 if form.quick else 5
    runs = deep_pair(form, found).values()
    return distinct([*first, *(cell for run in runs for cell in fresh_cells(run, run["learning_rate"], seeds))])


def measure(cell: Cell, load: Callable) -> Values:
    """The curve of one run."""
    if SHARED in cell:
        return mnist_figure.measure(cell, load)
    digits = cell["data"] == "digits"
    recipe = TrainingRecipe(
        preset=cell["network"], width=WIDTH, data=cell["data"], image_size=cell["image_size"], norm=norm_of(cell),
        optimizer="momentum", learning_rate=cell["learning_rate"], batch_size=BATCH_SIZE, steps=cell["steps"],
        evaluate_every=cell["steps"] // (10 if digits else 40), validation_examples=300 if digits else 2_000,
        evaluation_examples=2_000, seed=cell["seed"],
    )  # fmt: skip
    examples = load(cell["data"], image_size=cell["image_size"])
    return train_curve(recipe, examples, make_network=build_sigmoid_network)


def accuracies(found: Found, pair: dict[str, Cell]) -> dict[str, list[float]]:
    """The test accuracy of each fresh seed of both arms."""
    return {arm: [final_accuracy(values) for values in fresh_runs(found, **pair[arm])] for arm in ARMS}


def effect(rows: dict[str, list[float]]) -> str:
    """Whether a network needs batch norm to train, is helped or hurt by it, or neither."""
    half_way = (CHANCE + statistics.median(rows[BATCH])) / 2
    if min(rows[BATCH]) > half_way >= max(rows[NONE]):
        return NEEDED
    if min(rows[BATCH]) - max(rows[NONE]) > MARGIN:
        return HELPS
    return HURTS if min(rows[NONE]) - max(rows[BATCH]) > MARGIN else NEITHER


def words_of(effects: dict[tuple[str, str], str]) -> str:
    """Which networks need batch norm, which ones it helps or hurts, and to which it makes no clear difference."""
    parts = []
    for what, verb in EFFECTS.items():
        names = [f"{network} at {setting}" for (network, setting), own in effects.items() if own == what]
        if names:
            parts.append(f"{verb} {' and '.join(names)}")
    return "; it ".join(parts)


def judge(form: Form, found: Found) -> Finding:
    """Applies the rule."""
    pairs = contrasts(form, found)
    rows = {key: accuracies(found, pair) for key, pair in pairs.items()}
    effects = {key: effect(row) for key, row in rows.items()}
    needed = all(what == NEEDED for (_, setting), what in effects.items() if setting == OWN)
    verdict = HOLDS if needed else CONDITIONALLY if {NEEDED, HELPS} & {*effects.values()} else FAILS
    words, mlp = words_of(effects), rows[MLP, OWN]
    trains = "trains" if statistics.median(mlp[NONE]) > (CHANCE + statistics.median(mlp[BATCH])) / 2 else "fails"
    edges = edge_notes(found, sweeps_of(form, found))
    verdict, conditions = within_the_sweep(verdict, words if verdict == CONDITIONALLY else "", edges)
    return Finding(
        verdict,
        number=f"MLP at 0.01: {spread(rows[MLP, SLOW][NONE])} without norm, {spread(rows[MLP, SLOW][BATCH])} with; "
        f"at each arm's best rate {spread(mlp[NONE])} and {spread(mlp[BATCH])}",
        because=f"Within these steps batch norm {words}. The MLP without norm {trains} at its best rate.",
        columns=("network", "setting", "arm", "learning rate", "test accuracy", "batch norm"),
        rows=tuple(
            (network, setting, WORDS[arm], f"{pairs[network, setting][arm]['learning_rate']:g}",
             spread(rows[network, setting][arm]), effects[network, setting] if arm == BATCH else "")
            for network, setting in pairs for arm in ARMS
        ),
        conditions=conditions,
        notes=(
            *edges,
            *(rise_note(f"{network} without norm at {setting}", fresh_runs(found, **pair[NONE]))
              for (network, setting), pair in pairs.items()),
            *divergence_notes(found, words_of_arm),
        ),
    )  # fmt: skip


def sweeps_of(form: Form, found: Found) -> dict[str, tuple[Cell, tuple[float, ...]]]:
    """The settings and the learning rates of the tuning of each network and arm."""
    rates = deep_rates(form, found)
    return mnist_figure.sweeps(form, found) | {
        f"{deep_name(form)} {WITH[arm]}": (deep_arm(form, arm, tuning=True), rates) for arm in ARMS
    }


def draw(form: Form, found: Found):
    """Validation accuracy over the steps, a panel for each network and setting."""
    pairs = contrasts(form, found)
    figure, panels = new_figure(form, "sigmoids with and without batch norm", len(pairs), sharey=True)
    for axes, ((network, setting), pair) in zip(panels, pairs.items(), strict=True):
        for arm in ARMS:
            runs = [values for values in fresh_runs(found, **pair[arm]) if not values["diverged_at"]]
            if runs:
                style = ARM_STYLES[WORDS[arm]]
                rows = list(zip(*(run["accuracy"] for run in runs), strict=True))
                draw_spread(axes, runs[0]["steps"], rows, ArmStyle(style.color, style.line, ""))
                axes.plot(
                    runs[0]["steps"][-1], statistics.median(rows[-1]), style.marker, color=style.color, clip_on=False
                )
        label(axes, x="steps", y="validation accuracy" * (axes is panels[0]), title=f"{network},\n{setting}")
        axes.locator_params(axis="x", nbins=4)
    panels[0].set_ylim(0, 1)
    legend(figure, ARM_STYLES)
    return figure


CLAIM = Claim(
    id="C4",
    title=CLAIMS["C4"],
    question="Does a network with sigmoids train without batch norm, at the same rate and at its own best rate?",
    method=f"{mnist_figure.METHOD} They train at the rate 0.01 and at each arm's best rate. `inception_small` with "
    "sigmoids, width 0.125, colour images of 16×16 pixels, SGD with momentum 0.9, batch 32, 4,000 steps (2.7 epochs), "
    "at each arm's best of six rates from 0.003 to 1 (one run of 2,000 steps each), and more beyond an edge. Five "
    "fresh seeds. The quick form takes the digits, and `vgg_small` for Inception.",
    rule="Batch norm is needed where every run with it ends above, and every run without it at or below, half the way "
    "from chance to the median with it. It helps where the worst run with it is more than 2 points better than the "
    "best one without, and hurts where the worst run without it is more than 2 points better than the best one with "
    "it. Otherwise there is no clear difference. There are three contrasts. Holds if it is needed in both networks at "
    "the best rates, and no best rate lies at an edge of its sweep. Holds under conditions if it is needed or helps "
    "anywhere. Does not hold otherwise. A run that diverges counts as 0.",
    refuted_by="Networks without norm that train as well at their best rates.",
    literature="Udacity's unofficial re-implementation of the MLP after 50,000 steps, one run each: 82.7 % without "
    "norm and 97.3 % with batch norm at the rate 0.01, 97.8 % both at the rate 2. Sigmoid Inception on ImageNet (the "
    "paper): chance without, 69.8 % with batch norm.",
    source="Ioffe & Szegedy 2015, sections 4.1 and 4.2.2, arXiv 1502.03167; Udacity Deep Learning, batch norm lesson, "
    "https://github.com/udacity/deep-learning/blob/master/batch-norm/Batch_Normalization_Lesson.ipynb",
    caption="Validation accuracy over the steps; median and range of the fresh seeds.",
    data=data,
    cells=cells,
    measure=measure,
    judge=judge,
    draw=draw,
    settings={"section 4.1": mnist_figure.FIXED, "width": WIDTH, "batch": BATCH_SIZE},
)
