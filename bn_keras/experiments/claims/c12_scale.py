"""C12: layer norm ignores the scale of its input, and its output is the same in training and inference."""

import keras
import numpy as np

from bn_keras.choices.names import CLAIMS
from bn_keras.experiments.claims.claim import CONDITIONALLY, FAILS, HOLDS, Cell, Claim, Finding, Form, Found, no_data
from bn_keras.experiments.claims.figures import draw_spread, new_figure
from bn_keras.experiments.comparison.figure_style import SMALL, ArmStyle, label
from bn_keras.lab.plot import BLUE, GREEN, ORANGE, VERMILION
from bn_keras.models import norm

EXAMPLES, POSITIONS, INPUTS, UNITS = 32, 6, 24, 16
OPTIONS = {"ghost": {"virtual_batch_size": 8}, "group": {"groups": 4}}
KINDS = ("batch", "sync", "ghost", "renorm", "decorrelated", "layer", "rms", "group", "instance")
CHANGES = {
    "all weights × 7": "all weights",
    "each unit's weights × its own factor": "each unit's weights",
    "one vector added to every unit's weights": "weights + vector",
    "all inputs × 7": "all inputs",
    "one example × 7": "one example",
    "one vector added to all inputs": "inputs + vector",
    "training instead of inference": "training = inference",
}
# Table 1 of Ba et al. 2016, in the order of `CHANGES`, and what they say of inference.
PUBLISHED = {
    "batch": (True, True, False, True, False, True, False),
    "layer": (True, False, True, True, True, False, True),
}
# The changes that the claim itself is about.
SCALE = ("all weights × 7", "all inputs × 7", "one example × 7", "training instead of inference")
# Relative differences below the first are none, those above the second are real.
SAME, DIFFERENT = 1e-6, 1e-2
TINY_EPSILON = 1e-10
FACTORS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 3.0, 10.0, 100.0, 1000.0)
# Where the variance of the scaled values is so many times ε, the change from ε is about a per cent.
ENOUGH = 50
# What the equation with ε may leave of a change.
ROUNDING = {"float64": 1e-12, "float32": 1e-4}
STYLES = {"float32": ArmStyle(BLUE, "-", "o"), "float64": ArmStyle(ORANGE, "--", "^")}


def cells(form: Form, found: Found) -> list[Cell]:
    """Every layer kind under every change, and layer norm under many factors in two dtypes."""
    seeds = 3 if form.quick else 10
    changes = [{"part": "changes", "kind": kind, "seed": seed} for kind in KINDS for seed in range(seeds)]
    factors = [{"part": "factors", "dtype": dtype, "seed": seed} for dtype in ROUNDING for seed in range(seeds)]
    return changes + factors


def measure(cell: Cell, load) -> dict:
    """The relative difference of the output for each change, or for each factor."""
    random = np.random.default_rng(cell["seed"])
    x = random.normal(size=(EXAMPLES, POSITIONS, INPUTS))
    weights = random.normal(size=(INPUTS, UNITS)) / np.sqrt(INPUTS)
    if cell["part"] == "factors":
        return difference_over_factors(x @ weights, cell["dtype"])
    return differences_by_change(cell["kind"], x, weights, random)


def differences_by_change(kind: str, x: np.ndarray, weights: np.ndarray, random: np.random.Generator) -> dict:
    """The relative difference that each change of inputs or weights makes to the normalized product of the two."""
    layer = norm(kind, **OPTIONS.get(kind, {}), epsilon=TINY_EPSILON, dtype="float64")
    layer.build((EXAMPLES, POSITIONS, UNITS))
    initial = layer.get_weights()

    def output(inputs, matrix, training=True):
        layer.set_weights(initial)  # the moving statistics start again each time
        return apply(layer, inputs @ matrix, training)

    unit_factors = random.uniform(0.5, 7.0, UNITS)
    one_example = np.where(np.arange(EXAMPLES) == 0, 7.0, 1.0)[:, np.newaxis, np.newaxis]
    before = output(x, weights)
    changed = (
        output(x, 7.0 * weights),
        output(x, unit_factors * weights),
        output(x, weights + random.normal(size=(INPUTS, 1))),
        output(7.0 * x, weights),
        output(one_example * x, weights),
        output(x + random.normal(size=INPUTS), weights),
        output(x, weights, training=False),
    )
    return {change: relative(after, before) for change, after in zip(CHANGES, changed, strict=True)}


def difference_over_factors(values: np.ndarray, dtype: str) -> dict:
    """What scaling the values does to layer norm's output, and how far that is from what ε explains."""
    layer = norm("layer", dtype=dtype)
    before = apply(layer, values, True)
    variance = values.var(-1, keepdims=True)
    rows: dict[str, list] = {"difference": [], "unexplained": [], "smallest_variance": []}
    for factor in FACTORS:
        after = apply(layer, factor * values, True)
        explained = before * np.sqrt((variance + layer.epsilon) / (variance + layer.epsilon / factor**2))
        rows["difference"].append(relative(after, before))
        rows["unexplained"].append(relative(after, explained))
        rows["smallest_variance"].append(float(factor**2 * variance.min() / layer.epsilon))
    return rows


def apply(layer: keras.layers.Layer, values: np.ndarray, training: bool) -> np.ndarray:
    """The output of a layer in float64."""
    inputs = keras.ops.convert_to_tensor(values.astype(layer.compute_dtype))
    return keras.ops.convert_to_numpy(layer(inputs, training=training)).astype("float64")


def relative(after: np.ndarray, before: np.ndarray) -> float:
    """The size of a difference, over the size of what was there."""
    return float(f"{np.linalg.norm(after - before) / np.linalg.norm(before):.4g}")


def largest(found: Found) -> dict[str, dict[str, list[float]]]:
    """The differences of all seeds by kind and change."""
    return {
        kind: {change: found.values(change, part="changes", kind=kind) for change in CHANGES}
        for kind in KINDS
        if found.where(kind=kind)
    }


def invariant(differences: list[float]) -> bool | None:
    """Whether a change does nothing in any run; `None` for runs that disagree, or in between."""
    if max(differences) <= SAME:
        return True
    return False if min(differences) >= DIFFERENT else None


def judge(form: Form, found: Found) -> Finding:
    """Applies the rule."""
    by_kind = largest(found)
    marks = {kind: [invariant(values) for values in by_kind[kind].values()] for kind in by_kind}
    layer_ignores = all(invariant(by_kind["layer"][change]) for change in SCALE)
    as_published = all(tuple(marks[kind]) == expected for kind, expected in PUBLISHED.items())
    runs = found.where(part="factors")
    unexplained = {dtype: max(map(max, found.values("unexplained", dtype=dtype))) for dtype in ROUNDING}
    explained = [dtype for dtype in ROUNDING if unexplained[dtype] <= ROUNDING[dtype]]
    points = [
        point for _, values in runs for point in zip(values["difference"], values["smallest_variance"], strict=True)
    ]
    largest_with_enough = max(difference for difference, variance in points if variance >= ENOUGH)
    largest_of_all = max(difference for difference, _ in points)
    if not (layer_ignores and as_published and "float64" in explained):
        verdict = FAILS
    else:
        verdict = HOLDS if "float32" in explained else CONDITIONALLY
    words = {True: "same", False: "differs", None: "unclear"}
    return Finding(
        verdict,
        number="ε explains each change to within "
        + ", ".join(f"{most:.1g} of the output in {dtype}" for dtype, most in unexplained.items()),
        because=f"Over all factors the output changes by up to {100 * largest_of_all:.2g} %, and by at most "
        f"{100 * largest_with_enough:.2g} % where the variance is at least {ENOUGH} ε. The equation with ε explains "
        f"each change to rounding in {' and '.join(explained) or 'no dtype'}. The table of Ba et al. "
        f"{'comes out' if as_published else 'does not come out'} for batch norm and layer norm.",
        columns=("norm", *CHANGES.values()),
        rows=tuple((kind, *(words[mark] for mark in marks[kind])) for kind in marks),
        conditions="in float64; float32 adds more than rounding" if verdict == CONDITIONALLY else "",
        notes=(
            "The table has ε = 1e-10 in float64. The factors have the default ε of 0.001.",
            "Batch renorm here has its initial moving statistics of 0 and 1. It normalizes by them in training too.",
        ),
    )


def draw(form: Form, found: Found):
    """Layer norm's change over the factor, and the table of invariances."""
    figure, (left, right) = new_figure(form, "what a change of scale does to normalized values", 2, height=4.4)
    for dtype, style in STYLES.items():
        runs = found.values("difference", dtype=dtype)
        rows = [[max(run[place], 1e-17) for run in runs] for place in range(len(FACTORS))]
        draw_spread(left, FACTORS, rows, style, label=dtype)
    left.set(xscale="log", yscale="log")
    left.legend(frameon=False, fontsize=SMALL)
    label(left, x="factor on the input", y="relative change of the output", title="layer norm, ε = 0.001")
    by_kind = largest(found)
    for row, kind in enumerate(by_kind):
        for column, change in enumerate(CHANGES):
            mark = invariant(by_kind[kind][change])
            color, marker = {True: (GREEN, "o"), False: (VERMILION, "x"), None: (ORANGE, "?")}[mark]
            right.scatter(column, row, color=color, marker=f"${marker}$" if mark is None else marker, s=60)
    right.set_xticks(range(len(CHANGES)), CHANGES.values(), rotation=40, ha="right", rotation_mode="anchor")
    right.set_yticks(range(len(by_kind)), by_kind)
    right.invert_yaxis()
    label(right, title="dot: same output; cross: another output")
    return figure


CLAIM = Claim(
    id="C12",
    title=CLAIMS["C12"],
    question="Which changes of scale or position leave the output of each norm as it is?",
    method="A random matrix of weights, then the norm, in float64 with ε = 1e-10, once with each change of weights or "
    "inputs, and in inference. Layer norm also runs with its default ε of 0.001 in float64 and float32, on inputs "
    "times factors from 0.001 to 1,000.",
    rule="Holds if all of these are true in every run: layer norm's output changes by at most 1e-6 with the scale of "
    "all weights, of all inputs or of one example, and from training to inference; the table of Ba et al. comes out "
    "for batch norm and layer norm; and with the default ε each factor changes the output by what the equation with ε "
    "says, to 1e-12 in float64 and 1e-4 in float32. Holds under conditions if only float32 is farther off. Does not "
    "hold otherwise.",
    refuted_by="An output of layer norm that changes with the scale by more than ε explains, or in inference.",
    literature="Exact up to ε; layer norm and batch norm ignore the scale of all weights and all inputs, layer norm "
    "also that of one example, batch norm also that of one unit's weights.",
    source="Ba, Kiros, Hinton 2016, Layer Normalization, arXiv 1607.06450, table 1",
    caption="Left: the relative change of layer norm's output when its input is multiplied by a factor; median and "
    "range of the seeds. Right: which changes each norm ignores in every run.",
    data=no_data,
    cells=cells,
    measure=measure,
    judge=judge,
    draw=draw,
    settings={
        "sizes": (EXAMPLES, POSITIONS, INPUTS, UNITS), "options": OPTIONS, "changes": list(CHANGES),
        "epsilon": TINY_EPSILON, "factors": FACTORS,
    },
)  # fmt: skip
