"""C2: batch norm trains at learning rates at which the network without norm does not learn."""

import statistics

from bn_keras.choices.names import CLAIMS
from bn_keras.experiments.claims.claim import CONDITIONALLY, FAILS, HOLDS, Cell, Claim, Finding, Form, Found
from bn_keras.experiments.claims.figures import draw_spread, new_figure, spread
from bn_keras.experiments.claims.protocol import divergence_notes
from bn_keras.experiments.claims.training import train_curve
from bn_keras.experiments.claims.two_arms import (
    ARM_STYLES,
    ARMS,
    BATCH,
    NONE,
    WORDS,
    final_accuracy,
    norm_of,
    words_of_arm,
)
from bn_keras.experiments.comparison.figure_style import draw_open, height_of, label, legend, strip
from bn_keras.experiments.training_recipe import TrainingRecipe

RATES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
CHANCE = 0.1
WIDTH, DEPTH, BATCH_SIZE, EVALUATED = 0.125, 5, 32, 2_000
# Two steps of the sweep are a decade.
HOLDS_FROM, CONDITIONS_FROM = 2, 1


def data(form: Form) -> list[str]:
    """The images."""
    return ["digits" if form.quick else form.images]


def cells(form: Form, found: Found) -> list[Cell]:
    """Every learning rate with every seed, for both arms."""
    full = {"network": "vgg_small", "data": data(form)[0], "image_size": 16, "steps": 1000}
    quick = {"network": "mlp_relu_deep", "data": "digits", "image_size": 8, "steps": 160}
    settings = quick if form.quick else full
    return [
        settings | {"norm": arm, "learning_rate": rate, "seed": seed}
        for arm in ARMS
        for rate in (RATES[2:] if form.quick else RATES)
        for seed in range(3)
    ]


def measure(cell: Cell, load) -> dict:
    """The curve of one run."""
    held_out = 300 if cell["data"] == "digits" else 2_000
    size = {"width": WIDTH} if cell["network"] == "vgg_small" else {"options": {"depth": DEPTH}}
    recipe = TrainingRecipe(
        preset=cell["network"], **size, data=cell["data"], image_size=cell["image_size"], norm=norm_of(cell),
        optimizer="momentum", learning_rate=cell["learning_rate"], batch_size=BATCH_SIZE, steps=cell["steps"],
        evaluate_every=cell["steps"] // 4, validation_examples=held_out, evaluation_examples=EVALUATED,
        seed=cell["seed"],
    )  # fmt: skip
    return train_curve(recipe, load(cell["data"], image_size=cell["image_size"]))


def rates_of(found: Found) -> list[float]:
    """The learning rates of the sweep."""
    return sorted({cell["learning_rate"] for cell, _ in found.pairs.values()})


def accuracies(found: Found, arm: str) -> dict[float, list[float]]:
    """The test accuracy of each seed, by learning rate."""
    return {
        rate: [final_accuracy(values) for _, values in found.where(norm=arm, learning_rate=rate)]
        for rate in rates_of(found)
    }


def bar(found: Found, arm: str) -> float:
    """The accuracy that counts as learning: half way from chance to the arm's best median."""
    return (CHANCE + max(map(statistics.median, accuracies(found, arm).values()))) / 2


def largest_rates(found: Found, arm: str) -> list[float]:
    """The largest learning rate at which each seed learns; 0 for a seed that never learns."""
    least = bar(found, arm)
    rows = accuracies(found, arm)
    seeds = range(min(map(len, rows.values())))
    return [max((rate for rate, row in rows.items() if row[seed] >= least), default=0.0) for seed in seeds]


def steps_apart(found: Found) -> float:
    """Steps of half a decade from the highest largest rate without norm to the lowest with batch norm."""
    place = {rate: RATES.index(rate) for rate in rates_of(found)} | {0.0: -1}
    without, with_norm = largest_rates(found, NONE), largest_rates(found, BATCH)
    return place[min(with_norm)] - place[max(without)]


def judge(form: Form, found: Found) -> Finding:
    """Applies the rule."""
    largest = {arm: largest_rates(found, arm) for arm in ARMS}
    best = {arm: max(accuracies(found, arm).items(), key=lambda item: statistics.median(item[1])) for arm in ARMS}
    apart = steps_apart(found)
    verdict = HOLDS if apart >= HOLDS_FROM else CONDITIONALLY if apart >= CONDITIONS_FROM else FAILS
    end = max(rates_of(found))
    notes = tuple(
        f"{WORDS[arm].capitalize()} learns at the end of the sweep, so its largest rate is at least {end:g}."
        for arm in ARMS if end in largest[arm]
    )  # fmt: skip
    return Finding(
        verdict,
        number=f"learns up to {spread(largest[BATCH], 'g')} with batch norm, up to {spread(largest[NONE], 'g')} "
        "without",
        because=f"The largest rate of batch norm's worst seed is {apart / 2:g} decades above that of the best seed "
        f"without norm (rule: {HOLDS_FROM / 2:g}).",
        columns=("arm", "largest rate that learns", "counts as learning from", "best rate", "test accuracy there"),
        rows=tuple(
            (WORDS[arm], spread(largest[arm], "g"), f"{bar(found, arm):.3f}", f"{best[arm][0]:g}",
             spread(best[arm][1]))
            for arm in ARMS
        ),
        conditions="batch norm's worst seed is only half a decade above the best seed without norm"
        if verdict == CONDITIONALLY
        else "",
        notes=notes + divergence_notes(found, words_of_arm),
    )  # fmt: skip


def draw(form: Form, found: Found):
    """The accuracy over the learning rate; runs that diverged in a strip at the top."""
    figure, (axes,) = new_figure(form, "final test accuracy over the learning rate")
    beside = strip(axes, "top", "diverged")
    for place, arm in enumerate(ARMS):
        style = ARM_STYLES[WORDS[arm]]
        finite = {rate: [value for value in row if value] for rate, row in accuracies(found, arm).items()}
        finite = {rate: row for rate, row in finite.items() if row}
        draw_spread(axes, list(finite), list(finite.values()), style)
        lost = [cell["learning_rate"] for cell, values in found.where(norm=arm) if values["diverged_at"]]
        draw_open(beside, lost, [height_of(place, ARMS)] * len(lost), style)
        axes.axhline(bar(found, arm), color=style.color, linewidth=1, linestyle=":")
    axes.set(xscale="log", ylim=(0, 1 if form.quick else None))
    label(axes, x="learning rate", y="test accuracy", title="dotted: what counts as learning", raised=0.1)
    legend(figure, ARM_STYLES)
    return figure


CLAIM = Claim(
    id="C2",
    title=CLAIMS["C2"],
    question="What is the largest learning rate at which each network still learns?",
    method="`vgg_small` at width 0.125 on colour images of 16×16 pixels, SGD with momentum 0.9, batch 32, 1,000 steps "
    "(0.7 epochs), nine constant learning rates from 0.001 to 10, three seeds at each. The moving averages have "
    "momentum 0.9. The quick form trains five hidden ReLU layers on the digits for 160 steps, from 0.01 on.",
    rule="A run learns if it stays finite and its final test accuracy is at least half way from chance to the best "
    "median of its arm over all rates. The rule compares batch norm's worst seed with the best seed without norm. "
    "Holds if the worst seed's largest rate is a decade higher or more. Holds under conditions if it is half a decade "
    "higher. Does not hold otherwise.",
    refuted_by="The same largest rate with and without batch norm.",
    literature="An eight-layer network on CIFAR-10 gives NaN near 0.3 without norm and trains at 0.9 to 2.6 with batch "
    "norm. The paper's Inception diverges at 5 times its rate and trains at 30 times with batch norm.",
    source="Ioffe & Szegedy 2015, sections 3.3 and 4.2, arXiv 1502.03167; Page 2019, How to Train Your ResNet 7: Batch "
    "Norm, https://myrtle.ai/how-to-train-your-resnet-7-batch-norm/",
    caption="The final test accuracy over the learning rate; median and range of the seeds. Open markers at the top "
    "are runs whose loss was not finite.",
    data=data,
    cells=cells,
    measure=measure,
    judge=judge,
    draw=draw,
    settings={"width": WIDTH, "depth": DEPTH, "batch": BATCH_SIZE, "evaluated": EVALUATED},
)
