"""C14: batch norm makes a residual branch smaller than its skip connection, by about the square root of the depth."""

import functools
import statistics

import keras
import matplotlib.ticker
import numpy as np

from bn_keras.choices.names import CLAIMS
from bn_keras.experiments.claims.claim import CONDITIONALLY, FAILS, HOLDS, Cell, Claim, Finding, Form, Found, no_data
from bn_keras.experiments.claims.figures import draw_spread, new_figure, spread
from bn_keras.experiments.comparison.figure_style import SMALL, ArmStyle, label, legend
from bn_keras.lab.plot import BLUE, ORANGE, VERMILION
from bn_keras.models import build
from bn_keras.models import norm as new_norm
from bn_keras.models.blocks import Gate

# The theory of De and Smith is of blocks that normalize first, with one width; the presets are the usual networks.
PRE_ACTIVATION = "pre-activation"
STYLES = {
    "batch": ArmStyle(BLUE, "-", "o"),
    "none": ArmStyle(VERMILION, "--", "s"),
    "none, gated": ArmStyle(ORANGE, "-.", "^"),
}
THEORY = -1.0
# How far the slope of a network as in theory may be from it, and that over the presets.
TOLERANCE, PRESET_TOLERANCE = 0.1, 0.25
# The variance of a normalized branch, and the factor by which the skip grows without norm: 1 and 2 in theory.
BRANCH, DOUBLING = (0.8, 1.25), (1.7, 2.3)
PRESETS = ("resnet20", "resnet56", "resnet110")


def cells(form: Form, found: Found) -> list[Cell]:
    """The networks as in theory, and the presets, with each way to scale the branch."""
    seeds, batch, blocks, units = (3, 32, 24, 128) if form.quick else (5, 64, 54, 512)
    presets, width, size = (PRESETS[:2], 0.5, 8) if form.quick else (PRESETS, 1.0, 16)
    theory = [{"network": PRE_ACTIVATION, "norm": arm, "blocks": blocks, "units": units} for arm in STYLES]
    nets = [
        {"network": name, "norm": arm, "width": width, "image_size": size}
        for name in presets
        for arm in ("batch", "none, gated")
    ]
    return [cell | {"batch": batch, "seed": seed} for cell in theory + nets for seed in range(seeds)]


def measure(cell: Cell, load) -> dict:
    """The variance of the skip and of the residual branch at each addition, over examples, positions and channels."""
    network = cached_network(**{name: value for name, value in cell.items() if name not in ("batch", "seed")})
    draw_kernels(network, cell["seed"])
    random = np.random.default_rng(cell["seed"])
    inputs = random.normal(size=(cell["batch"], *network.input_shape[1:])).astype("float32")
    tensors = network(inputs, training=True)
    variances = [float(f"{keras.ops.convert_to_numpy(each).astype('float64').var():.6g}") for each in tensors]
    return {"skip": variances[::2], "branch": variances[1::2]}


@functools.lru_cache(maxsize=1)
def cached_network(network: str, norm: str, **sizes: float) -> keras.Model:
    """A network whose outputs are the two inputs of each addition in turn; the last one, as only seeds differ."""
    keras.backend.clear_session()
    if network == PRE_ACTIVATION:
        model = pre_activation(norm, sizes["units"], sizes["blocks"])
    else:
        shape = sizes["image_size"], sizes["image_size"], 3
        kind = None if norm == "none, gated" else norm
        model = build(network, norm=kind, input_shape=shape, width=sizes["width"], preprocessing=False)
    additions = [layer for layer in model.layers if isinstance(layer, keras.layers.Add)]
    return keras.Model(model.input, [tensor for layer in additions for tensor in layer.input])


def pre_activation(norm: str, units: int, blocks: int) -> keras.Model:
    """Blocks of norm, ReLU, dense layer, twice; the skip connection is the identity."""
    x = inputs = keras.Input((units,))
    for block in range(blocks):
        branch = x
        for _ in range(2):
            branch = new_norm("batch")(branch) if norm == "batch" else branch
            branch = keras.layers.ReLU()(branch)
            branch = keras.layers.Dense(units, use_bias=False)(branch)
        if norm == "none, gated":
            branch = Gate(name=f"gate_{block}")(branch)
        x = keras.layers.Add()([x, branch])
    return keras.Model(inputs, x)


def draw_kernels(network: keras.Model, seed: int) -> None:
    """Draws the kernels again: He's initialization, untruncated, with the seed."""
    random = np.random.default_rng([seed, 1])
    for layer in network.layers:
        if hasattr(layer, "kernel"):
            shape = layer.kernel.shape
            layer.kernel.assign(random.normal(size=shape) * np.sqrt(2.0 / np.prod(shape[:-1])))


def slope(x, y) -> float:
    """The exponent of a power law, by least squares."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def ratios(values) -> np.ndarray:
    """The variance of the branch over that of the skip, at each addition."""
    return np.array(values["branch"]) / np.array(values["skip"])


def theory_slopes(found: Found) -> list[float]:
    """The exponent of the ratio over the number of the block, for each seed."""
    runs = [ratios(values) for _, values in found.where(network=PRE_ACTIVATION, norm="batch")]
    return [slope(np.arange(1, len(run) + 1), run) for run in runs]


def presets_of(found: Found) -> list[str]:
    """The presets, from the shallowest to the deepest."""
    names = {cell["network"] for cell, _ in found.pairs.values()} - {PRE_ACTIVATION}
    return sorted(names, key=lambda name: int(name.removeprefix("resnet")))


def preset_slopes(found: Found) -> list[float]:
    """The exponent of the ratio in the last block over the number of blocks, for each seed."""
    runs = [[ratios(values) for _, values in found.where(network=name, norm="batch")] for name in presets_of(found)]
    return [slope([len(run) for run in nets], [run[-1] for run in nets]) for nets in zip(*runs, strict=True)]


def exponents(values) -> str:
    """Exponents in words: "to" for the dash of the range, which would run into the minus signs."""
    return spread(values, ".2f").replace("–", " to ").replace("-", "−")


def growth(values) -> float:
    """The factor by which the variance of the skip grows from block to block."""
    return (values["skip"][-1] / values["skip"][0]) ** (1 / (len(values["skip"]) - 1))


def judge(form: Form, found: Found) -> Finding:
    """Applies the rule."""
    slopes, over_presets = theory_slopes(found), preset_slopes(found)
    branches = [statistics.mean(values["branch"]) for _, values in found.where(network=PRE_ACTIVATION, norm="batch")]
    growths = [growth(values) for _, values in found.where(network=PRE_ACTIVATION, norm="none")]
    gated = [max(values["branch"]) for _, values in found.where(norm="none, gated")]
    as_theory = (
        all(abs(each - THEORY) <= TOLERANCE for each in slopes)
        and all(BRANCH[0] <= each <= BRANCH[1] for each in branches)
        and all(DOUBLING[0] <= each <= DOUBLING[1] for each in growths)
        and max(gated) == 0
    )
    as_presets = all(abs(each - THEORY) <= PRESET_TOLERANCE for each in over_presets)
    rows = [
        (f"{PRE_ACTIVATION}, batch norm", "exponent of branch / skip over the block", exponents(slopes), "−1"),
        (f"{PRE_ACTIVATION}, batch norm", "variance of the branch", spread(branches), "1"),
        (f"{PRE_ACTIVATION}, no norm", "growth of the skip per block", spread(growths), "2"),
        (
            "presets, batch norm",
            "exponent of branch / skip in the last block over the blocks",
            exponents(over_presets),
            "−1",
        ),
    ]
    for name in presets_of(found):
        last = [ratios(values)[-1] for _, values in found.where(network=name, norm="batch")]
        count = len(found.values("skip", network=name, norm="batch")[0])
        rows.append((f"{name}, batch norm", f"branch / skip in the last of {count} blocks", spread(last), ""))
    rows.append(("all networks, zero gate", "largest variance of a branch", f"{max(gated):g}", "0"))
    return Finding(
        HOLDS if as_theory and as_presets else CONDITIONALLY if as_theory or as_presets else FAILS,
        number=f"variance of branch / skip ∝ blockⁿ, n = {exponents(slopes)}",
        because=f"The exponent is {exponents(slopes)} over the blocks of one network and {exponents(over_presets)} "
        f"over the depth of the ResNets; theory says −1. Without norm the skip grows by {spread(growths)} per block.",
        columns=("network", "measured", "median (range) of the seeds", "theory"),
        rows=tuple(rows),
        conditions=""
        if as_theory == as_presets
        else "in networks of one width that normalize first, not in the ResNets"
        if as_theory
        else "in the ResNets, not in networks of one width that normalize first",
    )


def draw(form: Form, found: Found):
    """Variances over the blocks, and the ratio in the presets."""
    figure, (left, middle, right) = new_figure(form, "residual networks at initialization", 3)
    for arm, style in STYLES.items():
        runs = found.where(network=PRE_ACTIVATION, norm=arm)
        blocks = np.arange(1, len(runs[0][1]["skip"]) + 1)
        plain = ArmStyle(style.color, style.line, "")
        draw_spread(left, blocks, np.transpose([values["skip"] for _, values in runs]), plain)
        if arm != "none, gated":
            draw_spread(middle, blocks, np.transpose([ratios(values) for _, values in runs]), plain)
    middle.plot(blocks, 1 / blocks, color=BLUE, linewidth=1, linestyle=":")
    names = presets_of(found)
    counts = [len(found.values("skip", network=name, norm="batch")[0]) for name in names]
    last = [[ratios(values)[-1] for _, values in found.where(network=name, norm="batch")] for name in names]
    draw_spread(right, counts, last, STYLES["batch"])
    right.plot(
        counts, statistics.median(last[0]) * counts[0] / np.array(counts), color=BLUE, linewidth=1, linestyle=":"
    )
    for axes in (left, middle, right):
        axes.set(xscale="log", yscale="log")
    right.set_xticks(counts, [name.removeprefix("resnet") for name in names], fontsize=SMALL)
    right.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
    right.yaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
    right.yaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
    right.yaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
    label(left, x="block", y="variance of the skip", title="one width, norm first")
    label(middle, x="block", y="branch / skip", title="dotted: 1 / block")
    label(right, x="layers of the ResNet", y="branch / skip, last block", title="dotted: ∝ 1 / blocks")
    legend(figure, STYLES)
    return figure


CLAIM = Claim(
    id="C14",
    title=CLAIMS["C14"],
    question="What share of the signal comes through the residual branch of a block, before any training?",
    method="Random inputs go through networks at initialization (He's, no training). Networks as in theory are fully "
    "connected, have one width and normalize first: with batch norm, without norm, and without norm but with a gate "
    "of zero on each branch. ResNets with batch norm, and with SkipInit's gates, are the networks in use. At each "
    "addition the variance is over all examples, positions and channels.",
    rule="The networks as in theory pass if in every run the exponent of branch / skip over the number of the block is "
    "within 0.1 of −1, the branch's mean variance lies within 0.8 and 1.25, the skip grows by 1.7 to 2.3 per block "
    "without norm, and the branch is exactly 0 with a gate. The ResNets pass if in every run the exponent in the last "
    "block over the number of blocks is within 0.25 of −1. The claim holds if both pass, holds under conditions if one "
    "passes, and does not hold if neither does.",
    refuted_by="A share of the residual branch that does not fall with the depth.",
    literature="Variance of the branch about 1, of the skip about the number of the block: standard deviations 1 to "
    "√depth. Without norm both are equal, and the skip doubles in each block.",
    source="De, Smith 2020, Batch Normalization Biases Residual Blocks Towards the Identity Function, arXiv 2002.10444",
    caption="Left: the variance of the skip over the blocks. Middle: the variance of the branch over the skip's. "
    "Right: the same in the last block of ResNets. Median and range of the seeds.",
    data=no_data,
    cells=cells,
    measure=measure,
    judge=judge,
    draw=draw,
)
