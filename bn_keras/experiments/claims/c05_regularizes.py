"""C5: batch norm regularizes, so that dropout is needed less; moderate batches do best."""

import dataclasses
import statistics

import keras

from bn_keras.experiments.claims.claim import CONDITIONALLY, FAILS, HOLDS, Cell, Claim, Finding, Form, Found
from bn_keras.experiments.claims.figures import draw_spread, new_figure, spread
from bn_keras.experiments.claims.protocol import (
    divergence_notes,
    edge_notes,
    fresh_runs,
    surely_above,
    tuned_cells,
)
from bn_keras.experiments.claims.training import train_curve
from bn_keras.experiments.comparison.figure_style import ArmStyle, label, legend
from bn_keras.experiments.data import Data
from bn_keras.experiments.network import build_network
from bn_keras.experiments.training_recipe import TrainingRecipe, training_recipe
from bn_keras.lab.plot import BLACK, BLUE, GREEN, ORANGE, VERMILION
from bn_keras.models import norm

ARMS = {"none": (None, 0.0), "dropout": (None, 0.5), "batch norm": ("batch", 0.0), "both": ("batch", 0.5)}
MODERATE = (32, 64, 128)
STYLES = {
    "none": ArmStyle(VERMILION, "", "s"),
    "dropout": ArmStyle(ORANGE, "", "^"),
    "batch norm": ArmStyle(BLUE, "-", "o"),
    "both": ArmStyle(GREEN, "", "D"),
}


def data(form: Form) -> tuple[str, ...]:
    """The digits, or MNIST; few of their training examples."""
    return ("digits",) if form.quick else ("mnist",)


def rates_of(form: Form) -> tuple[float, ...]:
    """The learning rates that every arm and batch size tries."""
    return (0.003, 0.01, 0.03, 0.1, 0.3) if form.quick else (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)


def arms_of(form: Form) -> list[Cell]:
    """The four arms at the common batch size, and batch norm at the other ones."""
    batches, common = ((8, 32, 128), 32) if form.quick else ((8, 32, 64, 128, 512), 64)
    sizes = (
        {"examples": 256, "validation": 300, "epochs": 30, "units": 128}
        if form.quick
        else {"examples": 1024, "validation": 5000, "epochs": 100, "units": 256}
    )
    kinds = [(arm, common) for arm in ARMS] + [("batch norm", batch) for batch in batches if batch != common]
    return [{"data": data(form)[0], "arm": arm, "batch": batch} | sizes for arm, batch in kinds]


def cells(form: Form, found: Found) -> list[Cell]:
    """Every arm and batch size, tuned, with fresh seeds."""
    seeds = 3 if form.quick else 5
    return [cell for arm in arms_of(form) for cell in tuned_cells(found, arm, rates_of(form), seeds)]


def measure(cell: Cell, load) -> dict:
    """The accuracy on training and test examples after the epochs."""
    kind, dropout = ARMS[cell["arm"]]
    steps = cell["epochs"] * cell["examples"] // cell["batch"]
    # A moving average forgets as much per example, whatever the batch size.
    options = {"momentum": 0.9 ** (cell["batch"] / 64)}
    recipe = training_recipe(
        "mlp_relu_deep", cell["data"], norm=kind and (kind, options), options={"depth": 2, "units": cell["units"]},
        learning_rate=cell["learning_rate"], schedule="cosine", batch_size=cell["batch"], steps=steps,
        evaluate_every=steps, validation_examples=cell["validation"], seed=cell["seed"],
    )  # fmt: skip
    few = fewer(load(cell["data"]), cell["examples"], cell["validation"])
    return train_curve(recipe, few, make_network=network_with_dropout if dropout else build_network)


def fewer(data: Data, examples: int, validation: int) -> Data:
    """The data with the validation examples held out and the first of the other training examples."""
    whole = data.with_validation(validation)
    first = slice(0, examples)
    train = dataclasses.replace(whole.train, inputs=whole.train.inputs[first], labels=whole.train.labels[first])
    return dataclasses.replace(whole, train=train)


def network_with_dropout(recipe: TrainingRecipe, data: Data) -> keras.Model:
    """The network of `mlp_relu_deep`, with half of the hidden units dropped out."""
    x = inputs = keras.Input(data.input_shape)
    x = keras.layers.Flatten()(data.preprocessing()(x))
    for _ in range(recipe.options["depth"]):
        x = keras.layers.Dense(recipe.options["units"], use_bias=recipe.norm is None, kernel_initializer="he_normal")(x)
        x = keras.layers.ReLU()(norm(recipe.norm)(x))
        x = keras.layers.Dropout(0.5)(x)
    return keras.Model(inputs, keras.layers.Dense(data.classes)(x))


def gaps(runs) -> list[float]:
    """Training minus test accuracy of each run; 1 for a run that diverged."""
    return [1.0 if run["diverged_at"] else run["train_accuracy"] - run["test_accuracy"] for run in runs]


def accuracies(runs) -> list[float]:
    """The test accuracy of each run; 0 for a run that diverged."""
    return [0.0 if run["diverged_at"] else run["test_accuracy"] for run in runs]


def by_batch(form: Form, found: Found) -> dict[int, list]:
    """The runs of batch norm by the batch size, in ascending order."""
    batches = sorted(arm["batch"] for arm in arms_of(form) if arm["arm"] == "batch norm")
    return {batch: fresh_runs(found, arm="batch norm", batch=batch) for batch in batches}


def judge(form: Form, found: Found) -> Finding:
    """Applies the rule."""
    common = arms_of(form)[0]["batch"]
    runs = {arm: fresh_runs(found, arm=arm, batch=common) for arm in ARMS}
    test, gap = ({arm: of(each) for arm, each in runs.items()} for of in (accuracies, gaps))
    regularizes = surely_above(gap["none"], gap["batch norm"]) and surely_above(test["batch norm"], test["none"])
    missed = []
    if surely_above(test["dropout"], test["batch norm"]):
        missed.append("dropout alone does better than batch norm alone")
    if surely_above(test["both"], test["batch norm"]):
        missed.append("dropout still adds to batch norm")
    batches = {batch: accuracies(each) for batch, each in by_batch(form, found).items()}
    best = max(batches, key=lambda batch: statistics.mean(batches[batch]))
    ends = min(batches), max(batches)
    if best not in MODERATE or not all(surely_above(batches[best], batches[end]) for end in ends):
        missed.append(f"batches of 32 to 128 are not clearly better than both {ends[0]} and {ends[1]}")
    verdict = FAILS if not regularizes else CONDITIONALLY if missed else HOLDS
    rows = [(arm, common, each) for arm, each in runs.items()]
    rows += [("batch norm", batch, each) for batch, each in by_batch(form, found).items() if batch != common]
    return Finding(
        verdict,
        number=f"gap of {percent(gap['batch norm'])} with batch norm, {percent(gap['none'])} without, "
        f"{percent(gap['dropout'])} with dropout, {percent(gap['both'])} with both",
        because=f"The test accuracy is {percent(test['none'])} without, {percent(test['dropout'])} with dropout, "
        f"{percent(test['batch norm'])} with batch norm and {percent(test['both'])} with both. The best batch size is "
        f"{best}.",
        columns=("arm", "batch", "learning rate", "training accuracy, %", "test accuracy, %", "gap, points"),
        rows=tuple(
            (arm, str(batch), f"{rate_of(found, arm, batch):g}", train_words(each), percent(accuracies(each), ""),
             percent(gaps(each), ""))
            for arm, batch, each in rows
        ),
        conditions="; ".join(missed) if verdict == CONDITIONALLY else "",
        notes=edge_notes(found, {name_of(arm): (arm, rates_of(form)) for arm in arms_of(form)})
        + divergence_notes(found, name_of),
    )  # fmt: skip


def name_of(cell: Cell) -> str:
    """The arm of a run in words."""
    return f"{cell['arm']} with batches of {cell['batch']}"


def rate_of(found: Found, arm: str, batch: int) -> float:
    """The learning rate of the fresh runs."""
    return found.where(arm=arm, batch=batch, seed=1)[0][0]["learning_rate"]


def train_words(runs) -> str:
    """The training accuracies of the runs that did not diverge."""
    return percent([run["train_accuracy"] for run in runs if not run["diverged_at"]], "")


def percent(values, unit: str = " %") -> str:
    """Shares in per cent."""
    return spread([100 * value for value in values], ".1f") + unit


def draw(form: Form, found: Found):
    """The gap and the test error of the arms, and over the batch size."""
    figure, (left, right) = new_figure(form, "generalization from few examples", 2)
    common = arms_of(form)[0]["batch"]
    for arm, style in STYLES.items():
        runs = fresh_runs(found, arm=arm, batch=common)
        left.plot(
            [100 * value for value in gaps(runs)], [100 * value for value in accuracies(runs)], style.marker,
            color=style.color, markersize=8,
        )  # fmt: skip
    batches = by_batch(form, found)
    rows = [[100 * value for value in accuracies(runs)] for runs in batches.values()]
    draw_spread(right, list(batches), rows, STYLES["batch norm"])
    right.set_xscale("log", base=2)
    right.set_xticks(list(batches), [str(batch) for batch in batches])
    right.axvspan(min(MODERATE), max(MODERATE), color=BLACK, alpha=0.06, linewidth=0)
    label(left, x="training minus test accuracy, points", y="test accuracy, %", title=f"batches of {common}, each seed")
    label(right, x="batch size", y="test accuracy, %", title="batch norm at equal epochs; grey: 32 to 128")
    legend(figure, STYLES)
    return figure


CLAIM = Claim(
    id="C5",
    title="Batch norm regularizes, so that dropout is needed less; moderate batches do best",
    question="How far apart are training and test accuracy with dropout, batch norm, both and neither?",
    method="A network with two hidden layers of ReLU trains on 1,024 examples of MNIST (sketch: 256 digits) for 100 "
    "epochs (30) by SGD with momentum and a cosine schedule, so that it can overfit. Dropout drops half of the hidden "
    "units. Each arm and batch size takes the learning rate with the best validation accuracy of one sweep, then 5 "
    "fresh seeds (3). All batch sizes train for the same number of epochs, with moving averages that forget as much "
    "per example.",
    rule="Does not hold unless every seed with batch norm has a smaller gap and a higher test accuracy than every "
    "seed without it. Holds if also neither dropout nor both do better in every seed than every seed of batch norm, "
    "and the batch size with the best mean test accuracy is from 32 to 128 and better in every seed than the smallest "
    "and the largest. Holds under conditions otherwise. A run that diverged has a gap of 1 and an accuracy of 0.",
    refuted_by="A gap as large with batch norm as without.",
    literature="The paper reports that batch norm lets dropout be removed from Inception without more overfitting. "
    "Batches of about 50 to 100 do best.",
    source="Ioffe & Szegedy 2015, section 3.4, arXiv 1502.03167; Luo et al. 2019, Towards Understanding "
    "Regularization in Batch Normalization, arXiv 1809.00846",
    caption="Left: each seed's gap between training and test accuracy, and its test accuracy. Right: the test "
    "accuracy of batch norm over the batch size, median and range of the seeds.",
    data=data,
    cells=cells,
    measure=measure,
    judge=judge,
    draw=draw,
)
