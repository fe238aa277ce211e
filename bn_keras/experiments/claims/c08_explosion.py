"""C8: deep networks with batch norm have exploding gradients at initialization, and skip connections cure it."""

import math
import statistics

import keras
import numpy as np
import tensorflow as tf

from bn_keras.choices.names import CLAIMS
from bn_keras.experiments.claims.claim import CONDITIONALLY, FAILS, HOLDS, Cell, Claim, Finding, Form, Found, no_data
from bn_keras.experiments.claims.figures import draw_spread, new_figure, signed, spread
from bn_keras.experiments.comparison.figure_style import ArmStyle, label, legend
from bn_keras.lab.plot import BLACK, BLUE, GREEN, ORANGE
from bn_keras.models import norm

# The growth per layer with ReLU for infinite widths and batches.
RELU_LIMIT = math.sqrt(math.pi / (math.pi - 1))
# A batch so large that the limit is met, and yet small against the width.
LARGE = 256
# So small that it changes no figure.
EPSILON = 1e-12
# The first and the last layers have not settled.
SETTLING = 8
# How near the growth is to that of the theory, and to the limit for the large batch.
TOLERANCE, LARGE_TOLERANCE = 0.02, 0.01
# Gradients explode if the first layer has more than so many times the last layer's norm.
EXPLODED = 20
# The batch size of the figure's left half, which every network has.
DRAWN = 8
STYLES = {
    "relu": ArmStyle(BLUE, "-", "o"),
    "linear": ArmStyle(ORANGE, "-.", "^"),
    "relu with skips": ArmStyle(GREEN, (0, (7, 2)), "D"),
    "relu without norm": ArmStyle(BLACK, "--", "s"),
}


def cells(form: Form, found: Found) -> list[Cell]:
    """The networks, batch sizes and seeds."""
    seeds, depth, width = (3, 32, 384) if form.quick else (10, 48, 1024)
    batches = {
        "relu": (8, 32, 128) if form.quick else (8, 32, 128, LARGE),
        # The theory is far from 1 for small batches; below 6 its mean is one of an infinite variance.
        "linear": (6, 8) if form.quick else (6, 8, 16),
        "relu with skips": (8,) if form.quick else (8, 32, 128),
        "relu without norm": (8,) if form.quick else (8, 32, 128),
    }
    return [
        {"network": network, "batch": batch, "depth": depth, "width": width, "seed": seed}
        for network in batches
        for batch in batches[network]
        for seed in range(seeds)
    ]


def measure(cell: Cell, load) -> dict:
    """The norm of the gradient of a random linear loss with respect to the output of every layer."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(cell["seed"])
    network = make_network(cell)
    shape = cell["batch"], cell["width"]
    x, cotangent = tf.random.normal(shape), tf.random.normal(shape)
    with tf.GradientTape() as tape:
        outputs = network(x, training=True)
        loss = tf.reduce_sum(outputs[-1] * cotangent)
    norms = [float(tf.norm(gradient)) for gradient in tape.gradient(loss, outputs)]
    if not all(math.isfinite(value) and value for value in norms):
        raise ArithmeticError(f"Gradient norms must be finite and above 0. Received: {norms} from {cell}.")
    return {"gradient_norm": [float(f"{value:.6g}") for value in norms]}


def make_network(cell: Cell) -> keras.Model:
    """Fully connected layers, each with its output; He's initialization keeps the variance without norm."""
    kind = cell["network"]
    gain = 1.0 if kind == "linear" else 2.0
    x = inputs = keras.Input((cell["width"],))
    outputs = []
    for _ in range(cell["depth"]):
        before = x
        initializer = keras.initializers.VarianceScaling(gain, distribution="untruncated_normal")
        x = keras.layers.Dense(cell["width"], use_bias=False, kernel_initializer=initializer)(x)
        if kind != "relu without norm":
            x = norm("batch", epsilon=EPSILON)(x)
        if kind != "linear":
            x = keras.layers.ReLU()(x)
        if kind == "relu with skips":
            x = keras.layers.Add()([x, before])
        outputs.append(x)
    return keras.Model(inputs, outputs)


def growth(norms) -> float:
    """The factor by which the norm grows from a layer to the one before it, between layers that have settled."""
    first, last = norms[SETTLING], norms[-1 - SETTLING]
    return (first / last) ** (1 / (len(norms) - 1 - 2 * SETTLING))


def linear_theory(batch: int) -> float:
    """The growth of a linear network of infinite width."""
    return math.sqrt((batch - 2) / (batch - 3))


def relu_theory(batch: int) -> float:
    """The growth with ReLU at infinite width, where normalized values are uniform on a sphere of centred vectors."""
    correlation = -1 / (batch - 1)  # of two examples
    angle = math.pi / 2 + math.asin(correlation)
    both_positive = angle / (2 * math.pi)
    # The mean product of the ReLUs of two examples; that of one with itself is 1/2.
    product = (math.sqrt(1 - correlation**2) + correlation * angle) / (2 * math.pi)
    active, active_squared = batch / 2, batch / 2 + batch * (batch - 1) * both_positive
    # What the ReLU's mask, and then the gradient of the norm, leave of the squared norm of a centred gradient.
    left = active * (1 - 2 / batch) + active_squared / batch**2 - 1 / 2 + (1 / 2 + (batch - 1) * product) / batch
    return math.sqrt(batch * left / ((1 / 2 - product) * (batch - 3) * (batch - 1)))


THEORY = {"relu": relu_theory, "linear": linear_theory}


def growths(found: Found) -> dict[tuple[str, int], list[float]]:
    """The growth of each seed, by network and batch size."""
    by_arm: dict[tuple[str, int], list[float]] = {}
    for cell, values in found.pairs.values():
        by_arm.setdefault((cell["network"], cell["batch"]), []).append(growth(values["gradient_norm"]))
    return by_arm


def difference(found: Found, network: str, batch: int) -> float:
    """How far the mean growth over the seeds is from that of the theory, relative."""
    return statistics.mean(growths(found)[network, batch]) / THEORY[network](batch) - 1


def totals(found: Found, network: str, start: float = 0.0, end: float = 1.0) -> list[float]:
    """The factor by which the norm grows from one share of the depth back to another, for each run."""
    runs = found.values("gradient_norm", network=network)
    return [run[int(start * (len(run) - 1))] / run[int(end * (len(run) - 1))] for run in runs]


def judge(form: Form, found: Found) -> Finding:
    """Applies the rule."""
    by_arm = growths(found)
    largest = max(batch for network, batch in by_arm if network == "relu")
    differences = {arm: difference(found, *arm) for arm in by_arm if arm[0] in THEORY}
    furthest = max(differences, key=lambda arm: abs(differences[arm]))
    met = abs(differences[furthest]) <= TOLERANCE and (
        largest < LARGE or abs(statistics.mean(by_arm["relu", largest]) / RELU_LIMIT - 1) <= LARGE_TOLERANCE
    )
    explodes = min(totals(found, "relu")) > EXPLODED
    skips, deep, shallow = (totals(found, "relu with skips", *part) for part in ((0, 1), (0.5, 1), (0, 0.5)))
    cured = max(skips) <= EXPLODED and all(late < early for late, early in zip(deep, shallow, strict=True))
    against = [] if met else [f"the growth differs from theory by {signed(100 * differences[furthest], '.1f')} % "
                              f"({furthest[0]}, batch {furthest[1]})"]  # fmt: skip
    against += [] if cured else [f"skip connections do not stop it (up to ×{max(skips):.1f} over all layers)"]
    verdict = FAILS if not explodes else CONDITIONALLY if against else HOLDS
    return Finding(
        verdict,
        number=f"×{spread(by_arm['relu', largest])} per layer at batch {largest}",
        because=f"The growth differs from theory by at most {100 * abs(differences[furthest]):.2f} %. From the last "
        f"layer to the first, gradients grow by ×{spread(totals(found, 'relu'), ',.0f')} without skip connections, by "
        f"×{spread(skips, '.1f')} with them.",
        columns=("network", "batch", "growth of the gradient norm per layer", "theory", "difference"),
        rows=tuple(row(found, *arm) for arm in by_arm),
        conditions=f"gradients explode, but {' and '.join(against)}" if verdict == CONDITIONALLY else "",
        notes=(drift_note(found, largest),),
    )


def row(found: Found, network: str, batch: int) -> tuple[str, ...]:
    """A row of the table."""
    words = network, str(batch), spread(growths(found)[network, batch], ".4f")
    if network not in THEORY:
        return *words, "–", "–"
    return *words, f"{THEORY[network](batch):.4f}", f"{signed(100 * difference(found, network, batch), '.2f')} %"


def drift_note(found: Found, batch: int) -> str:
    """How far the growth drifts with the depth, which the theory of infinite width excludes."""
    runs = found.values("gradient_norm", network="relu", batch=batch)
    middle, settled = len(runs[0]) // 2, len(runs[0]) - 1 - SETTLING
    halves = [
        statistics.mean((run[start] / run[end]) ** (1 / (end - start)) for run in runs)
        for start, end in ((SETTLING, middle), (middle, settled))
    ]
    width = found.where(network="relu", batch=batch)[0][0]["width"]
    return (
        f"The theory is that of infinite width. At width {width} and batch {batch} the growth is {halves[0]:.4f} in "
        f"the first half of the settled layers and {halves[1]:.4f} in the second."
    )


def draw(form: Form, found: Found):
    """The gradient norm over the depth, and the growth over the batch size."""
    figure, (left, right) = new_figure(form, "gradients of deep networks at initialization", 2)
    for network, style in STYLES.items():
        runs = found.values("gradient_norm", network=network, batch=DRAWN)
        ratios = [[run[layer] / run[-1] for run in runs] for layer in range(len(runs[0]))]
        draw_spread(left, np.arange(1, len(ratios) + 1), ratios, ArmStyle(style.color, style.line, ""))
        batches = sorted({cell["batch"] for cell, _ in found.where(network=network)})
        rows = [growths(found)[network, batch] for batch in batches]
        draw_spread(right, batches, rows, style)
    for network, of in THEORY.items():
        line = range(min(cell["batch"] for cell, _ in found.where(network=network)), 2 * LARGE)
        right.plot(line, [of(batch) for batch in line], color=STYLES[network].color, linewidth=1, linestyle=":")
    left.set_yscale("log")
    right.set_xscale("log", base=2)
    label(left, x="layer", y="gradient norm, over the last layer's", title=f"batch of {DRAWN}")
    label(right, x="batch size", y="growth per layer", title="dotted: theory; 1.211 is the limit")
    legend(figure, STYLES)
    return figure


CLAIM = Claim(
    id="C8",
    title=CLAIMS["C8"],
    question="By what factor does the gradient norm grow from a layer to the layer before it, before any training?",
    method="Fully connected networks with batch norm, without training. The loss is a random linear function of the "
    "last layer. The growth is the mean over all layers but the first and the last eight, for each seed. The controls "
    "are the same network without norm (He's initialization), and with a skip connection around each layer. The theory "
    "is exact for infinite width and each batch size.",
    rule="Gradients explode if the first layer's norm is more than 20 times the last layer's in every run with ReLU. "
    "Skip connections cure it if this factor is at most 20 in every run with them, and the second half of the layers "
    "adds less to it than the first half: the growth falls with the depth. The theory is met if the mean growth over "
    "the seeds is within 2 % of the theory's for every batch size, and within 1 % of the limit 1.211 for a batch of "
    "256. The claim holds if all three are true, holds under conditions if gradients explode and one of the others "
    "fails, and does not hold otherwise.",
    refuted_by="A growth of about 1 without skip connections.",
    literature="Mean-field theory: 1.211 for large batches with ReLU; 1.337, 1.234 and 1.216 for batches of 8, 32 and "
    "128. Linear networks: the squared norm grows by (B−2)/(B−3).",
    source="Yang et al. 2019, A Mean Field Theory of Batch Normalization, arXiv 1902.08129",
    caption="Left: the norm of the gradient with respect to each layer's output, over that of the last layer; median "
    "and range of the seeds. Right: the growth per layer over the batch size.",
    data=no_data,
    cells=cells,
    measure=measure,
    judge=judge,
    draw=draw,
    settings={"epsilon": EPSILON},
)
