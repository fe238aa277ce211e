"""C11: batch norm needs batches of a moderate size; layer norm does not."""

import statistics

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
from bn_keras.experiments.claims.training import train_curve
from bn_keras.experiments.comparison.figure_style import STYLES, label, legend
from bn_keras.experiments.training_recipe import training_recipe

SMALLEST = 2
# The norms that the rule compares; they have more seeds than the others.
COMPARED = ("batch", "layer")
# Ghost batch norm: every so many examples are normalized by themselves.
GHOST = 16
GROUPS = 4
# The momentum of moving averages for batches of 64: they forget as much per example, whatever the batch size.
MOMENTUM = 0.9
RENORM_CLIPPING = {"rmax": 3.0, "rmin": 1 / 3, "dmax": 5.0}
# Learning rates for batches of 64; that of other batches is scaled by the square root of their size.
QUICK_RATES, RATES = (0.01, 0.03, 0.1, 0.3), (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
# An accuracy counts so many examples at most, as batches of 2 take long enough.
EVALUATED = 4_000
# Batch norm is level up to this difference of two mean accuracies.
SAME = 0.01


def data(form: Form) -> tuple[str, ...]:
    """The digits, or the colour images."""
    return ("digits",) if form.quick else (form.images,)


def moderate(form: Form) -> tuple[int, ...]:
    """The batch sizes with which batch norm has to be level."""
    return (32,) if form.quick else (16, 64)


def arms_of(form: Form) -> list[Cell]:
    """Each norm with each batch size that it can have."""
    if form.quick:
        sizes = {"network": "mlp_relu_deep", "data": "digits", "size": 8, "width": 1.0, "options": {"depth": 2,
                 "units": 64}, "examples": 3_072, "validation": 300}  # fmt: skip
        batches, norms = (SMALLEST, 8, 32), ("batch", "layer")
    else:
        sizes = {"network": "vgg_small", "data": form.images, "size": 16, "width": 0.125, "options": {},
                 "examples": 16_384, "validation": 2_000}  # fmt: skip
        batches, norms = (SMALLEST, 4, 16, 64, 256), ("batch", "ghost", "renorm", "group", "layer", "none")
    return [
        sizes | {"norm": norm, "batch": batch}
        for norm in norms
        for batch in batches
        if norm != "ghost" or batch > GHOST
    ]


def rates_of(form: Form, batch: int) -> list[float]:
    """The learning rates that every norm tries with a batch size."""
    return [float(f"{rate * (batch / 64) ** 0.5:.3g}") for rate in (QUICK_RATES if form.quick else RATES)]


def cells(form: Form, found: Found) -> list[Cell]:
    """Each norm and batch size, tuned, with fresh seeds."""
    seeds = {norm: 5 for norm in COMPARED if not form.quick}
    return [
        cell
        for arm in arms_of(form)
        for cell in tuned_cells(found, arm, rates_of(form, arm["batch"]), seeds.get(arm["norm"], 3))
    ]


def measure(cell: Cell, load) -> dict:
    """The accuracy after a number of examples."""
    data = load(cell["data"]) if cell["size"] == 8 else load(cell["data"], image_size=cell["size"])
    steps = cell["examples"] // cell["batch"]
    recipe = training_recipe(
        cell["network"], cell["data"], norm=norm_of(cell["norm"], cell["batch"]), width=cell["width"],
        options=cell["options"], optimizer="momentum", schedule="cosine", batch_size=cell["batch"],
        learning_rate=cell["learning_rate"], steps=steps, evaluate_every=steps, seed=cell["seed"],
        validation_examples=cell["validation"], evaluation_examples=EVALUATED,
    )  # fmt: skip
    return train_curve(recipe, data)


def norm_of(name: str, batch: int):
    """The norm of an arm."""
    momentum = {"momentum": MOMENTUM ** (batch / 64)}
    return {
        "none": None,
        "batch": ("batch", momentum),
        "ghost": ("ghost", momentum | {"virtual_batch_size": GHOST}),
        "renorm": ("renorm", momentum | {"renorm_momentum": momentum["momentum"], "renorm_clipping": RENORM_CLIPPING}),
        "group": ("group", {"groups": GROUPS}),
        "layer": "layer",
    }[name]


def accuracies(found: Found) -> dict[tuple[str, int], list[float]]:
    """The test accuracy of each fresh seed by norm and batch size; 0 for a run that diverged."""
    arms = dict.fromkeys((cell["norm"], cell["batch"]) for cell, _ in found.pairs.values())
    return {arm: [run["test_accuracy"] or 0.0 for run in fresh_runs(found, norm=arm[0], batch=arm[1])] for arm in arms}


def judge(form: Form, found: Found) -> Finding:
    """Applies the rule."""
    by_arm = accuracies(found)
    means = {arm: statistics.mean(values) for arm, values in by_arm.items()}
    batches = sorted({batch for _, batch in by_arm})
    worse = surely_above(by_arm["layer", SMALLEST], by_arm["batch", SMALLEST])
    ahead = {batch: means["batch", batch] - means["layer", batch] for batch in batches}
    behind = [str(batch) for batch in moderate(form) if ahead[batch] < -SAME]
    robust = means["layer", SMALLEST] >= max(means["layer", batch] for batch in batches) - SAME
    missed = []
    if behind:
        missed.append(f"batch norm is behind layer norm with moderate batches too: {' and '.join(behind)}")
    if not robust:
        missed.append(f"layer norm loses by batches of {SMALLEST} too")
    verdict = FAILS if not worse else CONDITIONALLY if missed else HOLDS
    judged = [arm for arm in arms_of(form) if arm["norm"] in COMPARED and arm["batch"] in (SMALLEST, *moderate(form))]
    verdict, conditions = within_the_sweep(
        verdict, "; ".join(missed) if verdict == CONDITIONALLY else "", edges_of(form, found, judged)
    )
    best = {norm: max(means[norm, batch] for batch in batches) for norm in COMPARED}
    loss = {norm: 100 * (best[norm] - means[norm, SMALLEST]) for norm in best}
    return Finding(
        verdict,
        number=f"with batches of {SMALLEST}: {percent(by_arm['batch', SMALLEST])} % with batch norm, "
        f"{percent(by_arm['layer', SMALLEST])} % with layer norm",
        because=f"Batches of {SMALLEST} cost batch norm {loss['batch']:.1f} points of its best mean accuracy, layer "
        f"norm {loss['layer']:.1f}. Batch norm minus layer norm, in points of the mean: "
        + ", ".join(f"{signed(100 * points, '.1f')} with batches of {batch}" for batch, points in ahead.items())
        + ".",
        columns=("norm", *(f"batch {batch}, %" for batch in batches)),
        rows=tuple(
            (norm, *(percent(by_arm.get((norm, batch), [])) for batch in batches))
            for norm in dict.fromkeys(norm for norm, _ in by_arm)
        ),
        conditions=conditions,
        notes=(
            "Synchronized batch norm over replicas is batch norm of the batches of all replicas together, so it has no "
            "runs of its own.",
            *edges_of(form, found, arms_of(form)),
            *divergence_notes(found, name_of),
        ),
    )


def edges_of(form: Form, found: Found, arms: list[Cell]) -> tuple[str, ...]:
    """A note on the arms that are best at an edge of their sweep."""
    return edge_notes(found, {name_of(arm): (arm, rates_of(form, arm["batch"])) for arm in arms})


def name_of(cell: Cell) -> str:
    """The arm of a run in words."""
    return f"{cell['norm']} with batches of {cell['batch']}"


def percent(values) -> str:
    """Accuracies in per cent; a dash where the norm cannot have the batch size."""
    return spread([100 * value for value in values], ".1f")


def draw(form: Form, found: Found):
    """The test accuracy over the batch size."""
    by_arm = accuracies(found)
    figure, (axes,) = new_figure(form, "the same number of examples in batches of different sizes")
    norms = list(dict.fromkeys(norm for norm, _ in by_arm))
    for norm in norms:
        batches = [batch for name, batch in by_arm if name == norm]
        rows = [[100 * value for value in by_arm[norm, batch]] for batch in batches]
        draw_spread(axes, batches, rows, STYLES[norm])
    batches = sorted({batch for _, batch in by_arm})
    axes.set_xscale("log", base=2)
    axes.set_xticks(batches, [str(batch) for batch in batches])
    label(axes, x="batch size", y="test accuracy, %")
    legend(figure, {norm: STYLES[norm] for norm in norms})
    return figure


CLAIM = Claim(
    id="C11",
    title=CLAIMS["C11"],
    question="What does training with small batches cost batch norm, and what does it cost layer norm?",
    method="A small VGG on 16×16 colour images (sketch: a fully connected network on the digits) trains by SGD with "
    "momentum and a cosine schedule on the same number of examples with every batch size. A departure: Ba et al. "
    "trained a 784-1000-1000-10 network on MNIST with Adam. This network is convolutional, since the published lead of "
    "batch norm with moderate batches is that of convolutional networks. Each norm and batch size takes the learning "
    "rate with the best validation accuracy of one sweep, then 5 fresh seeds for batch norm and layer norm and 3 for "
    "the other norms (sketch: 3). The rates of a sweep are scaled by the square root of the batch size. Moving "
    "averages forget as much per example. Ghost batch norm normalizes every 16 examples by themselves, batch "
    "renormalization has the limits r ≤ 3 and d ≤ 5, group norm has 4 groups. The test accuracy is that of the first "
    "4,000 test examples.",
    rule="Does not hold unless, with batches of 2, every seed of layer norm is more accurate than every seed of batch "
    "norm. Holds if also batch norm's mean accuracy with batches of 16 and of 64 (sketch: of 32) is at most a "
    "percentage point below layer norm's, and layer norm's with batches of 2 is at most a point below its best. Holds "
    "under conditions otherwise. A run that diverged has an accuracy of 0. " + CAPPED,
    refuted_by="Batch norm as accurate as layer norm with batches of 2.",
    literature="Layer norm is robust on MNIST with batches of 4, where batch norm is not (Ba et al. 2016). In "
    "convolutional networks with moderate batches, batch norm does better than layer norm (Ba et al. 2016; Wu & He "
    "2018).",
    source="Ba et al. 2016, Layer Normalization, arXiv 1607.06450; Wu & He 2018, Group Normalization, arXiv 1803.08494",
    caption="Test accuracy at the best learning rate of each norm and batch size, median and range of the seeds.",
    data=data,
    cells=cells,
    measure=measure,
    judge=judge,
    draw=draw,
    settings={
        "momentum of the averages": MOMENTUM, "ghost": GHOST, "groups": GROUPS, "clipping of renorm": RENORM_CLIPPING,
        "evaluated examples": EVALUATED,
    },
)  # fmt: skip
