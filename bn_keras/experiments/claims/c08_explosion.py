"""C8: deep networks with batch norm have exploding gradients at initialization, and skip connections cure it."""

import math
import statistics

import keras
import numpy as np
import tensorflow as tf

from bn_keras.experiments.claims.claim import CONDITIONALLY, FAILS, HOLDS, Cell, Claim, Finding, Form, Found, no_data
from bn_keras.experiments.claims.figures import draw_spread, new_figure, spread
from bn_keras.experiments.comparison.figure_style import ArmStyle, label, legend
from bn_keras.lab.plot import BLACK, BLUE, GREEN, ORANGE
from bn_keras.models import norm

# The growth per layer that mean-field theory gives for an infinite width.
RELU_LIMIT = math.sqrt(math.pi / (math.pi - 1))
RELU_THEORY = {8: 1.337, 32: 1.234, 128: 1.216}
LARGE = 512
# The first and the last layers have not settled.
SETTLING = 8
# What the theory is met within; "large" is a batch of 512.
TOLERANCE, LARGE_TOLERANCE = 0.02, 0.01
# Growth that fifty layers survive: 1.02 ** 50 = 2.7.
HARMLESS = 1.02
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
        "linear": (8, 32) if form.quick else (8, 32, 128),
        "relu with skips": (32,) if form.quick else (8, 32, 128),
        "relu without norm": (32,) if form.quick else (8, 32, 128),
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
            x = norm("batch", epsilon=1e-12)(x)
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


def theory(network: str, batch: int) -> float | None:
    """The factor that theory gives; `None` where it gives none."""
    if network == "linear":
        return math.sqrt((batch - 2) / (batch - 3))
    return (RELU_THEORY | {LARGE: RELU_LIMIT}).get(batch) if network == "relu" else None


def growths(found: Found) -> dict[tuple[str, int], list[float]]:
    """The growth of each seed, by network and batch size."""
    by_arm: dict[tuple[str, int], list[float]] = {}
    for cell, values in found.pairs.values():
        by_arm.setdefault((cell["network"], cell["batch"]), []).append(growth(values["gradient_norm"]))
    return by_arm


def judge(form: Form, found: Found) -> Finding:
    """Applies the rule."""
    by_arm = growths(found)
    deviations = {
        arm: abs(statistics.mean(values) / theory(*arm) - 1) for arm, values in by_arm.items() if theory(*arm)
    }
    met = all(off <= (LARGE_TOLERANCE if arm[1] == LARGE else TOLERANCE) for arm, off in deviations.items())
    explodes = all(min(values) > HARMLESS for (network, _), values in by_arm.items() if network == "relu")
    cured = all(max(values) <= 1.1 for (network, _), values in by_arm.items() if network == "relu with skips")
    verdict = HOLDS if met and explodes and cured else CONDITIONALLY if explodes else FAILS
    rows = tuple(
        (network, str(batch), spread(values, ".4f"), f"{theory(network, batch):.4f}" if theory(network, batch) else "–",
         f"{100 * (statistics.mean(values) / theory(network, batch) - 1):+.2f} %" if theory(network, batch) else "–")
        for (network, batch), values in by_arm.items()
    )  # fmt: skip
    largest = max(batch for network, batch in by_arm if network == "relu")
    return Finding(
        verdict,
        number=f"×{spread(by_arm['relu', largest])} per layer at batch {largest}",
        because=f"The growth differs from theory by at most {100 * max(deviations.values()):.2f} %; with skip "
        f"connections it is {spread([value for arm in by_arm for value in by_arm[arm] if 'skips' in arm[0]])}.",
        columns=("network", "batch", "growth of the gradient norm per layer", "theory", "difference"),
        rows=rows,
        conditions="not at the rate of the theory, or also with skip connections" if verdict == CONDITIONALLY else "",
    )


def draw(form: Form, found: Found):
    """The gradient norm over the depth, and the growth over the batch size."""
    figure, (left, right) = new_figure(form, "gradients of deep networks at initialization", 2)
    for network, style in STYLES.items():
        runs = found.values("gradient_norm", network=network, batch=32)
        ratios = [[run[layer] / run[-1] for run in runs] for layer in range(len(runs[0]))]
        draw_spread(left, np.arange(1, len(ratios) + 1), ratios, ArmStyle(style.color, style.line, ""))
        batches = sorted({cell["batch"] for cell, _ in found.where(network=network)})
        rows = [growths(found)[network, batch] for batch in batches]
        draw_spread(right, batches, rows, style)
    right.axhline(RELU_LIMIT, color=BLUE, linewidth=1, linestyle=":")
    left.set_yscale("log")
    right.set_xscale("log", base=2)
    label(left, x="layer", y="gradient norm, over the last layer's", title="batch of 32")
    label(right, x="batch size", y="growth per layer", title="dotted: √(π/(π−1)) = 1.211")
    legend(figure, STYLES)
    return figure


CLAIM = Claim(
    id="C8",
    title="Batch norm makes the gradients of deep networks explode at initialization; skip connections cure it",
    question="By what factor does the gradient norm grow from a layer to the layer before it, before any training?",
    method="Fully connected networks with batch norm, without training. The loss is a random linear function of the "
    "last layer. The growth is the mean over all layers but the first and the last eight, for each seed. The controls "
    "are the same network without norm (He's initialization), and with a skip connection around each layer.",
    rule="Holds if the mean growth over the seeds is within 2 % of the theory's (within 1 % for a batch of 512), above "
    "1.02 in every run with ReLU, and at most 1.1 in every run with skip connections. Holds under conditions if only "
    "the growth above 1.02 is there. Does not hold otherwise.",
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
)
