"""C3: networks with batch norm depend less on the scale of the first weights."""

import itertools
import math
import statistics

from bn_keras.experiments.claims.claim import CONDITIONALLY, FAILS, HOLDS, Cell, Claim, Finding, Form, Found
from bn_keras.experiments.claims.figures import draw_spread, new_figure, spread
from bn_keras.experiments.claims.protocol import distinct, divergence_notes, edge_notes, fresh_cells, fresh_runs
from bn_keras.experiments.claims.training import TUNING_SEED, best_rate, train_curve, tuning_cells
from bn_keras.experiments.claims.two_arms import (
    ARM_STYLES,
    ARMS,
    BATCH,
    NONE,
    WITH,
    WORDS,
    final_accuracy,
    norm_of,
    words_of_arm,
)
from bn_keras.experiments.comparison.figure_style import label, legend
from bn_keras.experiments.training_recipe import TrainingRecipe

GAINS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
DECADES = GAINS[::2]
RATES = {"mlp_sigmoid": (0.1, 0.3, 1.0, 3.0, 10.0), "mlp_relu_deep": (0.01, 0.03, 0.1, 0.3, 1.0)}
WORDS_OF = {"mlp_sigmoid": "sigmoids", "mlp_relu_deep": "ReLU"}
# A network trains if it comes within this distance of its best accuracy.
WITHIN = 0.05
# How many more decades batch norm has to add.
WIDER = 1.0
ONE_RATE, RETUNED = "one rate", "rate tuned for each scale"


def data(form: Form) -> list[str]:
    """The digits."""
    return ["digits" if form.quick else "mnist"]


def networks(form: Form) -> dict[str, tuple[float, ...]]:
    """The learning rates of each network."""
    return {"mlp_sigmoid": (0.3, 3.0)} if form.quick else RATES


def arm_of(form: Form, network: str, arm: str, gain: float) -> Cell:
    """The settings that all runs of an arm with a gain share."""
    steps = 300 if form.quick else 1_500
    return {"network": network, "data": data(form)[0], "steps": steps, "norm": arm, "gain": gain}


def chosen_rate(form: Form, found: Found, network: str, arm: str, gain: float) -> float:
    """The learning rate of the best tuning run with a gain."""
    return best_rate(found, networks(form)[network], **arm_of(form, network, arm, gain))


def cells(form: Form, found: Found) -> list[Cell]:
    """Every rate with every scale for tuning, then every scale with fresh seeds at the best rate for the scale 1."""
    arms = [(network, arm) for network in networks(form) for arm in ARMS]
    tuning = [
        cell
        for network, arm in arms
        for cell in tuning_cells([arm_of(form, network, arm, gain) for gain in DECADES], networks(form)[network])
    ]
    if not found.has(tuning):
        return tuning
    runs = [
        cell
        for network, arm in arms
        for gain in (DECADES if form.quick else GAINS)
        for cell in fresh_cells(
            arm_of(form, network, arm, gain), chosen_rate(form, found, network, arm, 1.0), 3
        )
    ]  # fmt: skip
    return distinct(tuning + runs)


def measure(cell: Cell, load) -> dict:
    """The curve of a run that starts with kernels times the gain."""
    options = {"depth": 5} if cell["network"] == "mlp_relu_deep" else {}
    recipe = TrainingRecipe(
        preset=cell["network"], options=options, data=cell["data"], norm=norm_of(cell), initial_gain=cell["gain"],
        optimizer="sgd", batch_size=60, learning_rate=cell["learning_rate"], steps=cell["steps"],
        evaluate_every=cell["steps"] // 2, validation_examples=300 if cell["data"] == "digits" else 2_000,
        evaluation_examples=5_000, seed=cell["seed"],
    )  # fmt: skip
    return train_curve(recipe, load(cell["data"]))


def at_one_rate(form: Form, found: Found, network: str, arm: str) -> dict[float, list[float]]:
    """The test accuracy of each fresh seed, by gain, at the best rate for the gain 1."""
    rate = chosen_rate(form, found, network, arm, 1.0)
    return {
        gain: [final_accuracy(run) for run in fresh_runs(found, **arm_of(form, network, arm, gain), learning_rate=rate)]
        for gain in (DECADES if form.quick else GAINS)
    }


def retuned(form: Form, found: Found, network: str, arm: str) -> dict[float, list[float]]:
    """The test accuracy of the tuning run at the best rate for each gain."""
    rates = {gain: chosen_rate(form, found, network, arm, gain) for gain in DECADES}
    return {
        gain: [final_accuracy(found[arm_of(form, network, arm, gain) | {"learning_rate": rate, "seed": TUNING_SEED}])]
        for gain, rate in rates.items()
    }


def range_of(rows: dict[float, list[float]]) -> tuple[float, float]:
    """The lowest and the highest gain of the widest range in which every seed trains; the best gain where none does."""
    best = max(sorted(rows), key=lambda gain: statistics.median(rows[gain]))
    least = statistics.median(rows[best]) - WITHIN
    groups = itertools.groupby(sorted(rows), key=lambda gain: min(rows[gain]) >= least)
    ranges = [list(gains) for trains, gains in groups if trains]
    widest = max(ranges, key=lambda gains: gains[-1] / gains[0], default=[best])
    return widest[0], widest[-1]


def decades(rows: dict[float, list[float]]) -> float:
    """The width of the range; half a decade for each step of the gains."""
    low, high = range_of(rows)
    return round(2 * math.log10(high / low)) / 2


def all_rows(form: Form, found: Found) -> dict[tuple[str, str, str], dict[float, list[float]]]:
    """The accuracies by network, protocol and arm."""
    protocols = {ONE_RATE: at_one_rate, RETUNED: retuned}
    return {
        (network, protocol, arm): rows(form, found, network, arm)
        for network in networks(form) for protocol, rows in protocols.items() for arm in ARMS
    }  # fmt: skip


def judge(form: Form, found: Found) -> Finding:
    """Applies the rule."""
    rows = all_rows(form, found)
    pairs = list(dict.fromkeys((network, protocol) for network, protocol, _ in rows))
    gained = {pair: decades(rows[*pair, BATCH]) - decades(rows[*pair, NONE]) for pair in pairs}
    wider = [pair for pair in pairs if gained[pair] >= WIDER]
    verdict = HOLDS if len(wider) == len(pairs) else CONDITIONALLY if wider else FAILS
    sweeps = {
        f"{WORDS_OF[network]} {WITH[arm]}": (arm_of(form, network, arm, 1.0), rates)
        for network, rates in networks(form).items() for arm in ARMS
    }  # fmt: skip
    ends = [
        f"{WORDS_OF[network]} {WITH[arm]}, {protocol}: the range reaches an end of the scales, so it may be wider."
        for (network, protocol, arm), row in rows.items() if {*range_of(row)} & {min(row), max(row)}
    ]  # fmt: skip
    return Finding(
        verdict,
        number="decades of scale that train, without and with batch norm: " + "; ".join(
            f"{WORDS_OF[network]} {decades(rows[network, ONE_RATE, NONE]):g} and "
            f"{decades(rows[network, ONE_RATE, BATCH]):g}" for network in networks(form)
        ),
        because="Batch norm changes the range by " + "; ".join(
            f"{gained[pair]:+g} decades ({WORDS_OF[pair[0]]}, {pair[1]})" for pair in pairs
        ) + f" (rule: {WIDER:+g} in all).",
        columns=("network", "learning rate", "arm", "scales that train", "decades", "at scale 1", "at scale 100"),
        rows=tuple(
            (WORDS_OF[network], protocol, WORDS[arm], "{:g} to {:g}".format(*range_of(row)), f"{decades(row):g}",
             spread(row[1.0]), spread(row[100.0]))
            for (network, protocol, arm), row in rows.items()
        ),
        conditions="wider for " + "; ".join(f"{WORDS_OF[network]}, {protocol}" for network, protocol in wider)
        if verdict == CONDITIONALLY else "",
        notes=(*edge_notes(found, sweeps), *ends, *divergence_notes(found, words_of_arm)),
    )  # fmt: skip


def draw(form: Form, found: Found):
    """The accuracy over the scale, a panel for each network and protocol."""
    rows = all_rows(form, found)
    pairs = list(dict.fromkeys((network, protocol) for network, protocol, _ in rows))
    figure, panels = new_figure(form, "test accuracy over the scale of the first weights", len(pairs), sharey=True)
    for axes, pair in zip(panels, pairs, strict=True):
        for arm in ARMS:
            own = rows[*pair, arm]
            draw_spread(axes, sorted(own), [own[gain] for gain in sorted(own)], ARM_STYLES[WORDS[arm]])
        axes.set_xscale("log")
        first = axes is panels[0]
        label(axes, x="scale", y="test accuracy" * first, title=f"{WORDS_OF[pair[0]]},\n{pair[1]}")
    panels[0].set_ylim(0, 1)
    legend(figure, ARM_STYLES)
    return figure


CLAIM = Claim(
    id="C3",
    title="Networks with batch norm depend less on the scale of the first weights",
    question="Over how many decades of the scale of the first weights does the network train?",
    method="The paper's network of three layers of 100 sigmoids (the scale 1 is a standard deviation of 0.1) and five "
    "layers of 100 ReLU units (the scale 1 is He's) on MNIST, plain SGD, batch 60, 1,500 steps. All kernels are "
    "multiplied by 0.01 to 1,000, eleven scales. Three fresh seeds at the rate that is best for the scale 1, of "
    "five over two decades. The control tunes the rate for each of six scales, one seed. The quick form: sigmoids on "
    "the digits, 300 steps, two rates, six scales.",
    rule="A scale trains if its worst seed ends within 5 points of the best median test accuracy of its arm. The range "
    "is the widest one of scales that train without a gap. Holds if batch norm's range is a decade wider or "
    "more for each network, at one rate and with the rate tuned for each scale. Holds under conditions if it is so "
    "for one of them at least. Does not hold otherwise. A run that diverges counts as 0.",
    refuted_by="Ranges of the same width.",
    literature="Sigmoids on MNIST with a standard deviation of 5, the scale 50: 22.7 % without norm, 85.3 % with batch "
    "norm.",
    source="Ioffe & Szegedy 2015, section 1, arXiv 1502.03167; Udacity Deep Learning Nanodegree, batch norm notebook",
    caption="The final test accuracy over the scale of the first weights; median and range of the seeds.",
    data=data,
    cells=cells,
    measure=measure,
    judge=judge,
    draw=draw,
)
