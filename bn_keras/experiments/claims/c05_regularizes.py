"""C5: batch norm regularizes, so that dropout is needed less; moderate batches do best."""

import dataclasses
import statistics

import keras

from bn_keras.choices.names import CLAIMS
from bn_keras.experiments.claims.claim import CONDITIONALLY, FAILS, HOLDS, Cell, Claim, Finding, Form, Found
from bn_keras.experiments.claims.figures import draw_spread, new_figure, signed, spread
from bn_keras.experiments.claims.protocol import (
    CAPPED,
    divergence_notes,
    edge_notes,
    fresh_runs,
    surely_above,
    tuned_cells,
    within_the_sweep,
)
from bn_keras.experiments.claims.training import TUNING_SEED, train_curve
from bn_keras.experiments.comparison.figure_style import ArmStyle, label, legend
from bn_keras.experiments.data import Data
from bn_keras.experiments.network import build_network
from bn_keras.experiments.training_recipe import TrainingRecipe, training_recipe
from bn_keras.lab.plot import BLACK, BLUE, GREEN, ORANGE, VERMILION
from bn_keras.models import norm

# Each arm by its norm and whether it drops hidden units.
ARMS = {"none": (None, False), "dropout": (None, True), "batch norm": ("batch", False), "both": ("batch", True)}
DEPTH, DROPOUT = 2, 0.5
# The momentum of moving averages for batches of 64: they forget as much per example, whatever the batch size.
MOMENTUM = 0.9
MODERATE = (32, 64, 128)
# Dropout adds nothing up to this difference of two mean accuracies.
SAME = 0.01
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
    """The learning rates that every arm tries."""
    rates = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
    return rates if form.quick else (*rates, 3.0)


def groups_of(form: Form) -> tuple[int, tuple[int, ...]]:
    """A batch size, and how many of its examples share their moments; ghost batch norm below the batch size."""
    return (128, (8, 32, 128)) if form.quick else (256, (8, 32, 64, 128, 256))


def arms_of(form: Form) -> list[Cell]:
    """The four arms at the common batch size, and batch norm with moments of few to many examples."""
    common, (large, groups) = 32 if form.quick else 64, groups_of(form)
    sizes = (
        {"examples": 256, "validation": 300, "epochs": 30, "units": 128}
        if form.quick
        else {"examples": 1024, "validation": 5000, "epochs": 100, "units": 256}
    )
    kinds = [(arm, common, common) for arm in ARMS] + [("batch norm", large, group) for group in groups]
    return [{"data": data(form)[0], "arm": arm, "batch": batch, "group": group} | sizes for arm, batch, group in kinds]


def cells(form: Form, found: Found) -> list[Cell]:
    """Every arm, tuned, with fresh seeds."""
    seeds = 3 if form.quick else 5
    return [cell for arm in arms_of(form) for cell in tuned_cells(found, arm, rates_of(form), seeds)]


def measure(cell: Cell, load) -> dict:
    """The accuracy on training and test examples after the epochs."""
    kind, drops = ARMS[cell["arm"]]
    steps = cell["epochs"] * cell["examples"] // cell["batch"]
    recipe = training_recipe(
        "mlp_relu_deep", cell["data"], norm=kind and (kind, options_of(cell)), learning_rate=cell["learning_rate"],
        options={"depth": DEPTH, "units": cell["units"]}, optimizer="momentum", schedule="cosine",
        batch_size=cell["batch"], steps=steps, evaluate_every=steps, validation_examples=cell["validation"],
        seed=cell["seed"],
    )  # fmt: skip
    few = fewer(load(cell["data"]), cell["examples"], cell["validation"])
    return train_curve(recipe, few, make_network=network_with_dropout if drops else build_network)


def options_of(cell: Cell) -> dict:
    """The options of batch norm."""
    momentum = {"momentum": MOMENTUM ** (cell["batch"] / 64)}
    return momentum if cell["group"] == cell["batch"] else momentum | {"virtual_batch_size": cell["group"]}


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
        x = keras.layers.Dropout(DROPOUT)(x)
    return keras.Model(inputs, keras.layers.Dense(data.classes)(x))


def gaps(runs) -> list[float]:
    """Training minus test accuracy of each run; 1 for a run that diverged."""
    return [1.0 if run["diverged_at"] else run["train_accuracy"] - run["test_accuracy"] for run in runs]


def accuracies(runs) -> list[float]:
    """The test accuracy of each run; 0 for a run that diverged."""
    return [0.0 if run["diverged_at"] else run["test_accuracy"] for run in runs]


def by_group(form: Form, found: Found) -> dict[int, list]:
    """The runs of batch norm by the number of examples that share their moments, in ascending order."""
    batch, groups = groups_of(form)
    return {group: fresh_runs(found, arm="batch norm", batch=batch, group=group) for group in groups}


def judge(form: Form, found: Found) -> Finding:
    """Applies the rule."""
    common = arms_of(form)[0]["batch"]
    runs = {arm: fresh_runs(found, arm=arm, batch=common) for arm in ARMS}
    test, gap = ({arm: of(each) for arm, each in runs.items()} for of in (accuracies, gaps))
    regularizes = surely_above(gap["none"], gap["batch norm"]) and surely_above(test["batch norm"], test["none"])
    ahead = {arm: statistics.mean(test[arm]) - statistics.mean(test["batch norm"]) for arm in ("dropout", "both")}
    missed = []
    if ahead["dropout"] > SAME:
        missed.append("dropout alone does better than batch norm alone")
    if ahead["both"] > SAME:
        missed.append("dropout still adds to batch norm")
    groups = {group: accuracies(each) for group, each in by_group(form, found).items()}
    best = max(groups, key=lambda group: statistics.mean(groups[group]))
    ends = min(groups), max(groups)
    if best not in MODERATE or not all(surely_above(groups[best], groups[end]) for end in ends):
        missed.append(f"moments of 32 to 128 examples are not clearly better than those of {ends[0]} and {ends[1]}")
    verdict = FAILS if not regularizes else CONDITIONALLY if missed else HOLDS
    edges = edge_notes(found, {name_of(arm): (arm, rates_of(form)) for arm in arms_of(form)})
    verdict, conditions = within_the_sweep(verdict, "; ".join(missed) if verdict == CONDITIONALLY else "", edges)
    return Finding(
        verdict,
        number=f"gap of {percent(gap['batch norm'], '')} points with batch norm, {percent(gap['none'], '')} without, "
        f"{percent(gap['dropout'], '')} with dropout, {percent(gap['both'], '')} with both",
        because=f"The test accuracy is {percent(test['none'])} without, {percent(test['dropout'])} with dropout, "
        f"{percent(test['batch norm'])} with batch norm and {percent(test['both'])} with both. Against batch norm, "
        f"dropout changes the mean by {signed(100 * ahead['dropout'], '.1f')} points, and both by "
        f"{signed(100 * ahead['both'], '.1f')}. "
        f"The best moments are those of {best} examples.",
        columns=("arm", "batch", "examples per moments", "learning rate", "training accuracy, %", "test accuracy, %",
                 "gap, points"),
        rows=tuple(row_of(found, arm) for arm in arms_of(form)),
        conditions=conditions,
        notes=edges
        + divergence_notes(found, name_of),
    )  # fmt: skip


def row_of(found: Found, arm: Cell) -> tuple[str, ...]:
    """An arm in the table."""
    runs = fresh_runs(found, **arm)
    trained = [run["train_accuracy"] for run in runs if not run["diverged_at"]]
    moments = str(arm["group"]) if ARMS[arm["arm"]][0] else "–"
    rate = found.where(**arm, seed=TUNING_SEED + 1)[0][0]["learning_rate"]
    return (arm["arm"], str(arm["batch"]), moments, f"{rate:g}", percent(trained, ""), percent(accuracies(runs), ""),
            percent(gaps(runs), ""))  # fmt: skip


def name_of(cell: Cell) -> str:
    """The arm of a run in words."""
    ghost = f" and moments of {cell['group']}" if cell["group"] != cell["batch"] else ""
    return f"{cell['arm']} with batches of {cell['batch']}{ghost}"


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
    groups = by_group(form, found)
    rows = [[100 * value for value in accuracies(runs)] for runs in groups.values()]
    draw_spread(right, list(groups), rows, STYLES["batch norm"])
    right.set_xscale("log", base=2)
    right.set_xticks(list(groups), [str(group) for group in groups])
    right.axvspan(min(MODERATE), max(MODERATE), color=BLACK, alpha=0.06, linewidth=0)
    label(left, x="training minus test accuracy, points", y="test accuracy, %", title=f"batches of {common}, each seed")
    title = f"batch norm in batches of {groups_of(form)[0]}; grey: 32 to 128"
    label(right, x="examples that share their moments", y="test accuracy, %", title=title)
    legend(figure, STYLES)
    return figure


CLAIM = Claim(
    id="C5",
    title=CLAIMS["C5"],
    question="How far apart are training and test accuracy with dropout, batch norm, both and neither?",
    method="A network with two hidden layers of ReLU trains on 1,024 examples of MNIST (sketch: 256 digits) for 100 "
    "epochs (30) by SGD with momentum and a cosine schedule, so that it can overfit. Dropout drops half of the hidden "
    "units. The four arms take batches of 64 (32). A second experiment keeps the batch at 256 (128) and varies only "
    "how many of its examples share their moments, 8 to 256 (128), by ghost batch norm: the noise of the moments "
    "changes, and that of SGD does not. Every arm takes the learning rate with the best validation accuracy of one "
    "sweep, then 5 fresh seeds (3).",
    rule="Does not hold unless every seed with batch norm has a smaller gap and a higher test accuracy than every "
    "seed without it. Holds if also the mean test accuracies of dropout and of both are at most a percentage point "
    "above that of batch norm, and the moments with the best mean test accuracy are those of 32 to 128 examples and "
    "better in every seed than those of the fewest and of the most. Holds under conditions otherwise. A run that "
    "diverged has a gap of 1 and an accuracy of 0. " + CAPPED,
    refuted_by="A gap as large with batch norm as without.",
    literature="The paper reports that batch norm lets dropout be removed from Inception without more overfitting. "
    "A textbook reports that batches of 50 to 100 work best, and explains it by the noise of their moments.",
    source="Ioffe & Szegedy 2015, section 3.4, arXiv 1502.03167; Zhang et al., Dive into Deep Learning, section "
    "Batch Normalization, https://d2l.ai/chapter_convolutional-modern/batch-norm.html",
    caption="Left: each seed's gap between training and test accuracy, and its test accuracy. Right: the test "
    "accuracy of batch norm over the number of examples that share their moments, median and range of the seeds.",
    data=data,
    cells=cells,
    measure=measure,
    judge=judge,
    draw=draw,
    settings={"depth": DEPTH, "dropout": DROPOUT, "momentum of the averages": MOMENTUM},
)
