"""C4: batch norm makes networks with sigmoids trainable."""

import statistics
from collections.abc import Callable

from bn_keras.experiments.claims.claim import CONDITIONALLY, FAILS, HOLDS, Cell, Claim, Finding, Form, Found
from bn_keras.experiments.claims.figures import draw_spread, new_figure, spread
from bn_keras.experiments.claims.protocol import distinct, divergence_notes, edge_notes, fresh_cells, fresh_runs
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

MLP = "mlp_sigmoid"
WORDS_OF = {MLP: "the MLP", "inception_small": "Inception", "vgg_small": "VGG"}
FIXED, OWN = "the rate 0.01", "each arm's best rate"
FIXED_RATE = 0.01
CHANCE = 0.1
# Points of accuracy that are more than the noise of seeds.
MARGIN = 0.02
SEEDS = 3
EFFECTS = {"needed": "is needed by", "helps": "helps", "no difference": "makes no difference to"}


def data(form: Form) -> list[str]:
    """The digits, and colour images for the deep network."""
    return ["digits"] if form.quick else ["mnist", form.images]


def networks(form: Form) -> dict[str, dict]:
    """The settings, the steps of the tuning and of the runs, and the learning rates of each network."""
    if form.quick:  # the same steps for both, which compiles one trainer for both
        settings = {"data": "digits", "image_size": 8}
        return {
            MLP: {"settings": settings, "tuning": 400, "steps": 400, "rates": (0.01, 0.1, 1.0, 10.0)},
            "vgg_small": {"settings": settings, "tuning": 80, "steps": 80, "rates": (0.003, 0.03, 0.3)},
        }
    colour = {"data": form.images, "image_size": 16}
    return {
        MLP: {"settings": {"data": "mnist", "image_size": 28}, "tuning": 10_000, "steps": 50_000,
              "rates": (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)},
        "inception_small": {"settings": colour, "tuning": 2_000, "steps": 4_000,
                            "rates": (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)},
    }  # fmt: skip


def arm_of(form: Form, network: str, arm: str, length: str) -> Cell:
    """The settings that all runs of an arm share; `length` is `"tuning"` or `"steps"`."""
    plan = networks(form)[network]
    return plan["settings"] | {"network": network, "norm": arm, "steps": plan[length]}


def chosen_rate(form: Form, found: Found, network: str, arm: str) -> float:
    """The learning rate of an arm's best tuning run."""
    return best_rate(found, networks(form)[network]["rates"], **arm_of(form, network, arm, "tuning"))


def contrasts(form: Form, found: Found) -> dict[tuple[str, str], dict[str, Cell]]:
    """By network and setting: the settings and the learning rate of both arms."""
    settings = [(MLP, FIXED), *((network, OWN) for network in networks(form))]
    return {
        (network, setting): {
            arm: arm_of(form, network, arm, "steps")
            | {"learning_rate": FIXED_RATE if setting == FIXED else chosen_rate(form, found, network, arm)}
            for arm in ARMS
        }
        for network, setting in settings
    }


def cells(form: Form, found: Found) -> list[Cell]:
    """The sweeps, and then the fresh seeds."""
    tuning = [
        cell
        for network, plan in networks(form).items()
        for cell in tuning_cells([arm_of(form, network, arm, "tuning") for arm in ARMS], plan["rates"])
    ]
    if not found.has(tuning):
        return tuning
    arms = [arm for pair in contrasts(form, found).values() for arm in pair.values()]
    return distinct([*tuning, *(cell for arm in arms for cell in fresh_cells(arm, arm["learning_rate"], SEEDS))])


def measure(cell: Cell, load: Callable) -> dict:
    """The curve of one run."""
    digits = cell["data"] == "digits"
    common = {
        "preset": cell["network"], "data": cell["data"], "image_size": cell["image_size"], "norm": norm_of(cell),
        "learning_rate": cell["learning_rate"], "steps": cell["steps"],
        "evaluate_every": cell["steps"] // (10 if digits else 20),
        "validation_examples": 300 if digits else 2_000, "seed": cell["seed"],
    }  # fmt: skip
    examples = load(cell["data"], image_size=cell["image_size"])
    if cell["network"] == MLP:
        return train_curve(TrainingRecipe(**common, optimizer="sgd", batch_size=60), examples)
    recipe = TrainingRecipe(**common, width=0.125, optimizer="momentum", batch_size=32, evaluation_examples=2_000)
    return train_curve(recipe, examples, make_network=build_sigmoid_network)


def accuracies(found: Found, pair: dict[str, Cell]) -> dict[str, list[float]]:
    """The test accuracy of each fresh seed of both arms."""
    return {arm: [final_accuracy(values) for values in fresh_runs(found, **pair[arm])] for arm in ARMS}


def effect(rows: dict[str, list[float]]) -> str:
    """Whether a network needs batch norm to train, is helped by it, or neither."""
    half_way = (CHANCE + statistics.median(rows[BATCH])) / 2
    if min(rows[BATCH]) > half_way >= max(rows[NONE]):
        return "needed"
    return "helps" if min(rows[BATCH]) - max(rows[NONE]) > MARGIN else "no difference"


def words_of(effects: dict[tuple[str, str], str]) -> str:
    """Which networks need batch norm, which ones it helps, and to which it makes no difference."""
    parts = []
    for what, verb in EFFECTS.items():
        names = [f"{WORDS_OF[network]} at {setting}" for (network, setting), own in effects.items() if own == what]
        if names:
            parts.append(f"{verb} {' and '.join(names)}")
    return "; it ".join(parts)


def judge(form: Form, found: Found) -> Finding:
    """Applies the rule."""
    pairs = contrasts(form, found)
    rows = {key: accuracies(found, pair) for key, pair in pairs.items()}
    effects = {key: effect(row) for key, row in rows.items()}
    needed = all(what == "needed" for (_, setting), what in effects.items() if setting == OWN)
    some = any(what != "no difference" for what in effects.values())
    verdict = HOLDS if needed else CONDITIONALLY if some else FAILS
    words = words_of(effects)
    mlp = rows[MLP, OWN]
    trains = "trains" if statistics.median(mlp[NONE]) > (CHANCE + statistics.median(mlp[BATCH])) / 2 else "fails"
    sweeps = {
        f"{WORDS_OF[network]} {WITH[arm]}": (arm_of(form, network, arm, "tuning"), plan["rates"])
        for network, plan in networks(form).items() for arm in ARMS
    }  # fmt: skip
    return Finding(
        verdict,
        number=f"MLP at 0.01: {spread(rows[MLP, FIXED][NONE])} without norm, {spread(rows[MLP, FIXED][BATCH])} with; "
        f"at each arm's best rate {spread(mlp[NONE])} and {spread(mlp[BATCH])}",
        because=f"Batch norm {words}. The MLP without norm {trains} at its best rate.",
        columns=("network", "setting", "arm", "learning rate", "test accuracy", "batch norm"),
        rows=tuple(
            (WORDS_OF[network], setting, WORDS[arm], f"{pairs[network, setting][arm]['learning_rate']:g}",
             spread(rows[network, setting][arm]), effects[network, setting] if arm == BATCH else "")
            for network, setting in pairs for arm in ARMS
        ),
        conditions=words if verdict == CONDITIONALLY else "",
        notes=edge_notes(found, sweeps) + divergence_notes(found, words_of_arm),
    )  # fmt: skip


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
        label(axes, x="steps", y="validation accuracy" * (axes is panels[0]), title=f"{WORDS_OF[network]},\n{setting}")
        axes.locator_params(axis="x", nbins=4)
    panels[0].set_ylim(0, 1)
    legend(figure, ARM_STYLES)
    return figure


CLAIM = Claim(
    id="C4",
    title="Batch norm makes networks with sigmoids trainable",
    question="Does a network with sigmoids train without batch norm, at the same rate and at its own best rate?",
    method="The paper's network on MNIST: three hidden layers of 100 sigmoids, plain SGD, batch 60, 50,000 steps, at "
    "the rate 0.01 and at each arm's best of seven rates from 0.01 to 10 (one tuning run of 10,000 steps each). "
    "`inception_small` with sigmoids, width 0.125, colour images of 16×16 pixels, SGD with momentum 0.9, batch 32, "
    "4,000 steps, at each arm's best of six rates from 0.003 to 1. Three fresh seeds. The quick form takes the digits, "
    "and `vgg_small` for Inception.",
    rule="Batch norm is needed where every run with it ends above, and every run without it at or below, half the way "
    "from chance to the median with it. It helps where the worst run with it is more than 2 points better than the "
    "best one without. Holds if it is needed in both networks at the best rates. Holds under conditions if it is "
    "needed or helps anywhere. Does not hold otherwise. A run that diverges counts as 0.",
    refuted_by="Networks without norm that train as well at their best rates.",
    literature="MLP at the rate 0.01 after 50,000 steps: 82.7 % without norm, 97.3 % with batch norm. Sigmoid "
    "Inception on ImageNet: chance without, 69.8 % with batch norm.",
    source="Ioffe & Szegedy 2015, sections 4.1 and 4.2.2, arXiv 1502.03167",
    caption="Validation accuracy over the steps; median and range of the fresh seeds.",
    data=data,
    cells=cells,
    measure=measure,
    judge=judge,
    draw=draw,
)
