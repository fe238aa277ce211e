"""C10: inference by population statistics does not depend on the batch; moving averages reach them late."""

import dataclasses
import statistics

import tensorflow as tf

from bn_keras.choices.names import CLAIMS
from bn_keras.experiments.claims.claim import CONDITIONALLY, FAILS, HOLDS, Cell, Claim, Finding, Form, Found
from bn_keras.experiments.claims.figures import draw_spread, new_figure, spread
from bn_keras.experiments.claims.population import (
    accuracy_by_batches,
    accuracy_with,
    change_of_output,
    distance,
    recalibrated,
)
from bn_keras.experiments.claims.training import rounded
from bn_keras.experiments.comparison.figure_style import ArmStyle, label, legend
from bn_keras.experiments.shared_trainer import shared_trainer
from bn_keras.experiments.training_recipe import training_recipe
from bn_keras.lab.plot import BLACK, BLUE, GREEN, ORANGE, PURPLE
from bn_keras.layers import BatchNorm

MOMENTA = (0.9, 0.99, 0.999)
BATCH = 60
# The moving averages have forgotten their start after so many times 1 / (1 - momentum) steps.
SETTLED = 10
# Two accuracies are the same within a percentage point, and outputs within the rounding of float32.
SAME, ROUNDING = 0.01, 1e-5
ENOUGH_SAMPLES = 1_000
STYLES = {
    "momentum 0.9": ArmStyle(ORANGE, "-.", "^"),
    "momentum 0.99": ArmStyle(BLUE, "-", "o"),
    "momentum 0.999": ArmStyle(PURPLE, (0, (3, 1, 1, 1)), "v"),
    "recalibrated": ArmStyle(GREEN, (0, (7, 2)), "D"),
    "batch": ArmStyle(BLACK, "--", "s"),
}


def data(form: Form) -> tuple[str, ...]:
    """The digits, or MNIST."""
    return ("digits",) if form.quick else ("mnist",)


def cells(form: Form, found: Found) -> list[Cell]:
    """Batches that are always the same, and networks that train; all momenta share the seeds."""
    momenta = MOMENTA[:2] if form.quick else MOMENTA
    constant = [
        {"part": "constant", "momentum": momentum, "bias_correction": correction, "steps": 100}
        for momentum in momenta
        for correction in (False, True)
    ]
    steps = [10, 100, 1000] if form.quick else [10, 100, 1000, 3000]
    samples = [BATCH, 300, ENOUGH_SAMPLES] if form.quick else [BATCH, 300, ENOUGH_SAMPLES, 10_000]
    return constant + [
        {"part": "training", "data": data(form)[0], "momentum": momentum, "learning_rate": 1.0, "at": steps,
         "samples": samples if momentum == 0.99 else [], "seed": seed}
        for momentum in momenta
        for seed in range(1, 4 if form.quick else 6)
    ]  # fmt: skip


def measure(cell: Cell, load) -> dict:
    """The moving mean of constant batches, or a trained network's accuracy by each kind of statistics."""
    return measure_constant(cell) if cell["part"] == "constant" else measure_training(cell, load)


def measure_constant(cell: Cell) -> dict:
    """The moving mean after batches whose mean is 10."""
    layer = BatchNorm(momentum=cell["momentum"], bias_correction=cell["bias_correction"])
    x = tf.constant([[8.0], [12.0]])
    for _ in range(cell["steps"]):
        layer(x, training=True)
    return {"moving_mean": rounded(float(layer.moving_mean[0]), 6)}


def measure_training(cell: Cell, load) -> dict:
    """Trains a network, and looks at its statistics on the way."""
    recipe = training_recipe(
        "mlp_sigmoid", cell["data"], norm=("batch", {"momentum": cell["momentum"]}), batch_size=BATCH,
        learning_rate=cell["learning_rate"], steps=max(cell["at"]), seed=cell["seed"],
    )  # fmt: skip
    trainer = shared_trainer(recipe, load(cell["data"]))
    trainer.start(recipe.learning_rate, recipe.seed)
    values: dict[str, list] = {"moving": [], "recalibrated": [], "batch": [], "mean_off": [], "variance_off": []}
    done = 0
    for step in cell["at"]:
        trainer.advance(step - done)
        done = step
        exact = recalibrated(trainer, trainer.data.train.examples)
        values["moving"].append(round(trainer.evaluate(), 5))
        values["recalibrated"].append(accuracy_with(trainer, exact))
        values["batch"].append(accuracy_by_batches(trainer))
        mean_off, variance_off = distance(trainer.model, exact)
        values["mean_off"].append(mean_off)
        values["variance_off"].append(variance_off)
    by_samples = [recalibrated(trainer, count) for count in cell["samples"]]
    return values | {
        "sample_accuracy": [accuracy_with(trainer, model) for model in by_samples],
        "sample_mean_off": [distance(model, exact)[0] for model in by_samples],
        "change_in_inference": change_of_output(trainer, training=False),
        "change_in_training": change_of_output(trainer, training=True),
    }


def measured_momenta(found: Found) -> list[float]:
    """The momenta that were measured, in ascending order."""
    return sorted({cell["momentum"] for cell, _ in found.where(part="training")})


@dataclasses.dataclass(frozen=True)
class Place:
    """A momentum and a step, with a value for each seed: accuracies by each kind of statistics, and the distance."""

    momentum: float
    step: int
    moving: tuple[float, ...]
    recalibrated: tuple[float, ...]
    batch: tuple[float, ...]
    mean_off: tuple[float, ...]

    @property
    def lags(self) -> bool:
        """Whether the start still has a share of 1/e or more in the moving averages."""
        return self.step * (1 - self.momentum) <= 1 + 1e-9

    @property
    def settled(self) -> bool:
        """Whether the start is forgotten."""
        return self.step * (1 - self.momentum) >= SETTLED - 1e-9

    @property
    def gain(self) -> float:
        """What recalibration adds to the accuracy, in the mean over the seeds."""
        return statistics.mean(self.recalibrated) - statistics.mean(self.moving)


def places(found: Found) -> list[Place]:
    """What was measured, by momentum and step."""
    rows = []
    for momentum in measured_momenta(found):
        runs = found.where(part="training", momentum=momentum)
        for place, step in enumerate(runs[0][0]["at"]):
            names = ("moving", "recalibrated", "batch", "mean_off")
            rows.append(Place(momentum, step, *(tuple(values[name][place] for _, values in runs) for name in names)))
    return rows


def judge(form: Form, found: Found) -> Finding:
    """Applies the rule."""
    runs = [values for _, values in found.where(part="training")]
    alone = all(values["change_in_inference"] <= ROUNDING for values in runs)
    shared = all(values["change_in_training"] > 1000 * ROUNDING for values in runs)
    lawful = all(
        abs(values["moving_mean"] - expected_mean(cell)) <= 0.001 for cell, values in found.where(part="constant")
    )
    rows = places(found)
    late = [place.gain > SAME for place in rows if place.lags]
    settled = [abs(place.gain) <= SAME for place in rows if place.settled]
    missed = []
    if not all(late):
        missed.append(f"moving averages that lag cost more than a percentage point at {sum(late)} of {len(late)} steps")
    if not all(settled):
        missed.append("moving averages that have settled are off by more than a percentage point")
    if not enough(found):
        missed.append(f"recalibration needs more than {ENOUGH_SAMPLES:,} samples")
    (hundred,) = found.values("moving_mean", part="constant", momentum=0.99, bias_correction=False)
    hundredth = next(place for place in rows if (place.momentum, place.step) == (0.99, 100))
    last = [place for place in rows if place.momentum == 0.99][-1]
    possible = alone and shared and lawful and any(late) and any(settled)
    verdict = FAILS if not possible else CONDITIONALLY if missed else HOLDS
    return Finding(
        verdict,
        number=f"{hundred:.3f} of 10 after 100 steps with momentum 0.99; a test accuracy of "
        f"{percent(hundredth.moving)} % then, {percent(hundredth.recalibrated)} % after recalibration",
        because="With another rest of the batch the outputs change by at most "
        f"{max(values['change_in_inference'] for values in runs):.1g} in inference, and by at least "
        f"{min(values['change_in_training'] for values in runs):.2g} with the moments of the batch. Recalibration "
        f"from {ENOUGH_SAMPLES:,} samples gives {percent(by_samples(found)[ENOUGH_SAMPLES])} %, from all "
        f"{percent(last.recalibrated)} %.",
        columns=("momentum", "step", "moving averages, %", "recalibrated, %", "moments of the batch, %",
                 "moving means off by, σ"),
        rows=tuple(
            (str(place.momentum), f"{place.step:,}", percent(place.moving), percent(place.recalibrated),
             percent(place.batch), spread(place.mean_off, ".3f"))
            for place in rows
        ),
        conditions="; ".join(missed) if verdict == CONDITIONALLY else "",
        notes=tuple(
            f"Recalibrated from {count:,} samples: {percent(values)} %."
            for count, values in by_samples(found).items()
        ),
    )  # fmt: skip


def expected_mean(cell: Cell) -> float:
    """The moving mean of batches whose mean is 10."""
    return 10.0 if cell["bias_correction"] else 10 * (1 - cell["momentum"] ** cell["steps"])


def by_samples(found: Found) -> dict[int, list[float]]:
    """The accuracies of the seeds at the end of training, by the samples that recalibration took."""
    runs = found.where(part="training", momentum=0.99)
    return {
        count: [values["sample_accuracy"][place] for _, values in runs]
        for place, count in enumerate(runs[0][0]["samples"])
    }


def enough(found: Found) -> bool:
    """Whether few samples give the accuracy that all give, in the mean over the seeds."""
    every = [values["recalibrated"][-1] for _, values in found.where(part="training", momentum=0.99)]
    return abs(statistics.mean(by_samples(found)[ENOUGH_SAMPLES]) - statistics.mean(every)) <= SAME


def percent(accuracies) -> str:
    """The accuracies of the seeds in per cent."""
    return spread([100 * value for value in accuracies], ".1f")


def draw(form: Form, found: Found):
    """Accuracy and distance from the exact moments over the steps."""
    figure, (left, right) = new_figure(form, "batch norm's statistics in inference", 2)
    momenta = measured_momenta(found)
    for momentum in momenta:
        own = [place for place in places(found) if place.momentum == momentum]
        steps, style = [place.step for place in own], STYLES[f"momentum {momentum}"]
        draw_spread(left, steps, [[100 * value for value in place.moving] for place in own], style)
        draw_spread(right, steps, [place.mean_off for place in own], style)
    words = {"recalibrated": "recalibrated", "batch": "moments of the test batch"}
    own = [place for place in places(found) if place.momentum == 0.99]
    for name in words:
        rows = [[100 * value for value in getattr(place, name)] for place in own]
        draw_spread(left, [place.step for place in own], rows, STYLES[name])
    left.set_xscale("log")
    right.set(xscale="log", yscale="log")
    label(left, x="training step", y="test accuracy, %", title="accuracy by the statistics that inference takes")
    label(right, x="training step", y="moving means off by, in σ", title="distance of the moving means from the exact")
    shown = [f"momentum {momentum}" for momentum in momenta] + list(words)
    legend(figure, {words.get(name, name): STYLES[name] for name in shown})
    return figure


CLAIM = Claim(
    id="C10",
    title=CLAIMS["C10"],
    question="Does an example's output depend on the rest of its batch, and how near do moving averages come to the "
    "exact moments?",
    method="(1) A layer gets 100 batches whose mean is 10. (2) The paper's sigmoid network with batch norm trains by "
    "SGD with batches of 60 and a learning rate of 1, with 5 seeds on MNIST (sketch: 3 on the digits). The momentum "
    "does not change the weights of a seed. At some steps the network is tested with its moving averages, with the "
    "moments of the test batch, and recalibrated by Algorithm 2 over all training examples, which also give the exact "
    "moments. At the last step it is also recalibrated from fewer samples.",
    rule="Does not hold if the rest of the batch changes an output by more than 10⁻⁵ in inference, or by less than "
    "10⁻² with the moments of the batch, or if a moving mean of constant batches is more than 0.001 off 10 (1 − "
    "momentum^steps). Late: in the mean over the seeds, recalibration is more accurate by more than a percentage point "
    "at a step up to 1/(1 − momentum). Settled: the two are within a percentage point at a step from 10/(1 − momentum) "
    "on. Does not hold either if the averages are late at no such step, or settled at none. Holds if they are late and "
    "settled at all of them, and recalibration from 1,000 samples is within a percentage point of that from all. Holds "
    "under conditions otherwise.",
    refuted_by="An output in inference that changes with the rest of its batch, or moving averages that are as "
    "accurate as recalibration from the start.",
    literature="A moving average with momentum 0.99 is at 1 − 0.99¹⁰⁰ = 63.4 % after 100 steps. Recalibration needs "
    "10³ to 10⁴ samples (Wu & Johnson 2021).",
    source="Ioffe & Szegedy 2015, Algorithm 2, arXiv 1502.03167; Wu & Johnson 2021, Rethinking “Batch” in BatchNorm, "
    "arXiv 2105.07576",
    caption="Median and range of the seeds. Left: test accuracy by the statistics that inference takes. Right: root "
    "mean square over all channels of the distance between moving and exact mean, in standard deviations.",
    data=data,
    cells=cells,
    measure=measure,
    judge=judge,
    draw=draw,
    settings={"batch": BATCH},
)
