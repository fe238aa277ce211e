"""One model through surgery: what each function did, measured without the verification of the library.

Each model goes through `from_keras`, `fold`, `freeze` and `recalibrate`. Then the converted and the folded copy are
saved, and a process that did not make the copies loads them.
"""

import collections
import dataclasses
import multiprocessing
import pathlib
import tempfile
import textwrap
import time

import keras
import numpy as np

import bn_keras
from bn_keras import surgery
from bn_keras.lab.machine import provenance
from bn_keras.pages.surgery_models import CATALOGUE
from bn_keras.pages.surgery_models.entry import call, layers_inside

# The largest allowed difference of an output, over the largest value of that output, in float32.
TOLERANCE = 1e-4
KINDS = ("BatchNormalization", "LayerNormalization", "GroupNormalization", "RMSNormalization")
KERAS_NORMS = tuple(getattr(keras.layers, kind) for kind in KINDS if hasattr(keras.layers, kind))
BATCH_NORMS = (keras.layers.BatchNormalization, bn_keras.BatchNorm)
FUNCTIONS = ("from_keras", "fold", "freeze", "recalibrate")
SAVED = {"from_keras": "from_keras, saved", "fold": "fold, saved"}
HUB = "keras_hub"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What one function did to one model.

    Attributes:
        verdict: "equal", "left alone", "refused", "not compared", "none" where the function was not called, or "WRONG".
        difference: The largest relative difference of an output, as this module measures it.
        counts: How many layers have each outcome in the library's report.
        reasons: `[outcome, why, names]` of layers that were kept, mapped or dropped.
        why: The reason of a refusal, or what is wrong.
    """

    verdict: str
    difference: float | None = None
    counts: dict = dataclasses.field(default_factory=dict)
    reasons: list = dataclasses.field(default_factory=list)
    why: str = ""


class WrongError(Exception):
    """Something that surgery must not do."""


def measure(name: str) -> dict:
    """The results of one model of `CATALOGUE`, as they are stored.

    Returns:
        The name, the classes of its normalizations, the seconds that the measurement took, when, where and with which
        versions, and "outcomes": a dict per function and per saved copy, with its name and the fields of `Outcome`.
    """
    made_by, started = provenance(HUB), time.perf_counter()
    model, x = CATALOGUE[name].made()
    expected = outputs_of(model, x)
    copies, outcomes = {}, {}
    for function in FUNCTIONS:
        source = copies.get("from_keras") if function in ("freeze", "recalibrate") else model
        outcomes[function], copies[function] = attempt(function, model, source, x, expected)
        if difference_of(expected, outputs_of(model, x)):
            outcomes[function] = Outcome("WRONG", why="the given model changed")
    itself = saved(model, x, expected)
    for function, title in SAVED.items():
        outcomes[title] = saved_copy(copies[function], x, itself)
    return {
        "model": name,
        "norms": collections.Counter(type(layer).__name__ for layer in norms_of(model)),
        "own norms": collections.Counter(type(each).__name__ for each in layers_inside(model) if is_own_norm(each)),
        "seconds": round(time.perf_counter() - started, 1),
        **made_by,
        "outcomes": [{"of": of} | dataclasses.asdict(outcome) for of, outcome in outcomes.items()],
    }


def norms_of(model):
    return [layer for layer in layers_inside(model) if isinstance(layer, KERAS_NORMS)]


def batch_norms_of(model):
    """Those that something calls."""
    return [layer for layer in layers_inside(model) if isinstance(layer, BATCH_NORMS) and layer.built]


def is_own_norm(layer):
    """Whether a layer is a normalization of a library's own, which surgery does not know."""
    words = type(layer).__name__
    known = (*KERAS_NORMS, keras.layers.Normalization)
    return ("Norm" in words or "norm" in words) and not isinstance(layer, known)


def attempt(function, model, source, x, expected):
    """`(outcome, copy)` of one function; the copy is `None` where there is none."""
    if function in ("freeze", "recalibrate") and (source is None or not batch_norms_of(source)):
        return Outcome("none"), None
    try:
        data = {"data": [(x,)]} if function == "recalibrate" else {}
        copy = getattr(surgery, function)(source, report=None, **data)
    except ValueError as error:
        return Outcome("refused", why=first_line(error)), None
    except Exception as error:  # an error that nobody wrote for users to read
        return Outcome("WRONG", why=f"{type(error).__name__}: {first_line(error)}"), None
    try:
        return judged(function, model, source, copy, x, expected), copy
    except WrongError as error:
        return Outcome("WRONG", why=str(error)), copy
    except Exception as error:  # a copy that cannot be called
        return Outcome("WRONG", why=f"{type(error).__name__}: {first_line(error)}"), copy


def judged(function, model, source, copy, x, expected):
    """The outcome of a function that returned a copy."""
    made = surgery.report(copy)
    facts = {"counts": counts_of(made), "reasons": reasons_of(made)}
    check_rows(function, source, made)
    if function == "recalibrate":
        if draws(model, x):
            return Outcome("not compared", why="the model draws random numbers in inference", **facts)
        expected = outputs_with_statistics(model, x, {row.layer for row in made.of("recalibrated")})
    if function == "freeze":
        check_frozen(copy, x, made)
    if function in ("from_keras", "freeze"):
        check_weights(source, copy)
    difference = difference_of(expected, outputs_of(copy, x))
    if not difference <= TOLERANCE:
        return Outcome("WRONG", difference, why=f"outputs differ by {difference:.0e}", **facts)
    return Outcome("left alone" if made.of("kept") else "equal", difference, **facts)


def first_line(error):
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    line = (lines or [type(error).__name__])[0].replace("|", "/")
    return textwrap.shorten(line, 300, placeholder=" …")


def counts_of(made):
    return dict(collections.Counter(row.outcome for row in made.rows))


def reasons_of(made):
    names = collections.defaultdict(list)
    for row in made.rows:
        if row.outcome in ("kept", "mapped", "dropped"):
            names[row.outcome, row.why].append(row.layer)
    return [[outcome, why, layers] for (outcome, why), layers in names.items()]


def check_rows(function, model, made):
    """The report has a row for each layer that the function is for."""
    norms = norms_of(model) if function == "from_keras" else batch_norms_of(model)
    asked = collections.Counter(layer.name for layer in norms if layer.built)
    told = collections.Counter(row.layer for row in made.rows)
    if asked - told:
        raise WrongError(f"the report does not name {sorted(asked - told)[:3]}")


def check_weights(model, copy):
    """Every value of the given model is in the copy."""
    lost = values_of(model) - values_of(copy)
    if lost:
        raise WrongError(f"{sum(lost.values())} variables of the model are not in the copy")


def values_of(model):
    metrics = {id(variable) for variable in model.metrics_variables}
    arrays = [keras.ops.convert_to_numpy(each) for each in model.weights if id(each) not in metrics]
    return collections.Counter(np.sort(array, axis=None).tobytes() for array in arrays)


def check_frozen(model, x, made):
    """A call in training moves the statistics of no batch norm, but of those that the report names as kept."""
    kept = {row.layer for row in made.of("kept")}
    norms = [layer for layer in batch_norms_of(model) if layer.name not in kept]
    before = [layer.moving_mean.numpy() for layer in norms]
    weights = model.get_weights()
    call(model, x, training=True)
    moved = [layer.name for layer, was in zip(norms, before, strict=True) if np.any(layer.moving_mean.numpy() != was)]
    model.set_weights(weights)
    if moved:
        raise WrongError(f"the statistics of {moved[:3]} moved in training")


def outputs_with_statistics(model, x, names):
    """The outputs of the given model with the statistics of `x`, taken here in NumPy, in the batch norms named."""
    weights, norms = model.get_weights(), [layer for layer in batch_norms_of(model) if layer.name in names]
    seen = {norm: [] for norm in norms}

    def probe(norm, inner):
        def as_in_training(inputs, training=None, mask=None):
            values = np.asarray(keras.ops.convert_to_numpy(inputs), np.float64)
            seen[norm].append(np.moveaxis(values, norm.axis, -1).reshape(-1, values.shape[norm.axis]))
            return inner(inputs, training=True, mask=mask)

        return as_in_training

    for norm in norms:
        norm.call = probe(norm, norm.call)
    outputs_of(model, x)
    for norm in norms:
        del norm.call
    model.set_weights(weights)
    for norm, values in seen.items():
        rows = np.concatenate(values)
        norm.moving_mean.assign(rows.mean(0))
        norm.moving_variance.assign(rows.var(0))
    outputs = outputs_of(model, x)
    model.set_weights(weights)
    return outputs


def outputs_of(model, x):
    """Outputs of inference as a list of float64, from the same seeds each time.

    `training=False` is explicit. Without it, Keras runs batch norm in training mode after a layer that is called with
    `training=True`.
    """
    keras.utils.set_random_seed(0)
    for variable in model.variables:
        if variable.name == "seed_generator_state":
            variable.assign(np.array([1, 2]))
    return as_arrays(call(model, x, training=False))


def as_arrays(outputs):
    flat = keras.tree.flatten(outputs)
    return [np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(y, "float32")), np.float64) for y in flat]


def difference_of(expected, found):
    """The largest difference of an output, over the largest value of that output."""
    if [y.shape for y in expected] != [y.shape for y in found]:
        raise WrongError(f"outputs of shapes {[y.shape for y in found]} instead of {[y.shape for y in expected]}")
    differences = [np.abs(y - z).max() / max(np.abs(y).max(), 1e-9) for y, z in zip(expected, found, strict=True)]
    return float(np.max(differences)) if np.isfinite(differences).all() else float("inf")


def draws(model, x):
    """Whether a model answers the same inputs in different ways."""
    first = outputs_of(model, x)
    return difference_of(first, as_arrays(call(model, x, training=False))) > 1e-6


def saved(model, x, expected):
    """The outcome of a `.keras` file that a process loads which has not made the model."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.keras"
        try:
            model.save(path)
            found = in_a_fresh_process(load_and_call, path, x)
            difference = difference_of(expected, found)
        except Exception as error:  # whatever Keras raises
            return Outcome("WRONG", why=f"{type(error).__name__}: {first_line(error)}")
    if not difference <= TOLERANCE:
        return Outcome("WRONG", difference, why=f"outputs of the loaded model differ by {difference:.0e}")
    return Outcome("equal", difference)


def in_a_fresh_process(function, *arguments, seconds=300):
    """The result of a function in a process forked from one that has imported this module and made nothing."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, HUB])
    with context.Pool(1) as pool:
        return pool.apply_async(function, arguments).get(timeout=seconds)


def load_and_call(path, x):
    return outputs_of(keras.saving.load_model(path, safe_mode=False), x)


def saved_copy(copy, x, itself):
    """As `saved`, for a copy: no file can be expected of a model that Keras itself cannot save and load."""
    if copy is None:
        return Outcome("none")
    outcome = saved(copy, x, outputs_of(copy, x))
    if outcome.verdict == "WRONG" and itself.verdict == "WRONG":
        return Outcome("refused", why=f"Keras itself cannot save and load the model: {itself.why}")
    return outcome
