"""C3: networks with batch norm depend less on the scale of the first weights."""

import collections
import itertools
import math
import statistics
from collections.abc import Sequence

from bn_keras.choices.names import CLAIMS
from bn_keras.experiments.claims.claim import CONDITIONALLY, FAILS, HOLDS, Cell, Claim, Finding, Form, Found
from bn_keras.experiments.claims.figures import draw_spread, new_figure, signed, spread
from bn_keras.experiments.claims.protocol import (
    distinct,
    edge_notes,
    fresh_cells,
    fresh_runs,
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
    final_accuracy,
    norm_of,
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
SEEDS = 3
BATCH_SIZE = 60
ONE_RATE, RETUNED = "one rate", "rate tuned for each scale"


def data(form: Form) -> list[str]:
    """The digits."""
    return ["digits" if form.quick else "mnist"]


def networks(form: Form) -> dict[str, tuple[float, ...]]:
    """The planned learning rates of each network."""
    return {"mlp_sigmoid": (0.3, 1.0, 3.0)} if form.quick else RATES


def arm_of(form: Form, network: str, arm: str, gain: float) -> Cell:
    """The settings that all runs of an arm with a gain share."""
    steps = 300 if form.quick else 1_500
    return {"network": network, "data": data(form)[0], "steps": steps, "norm": arm, "gain": gain}


def rates_of(form: Form, found: Found, network: str, gain: float) -> tuple[float, ...]:
    """The learning rates that both arms try with a gain."""
    return swept_rates(found, [arm_of(form, network, arm, gain) for arm in ARMS], networks(form)[network])


def best_rates(form: Form, found: Found) -> dict[tuple[str, str, float], float]:
    """The learning rate of the best tuning run by network, arm and gain."""
    best = {}
    for network, gain in itertools.product(networks(form), DECADES):
        rates = rates_of(form, found, network, gain)
        best |= {(network, arm, gain): best_rate(found, rates, **arm_of(form, network, arm, gain)) for arm in ARMS}
    return best


def scales_of(form: Form, protocol: str) -> tuple[float, ...]:
    """The gains of a protocol."""
    return DECADES if form.quick or protocol == RETUNED else GAINS


def cells(form: Form, found: Found) -> list[Cell]:
    """Every rate with every scale for tuning, then fresh seeds at the best rate for the scale 1 and for each scale."""
    tuning = [
        cell
        for network, gain in itertools.product(networks(form), DECADES)
        for cell in tuning_cells(
            [arm_of(form, network, arm, gain) for arm in ARMS], rates_of(form, found, network, gain)
        )
    ]
    tuning.sort(key=lambda cell: (cell["network"], cell["norm"]))  # each change of the arm compiles its steps anew
    if not found.has(tuning):
        return tuning
    shared = [run for group in groups(form, found).values() for run in group.values()]
    return distinct([*tuning, *(cell for run in shared for cell in fresh_cells(run, run["learning_rate"], SEEDS))])


def groups(form: Form, found: Found) -> dict[tuple[str, str, str], dict[float, Cell]]:
    """By network, protocol and arm, and by gain: what the fresh runs share, with their learning rate."""
    best = best_rates(form, found)
    return {
        (network, protocol, arm): {
            gain: arm_of(form, network, arm, gain)
            | {"learning_rate": best[network, arm, gain if protocol == RETUNED else 1.0]}
            for gain in scales_of(form, protocol)
        }
        for network, protocol, arm in itertools.product(networks(form), (ONE_RATE, RETUNED), ARMS)
    }


def measure(cell: Cell, load) -> dict:
    """The curve of a run that starts with kernels times the gain."""
    options = {"depth": 5} if cell["network"] == "mlp_relu_deep" else {}
    recipe = TrainingRecipe(
        preset=cell["network"], options=options, data=cell["data"], norm=norm_of(cell), initial_gain=cell["gain"],
        optimizer="sgd", batch_size=BATCH_SIZE, learning_rate=cell["learning_rate"], steps=cell["steps"],
        evaluate_every=cell["steps"] // 2, validation_examples=300 if cell["data"] == "digits" else 2_000,
        evaluation_examples=5_000, seed=cell["seed"],
    )  # fmt: skip
    return train_curve(recipe, load(cell["data"]))


def all_rows(form: Form, found: Found) -> dict[tuple[str, str, str], dict[float, list[float]]]:
    """The test accuracy of each fresh seed by network, protocol and arm, and by gain."""
    return {
        key: {gain: [final_accuracy(values) for values in fresh_runs(found, **run)] for gain, run in group.items()}
        for key, group in groups(form, found).items()
    }


def least_of(rows: dict[float, list[float]]) -> float:
    """The accuracy from which a scale trains."""
    return max(map(statistics.median, rows.values())) - WITHIN


def range_of(rows: dict[float, list[float]], least: float) -> tuple[float, float] | None:
    """The lowest and the highest gain of the widest range in which every seed trains; `None` where none does."""
    groups = itertools.groupby(sorted(rows), key=lambda gain: min(rows[gain]) >= least)
    ranges = [list(gains) for trains, gains in groups if trains]
    widest = max(ranges, key=lambda gains: gains[-1] / gains[0], default=None)
    return widest and (widest[0], widest[-1])


def decades(rows: dict[float, list[float]]) -> list[float]:
    """The width of the range of each seed; half a decade for each step of the gains."""
    widths = []
    for seed in range(SEEDS):
        own = range_of({gain: [row[seed]] for gain, row in rows.items()}, least_of(rows))
        widths.append(round(2 * math.log10(own[1] / own[0])) / 2 if own else 0.0)
    return widths


def judge(form: Form, found: Found) -> Finding:
    """Applies the rule."""
    rows = all_rows(form, found)
    pairs = list(dict.fromkeys((network, protocol) for network, protocol, _ in rows))
    widths = {key: decades(row) for key, row in rows.items()}
    gained = {pair: min(widths[*pair, BATCH]) - max(widths[*pair, NONE]) for pair in pairs}
    wider = [pair for pair in pairs if gained[pair] >= WIDER]
    words = "wider for " + "; ".join(f"{WORDS_OF[network]}, {protocol}" for network, protocol in wider)
    edges = edge_notes(found, sweeps_of(form, found, (1.0,)))
    verdict = HOLDS if len(wider) == len(pairs) else CONDITIONALLY if wider else FAILS
    verdict, conditions = within_the_sweep(verdict, words if verdict == CONDITIONALLY else "", edges)
    return Finding(
        verdict,
        number="decades of scale that train, without and with batch norm: " + "; ".join(
            f"{WORDS_OF[network]} {spread(widths[network, ONE_RATE, NONE], 'g')} and "
            f"{spread(widths[network, ONE_RATE, BATCH], 'g')}" for network in networks(form)
        ),
        because="From the widest range without norm to the narrowest one with batch norm: " + "; ".join(
            f"{signed(gained[pair], 'g')} decades ({WORDS_OF[pair[0]]}, {pair[1]})" for pair in pairs
        ) + f" (rule: {WIDER:+g} in all {len(pairs)}).",
        columns=("network", "learning rate", "arm", "scales at which every seed trains", "decades", "at scale 1",
                 "at scale 100"),
        rows=tuple(
            (WORDS_OF[network], protocol, WORDS[arm], words_of_range(range_of(row, least_of(row))),
             spread(widths[network, protocol, arm], "g"), spread(row[1.0]), spread(row[100.0]))
            for (network, protocol, arm), row in rows.items()
        ),
        conditions=conditions,
        notes=(*edges, *end_notes(rows), tuning_note(form, found), *divergence_note(found)),
    )  # fmt: skip


def divergence_note(found: Found) -> tuple[str, ...]:
    """A note that counts the runs that diverged, by network, arm and scale; tuning and fresh seeds together."""
    counts: dict[str, collections.Counter[float]] = {}
    for cell, values in found.pairs.values():
        if values["diverged_at"]:
            arm = f"{WORDS_OF[cell['network']]} {WITH[cell['norm']]}"
            counts.setdefault(arm, collections.Counter())[cell["gain"]] += 1
    if not counts:
        return ()
    words = "; ".join(
        f"{arm} ({', '.join(f'{own[gain]} at scale {gain:g}' for gain in sorted(own))})" for arm, own in counts.items()
    )
    total = sum(own.total() for own in counts.values())
    return (f"{total} of {len(found.pairs)} runs diverged: {words}.",)


def words_of_range(scales: tuple[float, float] | None) -> str:
    """A range of scales in words."""
    return "{:g} to {:g}".format(*scales) if scales else "none"


def sweeps_of(form: Form, found: Found, gains: Sequence[float]) -> dict[str, tuple[Cell, tuple[float, ...]]]:
    """The settings and the learning rates of the tuning of each network, arm and gain."""
    return {
        f"{WORDS_OF[network]} {WITH[arm]}, scale {gain:g}": (
            arm_of(form, network, arm, gain), rates_of(form, found, network, gain)
        )
        for network, arm, gain in itertools.product(networks(form), ARMS, gains)
    }  # fmt: skip


def tuning_note(form: Form, found: Found) -> str:
    """How often the rate tuned for a scale lies at an edge; where nothing trains, the best rate is a matter of luck."""
    sweeps = sweeps_of(form, found, DECADES)
    count = sum(bool(edge_notes(found, {name: sweep})) for name, sweep in sweeps.items())
    return f"The rate tuned for a scale lies at an edge of its sweep for {count} of {len(sweeps)} arms and scales."


def end_notes(rows: dict[tuple[str, str, str], dict[float, list[float]]]) -> list[str]:
    """The ranges that reach an end of the scales."""
    return [
        f"{WORDS_OF[network]} {WITH[arm]}, {protocol}: the range reaches an end of the scales, so it may be wider."
        for (network, protocol, arm), row in rows.items()
        if {*(range_of(row, least_of(row)) or ())} & {min(row), max(row)}
    ]


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
    title=CLAIMS["C3"],
    question="Over how many decades of the scale of the first weights does the network train?",
    method="The paper's network of three layers of 100 sigmoids (the scale 1 is a standard deviation of 0.1) and five "
    "layers of 100 ReLU units (the scale 1 is He's) on MNIST, plain SGD, batch 60, 1,500 steps (1.6 epochs). All "
    "kernels are multiplied by 0.01 to 1,000, eleven scales, at the rate that is best for the scale 1. The control "
    "tunes the rate for each of six scales. Each tuning has five rates over two decades, one run each, and more where "
    "the best rate of either arm lies at an edge. Three fresh seeds for all. The quick form: sigmoids on the digits, "
    "300 steps, three rates, six scales.",
    rule="A seed trains at a scale if it ends within 5 points of the best median test accuracy of its arm. Its range "
    "is the widest one of such scales without a gap. Holds if batch norm's narrowest range over the seeds is a decade "
    "wider or more than the widest one without norm, for each network, at one rate and with the rate tuned for each "
    "scale (four contrasts), and no best rate for the scale 1 lies at an edge of its sweep. Holds under conditions if "
    "it is so in one contrast at least. Does not hold otherwise. A run that diverges counts as 0.",
    refuted_by="Ranges of the same width.",
    literature="Sigmoids on MNIST with a standard deviation of 5, the scale 50, after 50,000 steps, one run "
    "each: 22.7 % without norm and 85.3 % with batch norm at the rate 0.01, 90.7 % and 95.8 % at the rate 2.",
    source="Ioffe & Szegedy 2015, section 1, arXiv 1502.03167; Udacity Deep Learning, batch norm lesson, "
    "https://github.com/udacity/deep-learning/blob/master/batch-norm/Batch_Normalization_Lesson.ipynb",
    caption="The final test accuracy over the scale of the first weights; median and range of the seeds.",
    data=data,
    cells=cells,
    measure=measure,
    judge=judge,
    draw=draw,
    settings={"batch": BATCH_SIZE},
)
