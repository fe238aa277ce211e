"""C10: inference by population statistics does not depend on the batch; moving averages reach them late."""

import statistics

import keras
import numpy as np
import tensorflow as tf

from bn_keras.experiments.claims.claim import CONDITIONALLY, FAILS, HOLDS, Cell, Claim, Finding, Form, Found
from bn_keras.experiments.claims.figures import draw_spread, new_figure, spread
from bn_keras.experiments.claims.training import rounded, trainer_of
from bn_keras.experiments.comparison.figure_style import ArmStyle, label, legend
from bn_keras.experiments.training_recipe import training_recipe
from bn_keras.lab.plot import BLACK, BLUE, GREEN, ORANGE, PURPLE
from bn_keras.layers import BatchNorm
from bn_keras.surgery import recalibrate

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
    steps = [10, 100, 1000] if form.quick else [10, 30, 100, 300, 1000, 3000]
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
    trainer = trainer_of(recipe, load(cell["data"]))
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


def recalibrated(trainer, samples: int) -> keras.Model:
    """The network with the statistics of the first training examples, by Algorithm 2."""
    images = trainer.data.train.inputs[:samples].astype("float32")
    batches = tf.data.Dataset.from_tensor_slices(images).batch(BATCH)
    return recalibrate(trainer.model, batches, method="algorithm2", verify=False, report=None)


def accuracy_with(trainer, model: keras.Model) -> float:
    """The test accuracy with the weights of a copy; the trainer's network has compiled its evaluation."""
    own = trainer.model.get_weights()
    trainer.model.set_weights(model.get_weights())
    accuracy = trainer.evaluate()
    trainer.model.set_weights(own)
    return round(accuracy, 5)


def accuracy_by_batches(trainer) -> float:
    """The test accuracy where each batch of the test examples is normalized by its own moments."""
    own, right = trainer.model.get_weights(), 0
    for images, labels in trainer.data.test.once(BATCH):
        logits = trainer.model(tf.cast(images, tf.float32), training=True)
        right += int(tf.math.count_nonzero(tf.argmax(logits, -1, labels.dtype) == labels))
    trainer.model.set_weights(own)
    return round(right / trainer.data.test.examples, 5)


def distance(model: keras.Model, exact: keras.Model) -> tuple[float, float]:
    """How far the moments of all channels are off: means in deviations, variances by their logarithm; root mean
    squares."""
    means, variances = [], []
    for name in [layer.name for layer in model.layers if isinstance(layer, BatchNorm)]:
        mine, truth = model.get_layer(name), exact.get_layer(name)
        means.append((mine.moving_mean - truth.moving_mean) / np.sqrt(truth.moving_variance + truth.epsilon))
        ratio = (mine.moving_variance + mine.epsilon) / (truth.moving_variance + truth.epsilon)
        variances.append(np.log(ratio))
    return tuple(rounded(float(np.sqrt(np.mean(np.square(off)))), 4) for off in (means, variances))


def change_of_output(trainer, training: bool) -> float:
    """How much the outputs of ten test examples change when the rest of their batch is another one."""
    own = trainer.model.get_weights()
    images = tf.cast(trainer.data.test.inputs[: 2 * BATCH - 10], tf.float32)
    batches = (images[:BATCH], tf.concat([images[:10], images[BATCH:]], 0))
    first, other = (trainer.model(batch, training=training)[:10] for batch in batches)
    trainer.model.set_weights(own)
    return rounded(float(tf.reduce_max(tf.abs(first - other))), 4)


def measured_momenta(found: Found) -> list[float]:
    """The momenta that were measured, in ascending order."""
    return sorted({cell["momentum"] for cell, _ in found.where(part="training")})


def places(found: Found) -> list[tuple[float, int, list[float], list[float], list[float], list[float]]]:
    """Momentum, step, and for each seed the accuracies by moving averages, recalibrated and by batches, and the
    distance of the means."""
    rows = []
    for momentum in measured_momenta(found):
        runs = found.where(part="training", momentum=momentum)
        for place, step in enumerate(runs[0][0]["at"]):
            names = ("moving", "recalibrated", "batch", "mean_off")
            rows.append((momentum, step, *([values[name][place] for _, values in runs] for name in names)))
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
    missed = []
    if not all(
        statistics.mean(exact) > statistics.mean(moving)
        for momentum, step, moving, exact, _, _ in rows
        if lags(momentum, step)
    ):
        missed.append("recalibration is not always the better one while the moving averages lag")
    if not all(
        abs(statistics.mean(exact) - statistics.mean(moving)) <= SAME
        for momentum, step, moving, exact, _, _ in rows
        if step * (1 - momentum) >= SETTLED - 1e-9
    ):
        missed.append("moving averages that have settled are off by more than a percentage point")
    if not enough(found):
        missed.append(f"recalibration needs more than {ENOUGH_SAMPLES:,} samples")
    (hundred,) = found.values("moving_mean", part="constant", momentum=0.99, bias_correction=False)
    at_hundred = next(row for row in rows if row[:2] == (0.99, 100))
    verdict = FAILS if not (alone and shared and lawful) else CONDITIONALLY if missed else HOLDS
    return Finding(
        verdict,
        number=f"{hundred:.3f} of 10 after 100 steps with momentum 0.99; a test accuracy of {percent(at_hundred[2])} "
        f"then, {percent(at_hundred[3])} after recalibration",
        because="With another rest of the batch the outputs change by at most "
        f"{max(values['change_in_inference'] for values in runs):.1g} in inference, and by at least "
        f"{min(values['change_in_training'] for values in runs):.2g} with the moments of the batch. Recalibration "
        f"from {ENOUGH_SAMPLES:,} samples gives {percent(by_samples(found)[ENOUGH_SAMPLES])}, from all "
        f"{percent(rows_at_end(rows)[3])}.",
        columns=("momentum", "step", "moving averages, %", "recalibrated, %", "moments of the batch, %",
                 "moving means off by, σ"),
        rows=tuple(
            (str(momentum), f"{step:,}", *(percent(each, "") for each in accuracies), spread(off, ".3f"))
            for momentum, step, *accuracies, off in rows
        ),
        conditions="; ".join(missed) if verdict == CONDITIONALLY else "",
        notes=tuple(
            f"Recalibrated from {count:,} samples: {percent(values)}."
            for count, values in by_samples(found).items()
        ),
    )  # fmt: skip


def expected_mean(cell: Cell) -> float:
    """The moving mean of batches whose mean is 10."""
    return 10.0 if cell["bias_correction"] else 10 * (1 - cell["momentum"] ** cell["steps"])


def lags(momentum: float, step: int) -> bool:
    """Whether the start still has a share of 1/e or more in the moving averages."""
    return step * (1 - momentum) <= 1 + 1e-9


def by_samples(found: Found) -> dict[int, list[float]]:
    """The accuracies of the seeds at the end of training, by the samples that recalibration took."""
    runs = found.where(part="training", momentum=0.99)
    return {
        count: [values["sample_accuracy"][place] for _, values in runs]
        for place, count in enumerate(runs[0][0]["samples"])
    }


def enough(found: Found) -> bool:
    """Whether few samples give the accuracy that all give."""
    few, every = (
        by_samples(found)[ENOUGH_SAMPLES],
        [values["recalibrated"][-1] for _, values in found.where(part="training", momentum=0.99)],
    )
    return abs(statistics.mean(few) - statistics.mean(every)) <= SAME


def rows_at_end(rows):
    """The row of momentum 0.99 at the last step."""
    return [row for row in rows if row[0] == 0.99][-1]


def percent(accuracies, unit: str = " %") -> str:
    """The accuracies of the seeds in per cent."""
    return spread([100 * value for value in accuracies], ".1f") + unit


def draw(form: Form, found: Found):
    """Accuracy and distance from the exact moments over the steps."""
    figure, (left, right) = new_figure(form, "batch norm's statistics in inference", 2)
    rows = places(found)
    momenta = measured_momenta(found)
    for momentum in momenta:
        own = [row for row in rows if row[0] == momentum]
        steps, style = [row[1] for row in own], STYLES[f"momentum {momentum}"]
        draw_spread(left, steps, [[100 * value for value in row[2]] for row in own], style)
        draw_spread(right, steps, [row[5] for row in own], style)
    own = [row for row in rows if row[0] == 0.99]
    for column, name in ((3, "recalibrated"), (4, "batch")):
        draw_spread(
            left, [row[1] for row in own], [[100 * value for value in row[column]] for row in own], STYLES[name]
        )
    left.set_xscale("log")
    right.set(xscale="log", yscale="log")
    label(left, x="training step", y="test accuracy, %", title="accuracy by the statistics that inference takes")
    label(right, x="training step", y="moving means off by, in σ", title="distance of the moving means from the exact")
    words = {"recalibrated": "recalibrated", "batch": "moments of the test batch"}
    shown = [f"momentum {momentum}" for momentum in momenta] + list(words)
    legend(figure, {words.get(name, name): STYLES[name] for name in shown})
    return figure


CLAIM = Claim(
    id="C10",
    title="Population statistics make inference independent of the batch; moving averages reach them late, "
    "recalibration at once",
    question="Does an example's output depend on the rest of its batch, and how near do moving averages come to the "
    "exact moments?",
    method="(1) A layer gets 100 batches whose mean is 10. (2) The paper's sigmoid network with batch norm trains by "
    "SGD with batches of 60 and a learning rate of 1; momenta share the seeds, and so the weights. At some steps it "
    "is tested with its moving averages, with the moments of the test batch, and recalibrated by Algorithm 2 over all "
    "training examples, which also give the exact moments. At the last step it is recalibrated from fewer samples, "
    "too.",
    rule="Does not hold if an output in inference changes by more than 10⁻⁵ with the rest of the batch, if it does "
    "not by 10⁻² with the moments of the batch, or if a moving mean of constant batches is more than 0.001 off 10 (1 "
    "− momentum^steps). Holds if also, in means over the seeds, recalibration is the more accurate one at all steps "
    "up to 1/(1 − momentum), the two are within a percentage point from 10/(1 − momentum) steps on, and recalibration "
    "from 1,000 samples is within a percentage point of that from all. Holds under conditions otherwise.",
    refuted_by="An output in inference that changes with the rest of its batch.",
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
)
