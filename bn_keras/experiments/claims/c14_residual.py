"""C14: batch norm makes a residual branch smaller than its skip connection, by about the square root of the depth."""

import functools
import statistics

import keras
import numpy as np

from bn_keras.experiments.claims.claim import CONDITIONALLY, FAILS, HOLDS, Cell, Claim, Finding, Form, Found, no_data
from bn_keras.experiments.claims.figures import draw_spread, new_figure, spread
from bn_keras.experiments.comparison.figure_style import SMALL, ArmStyle, label, legend
from bn_keras.lab.plot import BLUE, ORANGE, VERMILION
from bn_keras.models import build
from bn_keras.models import norm as new_norm

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
CHANNELS = 16


def cells(form: Form, found: Found) -> list[Cell]:
    """The networks as in theory, and the presets, with each way to scale the branch."""
    seeds, size, batch, blocks = (3, 8, 16, 24) if form.quick else (5, 16, 64, 54)
    presets = ("resnet20", "resnet56") if form.quick else ("resnet20", "resnet56", "resnet110")
    width = 0.5 if form.quick else 1.0
    shared = {"image_size": size, "batch": batch}
    theory = [{"network": PRE_ACTIVATION, "blocks": blocks, "norm": arm, **shared} for arm in STYLES]
    nets = [
        {"network": name, "width": width, "norm": arm, **shared} for name in presets for arm in ("batch", "none, gated")
    ]
    return [cell | {"seed": seed} for cell in theory + nets for seed in range(seeds)]


def measure(cell: Cell, load) -> dict:
    """The variance of the skip and of the residual branch at each addition, over examples, positions and channels."""
    network = cached_network(**{name: value for name, value in cell.items() if name != "seed"})
    draw_kernels(network, cell["seed"])
    random = np.random.default_rng(cell["seed"])
    images = random.normal(size=(cell["batch"], *network.input_shape[1:])).astype("float32")
    tensors = network(images, training=True)
    variances = [float(f"{keras.ops.convert_to_numpy(each).astype('float64').var():.6g}") for each in tensors]
    return {"skip": variances[::2], "branch": variances[1::2]}


@functools.lru_cache(maxsize=1)
def cached_network(network: str, norm: str, image_size: int, batch: int, **sizes) -> keras.Model:
    """A network whose outputs are the two inputs of each addition in turn; the last one, as only seeds differ."""
    keras.backend.clear_session()
    if network == PRE_ACTIVATION:
        model = pre_activation(norm, image_size, sizes["blocks"])
    else:
        kind = None if norm == "none, gated" else norm
        model = build(network, norm=kind, input_shape=(image_size, image_size, 3), width=sizes["width"])
    additions = [layer for layer in model.layers if isinstance(layer, keras.layers.Add)]
    return keras.Model(model.inputs, [tensor for layer in additions for tensor in layer.input])


def pre_activation(norm: str, image_size: int, blocks: int) -> keras.Model:
    """Blocks of norm, ReLU, convolution, twice; the skip connection is the identity."""
    inputs = keras.Input((image_size, image_size, CHANNELS))
    x = inputs
    for block in range(blocks):
        branch = x
        for part in range(2):
            branch = new_norm("batch")(branch) if norm == "batch" else branch
            branch = keras.layers.ReLU()(branch)
            branch = keras.layers.Conv2D(
                CHANNELS, 3, padding="same", use_bias=False, kernel_initializer="he_normal", name=f"conv_{block}_{part}"
            )(branch)
        if norm == "none, gated":
            branch = keras.layers.Rescaling(0.0, name=f"gate_{block}")(branch)
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
        (f"{PRE_ACTIVATION}, batch norm", "exponent of branch / skip over the block", spread(slopes), "−1"),
        (f"{PRE_ACTIVATION}, batch norm", "variance of the branch", spread(branches), "1"),
        (f"{PRE_ACTIVATION}, no norm", "growth of the skip per block", spread(growths), "2"),
        (
            "presets, batch norm",
            "exponent of branch / skip in the last block over the blocks",
            spread(over_presets),
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
        number=f"variance of branch / skip ∝ block^{spread(slopes)}",
        because=f"The exponent is {spread(slopes)} over the blocks of one network and {spread(over_presets)} over the "
        f"depth of the ResNets; theory says −1. Without norm the skip grows by {spread(growths)} per block.",
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
    right.set_xticks(counts, names, fontsize=SMALL)
    right.minorticks_off()
    label(left, x="block", y="variance of the skip", title="one width, norm first")
    label(middle, x="block", y="branch / skip", title="dotted: 1 / block")
    label(right, x="network", y="branch / skip, last block", title="dotted: ∝ 1 / depth")
    legend(figure, STYLES)
    return figure


CLAIM = Claim(
    id="C14",
    title="Batch norm makes residual branches smaller than the skip, by the square root of the depth",
    question="What share of the signal comes through the residual branch of a block, before any training?",
    method="Random images go through networks at initialization (He's, no training). Networks as in theory have one "
    "width and normalize first: with batch norm, without norm, and without norm but with a gate of zero on each "
    "branch. ResNets with batch norm, and with SkipInit's gates, are the networks in use. At each addition the "
    "variance is over all examples, positions and channels.",
    rule="As in theory: in every run the exponent of branch / skip over the number of the block is within 0.1 of −1 "
    "and the branch's mean variance within 0.8 and 1.25; without norm the skip grows by 1.7 to 2.3 per block; with a "
    "gate the branch is exactly 0. As in the ResNets: in every run the exponent in the last block over the number of "
    "blocks is within 0.25 of −1. Holds with both, holds under conditions with one, does not hold with neither.",
    refuted_by="A share of the residual branch that does not fall with the depth.",
    literature="Variance of the branch about 1, of the skip about the number of the block: standard deviations 1 to "
    "√depth. Without norm both are equal, and the skip doubles in each block.",
    source="De, Smith 2020, Batch Normalization Biases Residual Blocks Towards the Identity Function, arXiv 2002.10444",
    caption="Left: the variance of the skip over the blocks. Middle: the variance of the branch over the skip's. Right: "
    "the same in the last block of ResNets. Median and range of the seeds.",
    data=no_data,
    cells=cells,
    measure=measure,
    judge=judge,
    draw=draw,
)
