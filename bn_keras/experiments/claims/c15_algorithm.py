"""C15: the layer computes Algorithms 1 and 2 and the backward pass of the paper, to rounding."""

import keras
import ml_dtypes
import numpy as np
import tensorflow as tf

from bn_keras.choices.names import CLAIMS
from bn_keras.experiments.claims.claim import CONDITIONALLY, FAILS, HOLDS, Cell, Claim, Finding, Form, Found, no_data
from bn_keras.experiments.claims.figures import draw_spread, new_figure
from bn_keras.experiments.comparison.figure_style import ArmStyle, label, legend
from bn_keras.lab.plot import BLACK, BLUE, GREEN, ORANGE, VERMILION
from bn_keras.layers import BatchNorm

DTYPES = ("float64", "float32", "float16", "bfloat16")
QUANTITIES = {"y": "y", "dx": "∂l/∂x", "dgamma": "∂l/∂γ", "dbeta": "∂l/∂β", "inference": "inference"}
SIZES = (6, 5, 4, 3, 2)
# TensorFlow's kernel takes over from 65,536 elements on.
LARGE = (256, 4, 4, 16)
EPSILON = 1e-3
# In units of the dtype's rounding; sums over thousands of values collect more of them.
LIMIT, LARGE_LIMIT = 32, 256
# Algorithm 2 averages several batches.
BATCHES = 3
STYLES = {
    "float64": ArmStyle(BLUE, "-", "o"),
    "float32": ArmStyle(ORANGE, "-.", "^"),
    "float16": ArmStyle(GREEN, (0, (7, 2)), "D"),
    "bfloat16": ArmStyle(VERMILION, "--", "s"),
}


def cells(form: Form, found: Found) -> list[Cell]:
    """Every rank, axis and dtype; the kernel by its sizes."""
    seeds = 3 if form.quick else 20
    axes = [(rank, [axis]) for rank in range(2, 6) for axis in range(1, rank)]
    axes += [(rank, [1, rank - 1]) for rank in range(3, 6)]
    small = [{"shape": list(SIZES[:rank]), "axis": axis} for rank, axis in axes]
    large = [{"shape": list(LARGE), "axis": [3], "fused": fused} for fused in (False, True)]
    return [
        {**place, "dtype": dtype, "seeds": seeds}
        for place in small + large
        for dtype in DTYPES
        if not (place.get("fused") and dtype == "float64")  # the kernel does not take it
    ]


def measure(cell: Cell, load) -> dict:
    """The error of each quantity and seed, in units of its dtype's rounding."""
    errors = [errors_of(cell, seed) for seed in range(cell["seeds"])]
    return {name: [run[name] for run in errors] for name in QUANTITIES}


def errors_of(cell: Cell, seed: int) -> dict[str, float]:
    """The largest error of each quantity, relative to its size, in units of rounding."""
    random = np.random.default_rng(seed)
    shape, axis = tuple(cell["shape"]), tuple(cell["axis"])
    channels = [shape[each] for each in axis]

    def draw(size, mean=0.0):
        return random.normal(mean, 1.0, size).astype(cell["dtype"])

    batches = [draw(shape, mean=2.0) for _ in range(BATCHES)]
    gamma, beta, dy = draw(channels, mean=1.0), draw(channels), draw(shape)
    ours = layer_results(cell, batches, gamma, beta, dy)
    wide = [each.astype("float64") for each in (gamma, beta, dy)]
    truths, sizes = reference([batch.astype("float64") for batch in batches], *wide, axis)
    return {name: in_roundings(ours[name], truths[name], sizes[name]) for name in QUANTITIES}


def layer_results(cell: Cell, batches, gamma, beta, dy) -> dict[str, np.ndarray]:
    """What the layer gives: the last batch in training with its gradients, the first one in inference."""
    axis = cell["axis"] if len(cell["axis"]) > 1 else cell["axis"][0]
    layer = BatchNorm(axis=axis, epsilon=EPSILON, momentum=None, fused=cell.get("fused"), dtype=cell["dtype"])
    layer.build(batches[0].shape)
    layer.gamma.assign(gamma)
    layer.beta.assign(beta)
    for batch in batches[:-1]:
        layer(tf.constant(batch), training=True)
    x = tf.constant(batches[-1])
    weights = [layer.gamma.value, layer.beta.value]
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, training=True)
    gradients = tape.gradient(y, [x, *weights], output_gradients=tf.constant(dy))
    inference = layer(tf.constant(batches[0]), training=False)
    tensors = dict(zip(QUANTITIES, [y, *gradients, inference], strict=True))
    return {name: keras.ops.convert_to_numpy(tensor) for name, tensor in tensors.items()}


def reference(batches, gamma, beta, dy, axis) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Algorithm 1, the chain rule in the order of the paper, and Algorithm 2; and the size of each quantity.

    The size is the largest value. The terms of ∂l/∂γ and ∂l/∂β can cancel, so that their size is the largest sum of
    absolute terms.
    """
    x = batches[-1]
    others = tuple(each for each in range(x.ndim) if each not in axis)
    m = np.prod([x.shape[each] for each in others])
    broadcast = [x.shape[each] if each in axis else 1 for each in range(x.ndim)]
    gamma, beta = gamma.reshape(broadcast), beta.reshape(broadcast)

    def total(values):
        return values.sum(others, keepdims=True)

    def moments(values):
        mean = total(values) / m
        return mean, total((values - mean) ** 2) / m

    mu, variance = moments(x)
    x_hat = (x - mu) * (variance + EPSILON) ** -0.5
    y = gamma * x_hat + beta

    d_x_hat = dy * gamma
    d_gamma, d_beta = total(dy * x_hat), total(dy)
    d_variance = total(d_x_hat * -0.5 * (x - mu) * (variance + EPSILON) ** -1.5)
    d_mu = d_variance * (-2 / m) * total(x - mu) + total(d_x_hat * -((variance + EPSILON) ** -0.5))
    dx = d_x_hat * (variance + EPSILON) ** -0.5 + d_mu / m + d_variance * (2 / m) * (x - mu)

    means, variances = zip(*(moments(batch) for batch in batches), strict=True)
    expected, unbiased = sum(means) / len(batches), m / (m - 1) * sum(variances) / len(batches)
    inference = gamma / np.sqrt(unbiased + EPSILON) * batches[0] + (
        beta - gamma * expected / np.sqrt(unbiased + EPSILON)
    )
    truths = {"y": y, "dx": dx, "dgamma": d_gamma, "dbeta": d_beta, "inference": inference}
    terms = truths | {"dgamma": total(np.abs(dy * x_hat)), "dbeta": total(np.abs(dy))}
    return truths, {name: float(np.abs(each).max()) for name, each in terms.items()}


def in_roundings(ours: np.ndarray, truth: np.ndarray, size: float) -> float:
    """The largest error over the size, in units of the rounding of its dtype; ∞ for no number."""
    rounding = float(ml_dtypes.finfo(ours.dtype).eps) / 2
    error = np.abs(ours.astype("float64").reshape(truth.shape) - truth).max() / size / rounding
    return float(f"{error:.4g}") if np.isfinite(error) else float("inf")


def limit(cell: Cell) -> int:
    """What the error of a cell may be."""
    return LARGE_LIMIT if cell["shape"] == list(LARGE) else LIMIT


def worst(found: Found, *, quantities=tuple(QUANTITIES), large: bool = False, **settings) -> float:
    """The largest error of all cells with these settings, of the small or the large inputs."""
    return max(
        max(values[name])
        for cell, values in found.where(**settings)
        for name in quantities
        if (cell["shape"] == list(LARGE)) == large
    )


def judge(form: Form, found: Found) -> Finding:
    """Applies the rule."""
    pairs = found.pairs.values()
    over = {cell["dtype"] for cell, values in pairs if max(max(values[name]) for name in QUANTITIES) > limit(cell)}
    verdict = HOLDS if not over else FAILS if over & {"float64", "float32"} else CONDITIONALLY
    rows = []
    for large, words in ((False, "ranks 2 to 5, all axes"), (True, "4,096 values per channel")):
        for dtype in DTYPES:
            errors = [f"{worst(found, quantities=(name,), large=large, dtype=dtype):.2g}" for name in QUANTITIES]
            rows.append((words, dtype, *errors, str(LARGE_LIMIT if large else LIMIT)))
    largest = {dtype: worst(found, dtype=dtype) for dtype in DTYPES}
    return Finding(
        verdict,
        number=f"at most {largest['float64']:.2g} roundings in float64, {largest['float32']:.2g} in float32",
        because="The largest error over all ranks, axes and seeds is "
        + ", ".join(f"{error:.2g} roundings in {dtype}" for dtype, error in largest.items())
        + f"; {LIMIT} are allowed.",
        columns=("inputs", "dtype", *QUANTITIES.values(), "allowed"),
        rows=tuple(rows),
        conditions=f"not in {' and '.join(sorted(over))}" if verdict == CONDITIONALLY else "",
        notes=(f"Errors beyond the limit: {', '.join(sorted(over))}.",) if over else (),
    )


def draw(form: Form, found: Found):
    """The largest error by quantity, and by rank."""
    figure, (left, right) = new_figure(form, "errors of batch norm against the equations in float64", 2, sharey=True)
    for dtype, style in STYLES.items():
        by_quantity = [[worst(found, quantities=(name,), dtype=dtype)] for name in QUANTITIES]
        draw_spread(left, range(len(QUANTITIES)), by_quantity, ArmStyle(style.color, "", style.marker))
        ranks = sorted({len(cell["shape"]) for cell, _ in found.where(dtype=dtype)})
        by_rank = [
            [
                max(max(values[name]) for name in QUANTITIES)
                for cell, values in found.where(dtype=dtype)
                if len(cell["shape"]) == rank and cell["shape"] != list(LARGE)
            ]
            for rank in ranks
        ]
        draw_spread(right, ranks, by_rank, style)
    for axes in (left, right):
        axes.axhline(LIMIT, color=BLACK, linewidth=1, linestyle=":")
        axes.set_yscale("log")
    left.set_xticks(range(len(QUANTITIES)), QUANTITIES.values())
    right.set_xticks(ranks)
    label(left, y="largest error, in roundings", title="by quantity; dotted: allowed")
    label(right, x="rank of the input", title="by rank; over all axes")
    legend(figure, STYLES)
    return figure


CLAIM = Claim(
    id="C15",
    title=CLAIMS["C15"],
    question="How far is the layer from Algorithms 1 and 2 and the chain rule, written out in float64?",
    method="Random inputs with a mean of two deviations, for ranks 2 to 5, each axis and a pair of axes, in four "
    "dtypes; and 4,096 values per channel with and without TensorFlow's kernel. The equations are computed in NumPy "
    "float64 from the same rounded inputs, through ∂l/∂x̂, ∂l/∂σ² and ∂l/∂μ. Inference follows Algorithm 2 over three "
    "batches, with m/(m−1). The error is the largest one over the largest value (for ∂l/∂γ and ∂l/∂β the largest sum "
    "of absolute terms), in units of half the dtype's ε.",
    rule="Holds if every error of every run is at most 32 roundings, or 256 for 4,096 values per channel. Holds under "
    "conditions if only float16 or bfloat16 exceed that. Does not hold otherwise.",
    refuted_by="An error in float64 of more than rounding.",
    literature="The equations are exact; only rounding remains.",
    source="Ioffe, Szegedy 2015, Batch Normalization, arXiv 1502.03167, Algorithms 1 and 2 and section 3",
    caption="The largest error in units of the dtype's rounding. Left: by quantity. Right: by the rank of the input; "
    "median and range of its axes.",
    data=no_data,
    cells=cells,
    measure=measure,
    judge=judge,
    draw=draw,
    settings={"epsilon": EPSILON, "batches": BATCHES},
)
