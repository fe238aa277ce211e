"""C13: whitening the channels needs fewer steps than batch norm: decorrelated batch norm against batch norm."""

import math
import statistics

import numpy as np
import tensorflow as tf

from bn_keras.choices.names import CLAIMS
from bn_keras.experiments.claims.claim import CONDITIONALLY, FAILS, HOLDS, Cell, Claim, Finding, Form, Found
from bn_keras.experiments.claims.figures import draw_spread, new_figure, spread, written
from bn_keras.experiments.claims.protocol import (
    CAPPED,
    divergence_notes,
    edge_notes,
    fresh_runs,
    surely_above,
    tuned_cells,
    within_the_sweep,
)
from bn_keras.experiments.claims.training import best_accuracy, first_step_at, rounded, train_curve
from bn_keras.experiments.comparison.figure_style import STYLES, label, legend
from bn_keras.experiments.training_recipe import training_recipe

ARMS = ("batch", "decorrelated")
# The rates of the sigmoid network, which needs large ones, and of the convolutions.
RATES = {"mlp_sigmoid": (0.1, 0.3, 1.0, 3.0), "vgg_small": (0.01, 0.03, 0.1, 0.3)}
SEEDS = 5
# An accuracy counts so many examples at most.
EVALUATED = 4_000
# The examples whose features are correlated with each other.
MEASURED = 500
# Runs are short, and moving averages with the usual momentum of 0.99 would lag behind them.
OPTIONS = {"batch": {"momentum": 0.9}, "decorrelated": {"momentum": 0.9, "iterations": 7}}


def networks_of(form: Form) -> list[Cell]:
    """The networks, with their data and sizes."""
    if form.quick:
        return [{"network": "mlp_sigmoid", "data": "digits", "size": 8, "width": 0.5, "batch": 128, "steps": 200,
                 "every": 10, "validation": 300}]  # fmt: skip
    return [
        {"network": "mlp_sigmoid", "data": "mnist", "size": 28, "width": 1.0, "batch": 256, "steps": 1000,
         "every": 20, "validation": 2000},
        {"network": "vgg_small", "data": form.images, "size": 16, "width": 0.125, "batch": 128, "steps": 600,
         "every": 20, "validation": 1000},
    ]  # fmt: skip


def arms_of(form: Form) -> list[Cell]:
    """Both norms in every network."""
    return [network | {"norm": norm} for network in networks_of(form) for norm in ARMS]


def name_of(cell: Cell) -> str:
    """The arm of a run in words."""
    return f"{cell['norm']} in {cell['network']}"


def data(form: Form) -> tuple[str, ...]:
    """The digits, or MNIST and the colour images."""
    return tuple(network["data"] for network in networks_of(form))


def cells(form: Form, found: Found) -> list[Cell]:
    """Both norms in every network, tuned, with fresh seeds."""
    return [cell for arm in arms_of(form) for cell in tuned_cells(found, arm, RATES[arm["network"]], SEEDS)]


def measure(cell: Cell, load) -> dict:
    """The curve of a run, and the correlation of the normalized features at each evaluation."""
    data = load(cell["data"]) if cell["size"] in (8, 28) else load(cell["data"], image_size=cell["size"])
    recipe = training_recipe(
        cell["network"], cell["data"], norm=(cell["norm"], OPTIONS[cell["norm"]]), width=cell["width"],
        optimizer="momentum", batch_size=cell["batch"], learning_rate=cell["learning_rate"], steps=cell["steps"],
        evaluate_every=cell["every"], validation_examples=cell["validation"], evaluation_examples=EVALUATED,
        seed=cell["seed"],
    )  # fmt: skip
    return train_curve(recipe, data, observe=lambda trainer, evaluation: observed(trainer, evaluation, cell["steps"]))


def observed(trainer, evaluation, last: int) -> dict:
    """The time so far, and the correlation before the first step and after the last one."""
    ends = evaluation.step in (0, last)
    correlation = feature_correlation(trainer.model, trainer.data.validation.inputs[:MEASURED]) if ends else None
    return {"training_seconds": round(evaluation.seconds, 3), "correlation": correlation}


def feature_correlation(model, images) -> float:
    """The mean absolute correlation of two channels after a norm, over all norms; a batch normalized by itself."""
    norms = [layer for layer in model.layers if layer.name.endswith("_norm")]
    own = [variable.numpy() for variable in model.variables]
    x, found = tf.cast(images, tf.float32), []
    for layer in model.layers[1:]:
        x = layer(x, training=True)
        if layer in norms:
            found.append(mean_correlation(x.numpy()))
    for variable, value in zip(model.variables, own, strict=True):
        variable.assign(value)
    return rounded(float(np.mean(found)), 4)


def mean_correlation(features: np.ndarray) -> float:
    """The mean absolute correlation of two different channels, the last axis; constant channels do not count."""
    rows = features.reshape(-1, features.shape[-1]).astype(np.float64)
    rows = rows[:, rows.std(0) > 1e-6]
    correlation = np.abs(np.corrcoef(rows.T))
    return float(correlation[~np.eye(len(correlation), dtype=bool)].mean())


def target_of(found: Found, network: str) -> float:
    """The accuracy that every run of batch norm reaches, of the runs that did not diverge."""
    runs = fresh_runs(found, network=network, norm="batch")
    return min((best_accuracy(run) for run in runs if not run["diverged_at"]), default=0.0)


def steps_of(found: Found, network: str, arm: str) -> list[float]:
    """The steps to the target of each seed; ∞ for a run that never gets there."""
    target = target_of(found, network)
    return [first_step_at(run, target) for run in fresh_runs(found, network=network, norm=arm)]


def accuracies(found: Found, network: str, arm: str) -> list[float]:
    """The test accuracy of each seed; 0 for a run that diverged."""
    return [run["test_accuracy"] or 0.0 for run in fresh_runs(found, network=network, norm=arm)]


def last_correlations(found: Found, network: str, arm: str) -> list[float]:
    """The correlation after training of each seed; ∞ for a run that diverged."""
    runs = fresh_runs(found, network=network, norm=arm)
    return [math.inf if run["diverged_at"] else run["correlation"][-1] for run in runs]


def outcome(found: Found, network: str) -> tuple[bool, bool, bool]:
    """Whether whitening decorrelates, takes fewer steps, is less accurate; each in every seed."""
    correlation, steps, test = (
        [of(found, network, arm) for arm in ARMS] for of in (last_correlations, steps_of, accuracies)
    )
    return surely_above(*correlation), surely_above(*steps), surely_above(*test)


def judge(form: Form, found: Found) -> Finding:
    """Applies the rule."""
    networks = [network["network"] for network in networks_of(form)]
    outcomes = {network: outcome(found, network) for network in networks}
    faster = [whitens and fewer for whitens, fewer, _ in outcomes.values()]
    worse = any(less for *_, less in outcomes.values())
    verdict = HOLDS if all(faster) and not worse else CONDITIONALLY if any(faster) else FAILS
    words = "; ".join(words_of(name, *outcomes[name]) for name in networks)
    edges = edge_notes(found, {name_of(arm): (arm, RATES[arm["network"]]) for arm in arms_of(form)})
    verdict, conditions = within_the_sweep(verdict, words if verdict == CONDITIONALLY else "", edges)
    return Finding(
        verdict,
        number="; ".join(
            f"{name}: {steps_words(found, name, 'batch')} steps with batch norm, {steps_words(found, name, ARMS[1])} "
            "with whitening"
            for name in networks
        ),
        because=words[0].upper() + words[1:] + ".",
        columns=("network", "norm", "learning rate", "correlation", "steps to the target", "test accuracy, %",
                 "time of a step, ms"),
        rows=tuple(row(found, network, arm) for network in networks for arm in ARMS),
        conditions=conditions,
        notes=edges + divergence_notes(found, name_of),
    )  # fmt: skip


def words_of(network: str, whitens: bool, faster: bool, worse: bool) -> str:
    """The outcome in a network."""
    speed = "takes fewer steps" if faster else "does not take fewer steps in every seed"
    accuracy = " but is less accurate" * worse
    return f"in {network}, whitening {'decorrelates' if whitens else 'does not decorrelate'} and {speed}{accuracy}"


def steps_words(found: Found, network: str, arm: str) -> str:
    """The median and the range of the steps to the target."""
    low, median, high = (written(of(steps_of(found, network, arm)), ",.0f") for of in (min, statistics.median, max))
    return f"{median} ({low}–{high})" if low != high else median


def row(found: Found, network: str, arm: str) -> tuple[str, ...]:
    """A row of the table."""
    runs = fresh_runs(found, network=network, norm=arm)
    rate = found.where(network=network, norm=arm, seed=1)[0][0]["learning_rate"]
    times = [1000 * run["training_seconds"][-1] / run["steps"][-1] for run in runs if not run["diverged_at"]]
    words = steps_words(found, network, arm)
    test = spread([100 * value for value in accuracies(found, network, arm)], ".1f")
    correlation = spread(last_correlations(found, network, arm)).replace("never", "∞")
    return network, arm, f"{rate:g}", correlation, words, test, spread(times, ".1f")


def draw(form: Form, found: Found):
    """The validation accuracy over the steps in each network."""
    networks = networks_of(form)
    figure, axes = new_figure(form, "whitening against standardizing", len(networks))
    for panel, network in zip(axes, networks, strict=True):
        for arm in ARMS:
            runs = fresh_runs(found, network=network["network"], norm=arm)
            count = min(len(run["steps"]) for run in runs)
            rows = [[100 * run["accuracy"][place] for run in runs] for place in range(count)]
            draw_spread(panel, runs[0]["steps"][:count], rows, STYLES[arm])
        panel.axhline(100 * target_of(found, network["network"]), color="#333333", linewidth=1, linestyle=":")
        label(panel, x="training step", y="validation accuracy, %", title=f"{network['network']} on {network['data']}")
    legend(figure, {arm: STYLES[arm] for arm in ARMS})
    return figure


CLAIM = Claim(
    id="C13",
    title=CLAIMS["C13"],
    question="Does whitening all channels need fewer steps than batch norm to the same accuracy?",
    method="The paper's sigmoid network on MNIST (1,000 steps of 256 examples, 4.4 epochs), and a small VGG on 16×16 "
    "colour images (600 steps of 128, 1.6 epochs) train by SGD with momentum. The sketch trains the sigmoid network at "
    "half width on the digits. Decorrelated batch norm whitens all channels of a layer as one group, with seven "
    "iterations of Newton's method. Each norm takes the learning rate with the best validation accuracy of one sweep, "
    "then 5 fresh seeds. The target is the validation accuracy that every seed of batch norm reaches within these "
    "epochs. The correlation is the mean absolute one of two channels after a norm.",
    rule="Each network gives one contrast, so the full form has two. Whitening passes in a network if the correlation "
    "of every seed after training is lower than that of every seed of batch norm, and every seed gets to the target in "
    "fewer steps than every seed of batch norm. The claim holds if whitening passes in every network and batch norm is "
    "not more accurate on the test examples in every seed of any network. It holds under conditions if whitening "
    "passes in some network, and does not hold otherwise. A run that diverged does not set the target and never "
    "reaches it; its correlation counts as ∞ and its accuracy as 0. " + CAPPED,
    refuted_by="As many steps with whitened features as with standardized ones.",
    literature="The papers report faster optimization than with batch norm, and more accurate residual networks on "
    "CIFAR-10, CIFAR-100 and ImageNet.",
    source="Huang et al. 2018, Decorrelated Batch Normalization, arXiv 1804.08450; Huang et al. 2019, Iterative "
    "Normalization, arXiv 1904.03441",
    caption="Validation accuracy at the best learning rate of each norm, median and range of the seeds; dotted: the "
    "target.",
    data=data,
    cells=cells,
    measure=measure,
    judge=judge,
    draw=draw,
    settings={"norms": OPTIONS, "evaluated": EVALUATED, "examples of the correlation": MEASURED},
)
