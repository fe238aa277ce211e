"""Surgery on models of KerasHub and on models that users write: outputs compared, files loaded by another process.

    python -m benchmarks.surgery [--out docs/surgery.md] [--results FOLDER] [--models NAME …] [--again]

Each model of `benchmarks/surgery_models.py` goes through `from_keras`, `fold`, `freeze` and `recalibrate`; then the
converted and the folded copy are saved, and a process that did not make them loads them. This page measures every
difference itself, on its own inputs: it does not read what the library verified. One JSON file per model in FOLDER
holds what was measured; a model that has a file there is not measured again, unless `--again` is given.
"""

import argparse
import collections
import dataclasses
import json
import multiprocessing
import os
import pathlib
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

import bn_keras
from benchmarks.surgery_models import CATALOGUE, call, layers_inside
from bn_keras import surgery
from bn_keras.surgery.reports import report

# The largest difference of an output, over the largest value of that output, in float32.
TOLERANCE = 1e-4
RESULTS = pathlib.Path("benchmarks/surgery_results")
KINDS = ("BatchNormalization", "LayerNormalization", "GroupNormalization", "RMSNormalization")
THEIRS = tuple(getattr(keras.layers, kind) for kind in KINDS if hasattr(keras.layers, kind))
BATCH_NORMS = (keras.layers.BatchNormalization, bn_keras.BatchNorm)
FUNCTIONS = ("from_keras", "fold", "freeze", "recalibrate")


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What one function did to one model.

    Attributes:
        verdict: "equal", "left alone", "refused", "not compared", "none" where the function was not called, or "WRONG".
        difference: The largest relative difference of an output, as this page measures it.
        counts: How many layers have each outcome in the library's report.
        reasons: `[outcome, why, names]` of layers that were kept, mapped or dropped.
        why: The reason of a refusal, or what is wrong.
    """

    verdict: str
    difference: float | None = None
    counts: dict = dataclasses.field(default_factory=dict)
    reasons: list = dataclasses.field(default_factory=list)
    why: str = ""

    def __str__(self):
        if self.verdict == "none":
            return "–"
        if self.verdict in ("refused", "not compared"):
            return f"{self.verdict}: {self.why}"
        if self.verdict == "WRONG":
            return f"**WRONG**: {self.why}"
        kept = f", {self.counts['kept']} left alone" if self.counts.get("kept") else ""
        return f"equal{kept} ({self.difference:.0e})" if self.difference else f"equal{kept}"


class WrongError(Exception):
    """Something that surgery must not do."""


def measure(name: str) -> dict:
    """All outcomes of one model, as JSON: `{"norms": …, "functions": …, "saved": …, "seconds": …}`."""
    started = time.perf_counter()
    model, x = CATALOGUE[name].made()
    expected = outputs_of(model, x)
    copies, functions = {}, {}
    for function in FUNCTIONS:
        source = copies.get("from_keras") if function in ("freeze", "recalibrate") else model
        functions[function], copies[function] = attempt(function, model, source, x, expected)
        if difference_of(expected, outputs_of(model, x)):
            functions[function] = Outcome("WRONG", why="the given model changed")
    itself = saved(model, x, expected)
    files = {function: saved_copy(copies[function], x, itself) for function in ("from_keras", "fold")}
    return {
        "norms": collections.Counter(type(layer).__name__ for layer in norms_of(model)),
        "own norms": collections.Counter(type(each).__name__ for each in layers_inside(model) if is_own_norm(each)),
        "functions": {function: dataclasses.asdict(outcome) for function, outcome in functions.items()},
        "saved": {function: dataclasses.asdict(outcome) for function, outcome in files.items()},
        "seconds": time.perf_counter() - started,
        "versions": {"bn_keras": bn_keras.__version__, "keras": keras.__version__},
    }


def norms_of(model):
    return [layer for layer in layers_inside(model) if isinstance(layer, THEIRS)]


def batch_norms_of(model):
    """Those that something calls."""
    return [layer for layer in layers_inside(model) if isinstance(layer, BATCH_NORMS) and layer.built]


def is_own_norm(layer):
    """Whether a layer is a normalization of a library's own, which surgery does not know."""
    words = type(layer).__name__
    known = (*THEIRS, keras.layers.Normalization)
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
    made = report(copy)
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
    return (lines or [type(error).__name__])[0][:300].replace("|", "/")


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
    """Outputs of inference as a list of float64, with the same seeds each time.

    `training=False` is said aloud, as Keras runs batch norm in training after a layer that is called with
    `training=True` where a call does not say it.
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
        path = os.path.join(folder, "model.keras")
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
    context.set_forkserver_preload(["benchmarks.surgery", "keras_hub"])
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


# The page.


def page(results: pathlib.Path, names=tuple(CATALOGUE), again: bool = False, tell=print) -> str:
    """The page in Markdown, after measuring the models that have no file in `results`.

    Args:
        results: The folder of the JSON files, made if it is not there.
        names: The models, of `CATALOGUE`.
        again: Whether models that have a file are measured again.
        tell: Called with a line of progress per model.
    """
    results.mkdir(parents=True, exist_ok=True)
    rows = {}
    for i, name in enumerate(names, 1):
        path = results / f"{file_name(name)}.json"
        if again or not path.exists():
            write(path, measure(name))
            keras.backend.clear_session()
        rows[name] = json.loads(path.read_text(encoding="utf-8"))
        tell(f"{i} of {len(names)}: {name}: {verdicts(rows[name])}")
    return markdown(rows)


def file_name(name):
    return "".join(letter if letter.isalnum() else "_" for letter in name.lower())


def write(path, result):
    """Whole or not at all, so that an interrupted run can go on."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


def outcomes_of(row):
    functions = {function: Outcome(**row["functions"][function]) for function in FUNCTIONS}
    return functions | {f"{function}, saved": Outcome(**outcome) for function, outcome in row["saved"].items()}


def verdicts(row):
    shown = ", ".join(f"{function}: {outcome}" for function, outcome in outcomes_of(row).items())
    return f"{shown} ({row['seconds']:.0f} s)"


def markdown(rows: dict) -> str:
    measured = [(name, row, outcomes_of(row)) for name, row in rows.items()]
    lines = [cells(name, row, outcomes) for name, row, outcomes in measured]
    heads = list(lines[0])
    table = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    table += ["| " + " | ".join(map(str, line.values())) + " |" for line in lines]
    verdict = collections.Counter(outcome.verdict for *_, outcomes in measured for outcome in outcomes.values())
    versions = next(iter(rows.values()))["versions"]
    hub = sum(CATALOGUE[name].needs_hub for name in rows)
    return f"""\
<!-- Written by `python -m benchmarks.surgery --out docs/surgery.md`; do not edit. -->
# Surgery on everyday models

`from_keras`, `fold`, `freeze` and `recalibrate` on {len(rows)} models: {hub} of KerasHub in tiny configurations, and
{len(rows) - hub} as users write them. Of {sum(verdict.values()) - verdict["none"]} results {verdict["equal"]} are
equal, {verdict["left alone"]} are equal with layers left alone, {verdict["refused"]} are refused,
{verdict["not compared"]} are not compared and {verdict["WRONG"]} are wrong.

- A number is the largest difference of an output, over the largest value of that output, on this page's own inputs:
  the library's own verification is not read. "Equal" allows {TOLERANCE:.0e}. Scales, offsets and biases are random.
- *norms*: normalization layers of Keras in the model, and in parentheses those of the model's own library, which
  surgery does not know and leaves as they are.
- `freeze` and `recalibrate` run on the converted copy. `freeze` is equal if outputs are, and a call in training moves
  no statistics. `recalibrate` is equal if its outputs are those of the given model with the statistics of the same
  batch, which this page takes in NumPy.
- *saved*: a process that has not made the copy loads its `.keras` file.

{chr(10).join(table)}

bn_keras {versions["bn_keras"]}, Keras {versions["keras"]}.

## What is left alone, mapped or refused, and why

{chr(10).join(reasons(measured)) or "Nothing."}
"""


def cells(name, row, outcomes):
    found = sum(row["norms"].values())
    own = sum(row["own norms"].values())
    folding, converting = outcomes["fold"].counts, outcomes["from_keras"].counts
    return {
        "model": name,
        "norms": f"{found} ({own})" if own else found,
        "converted": converting.get("converted", 0),
        "folded": folding.get("folded", 0),
        "mapped": folding.get("mapped", 0),
        "kept": converting.get("kept", 0) + folding.get("kept", 0),
    } | {f"`{function}`": short(outcomes[function]) for function in FUNCTIONS} | {
        "saved": short(outcomes["from_keras, saved"]),
        "folded, saved": short(outcomes["fold, saved"]),
    }  # fmt: skip


def short(outcome):
    return outcome.verdict if outcome.verdict in ("refused", "not compared") else str(outcome)


def reasons(measured):
    """A line per reason, with the models it is met in."""
    models = collections.defaultdict(list)
    for name, _, outcomes in measured:
        for function, outcome in outcomes.items():
            if outcome.verdict in ("refused", "not compared"):
                models[f"`{function}` {outcome.verdict}", outcome.why].append(name)
            for kind, why, layers in outcome.reasons:
                verb = {"kept": "left alone", "mapped": "mapped to `Affine`"}.get(kind, kind)
                models[f"`{function}`: {verb}", why].append(f"{name} {len(layers)}")
    return [f"- {what}: {why} ({', '.join(names)})" for (what, why), names in models.items()]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, help="the page to write")
    parser.add_argument("--results", type=pathlib.Path, default=RESULTS, metavar="FOLDER")
    parser.add_argument("--models", nargs="+", choices=CATALOGUE, metavar="NAME", help="only these models")
    parser.add_argument("--again", action="store_true", help="measure models that have a file again")
    arguments = parser.parse_args()
    names = arguments.models or list(CATALOGUE)
    text = page(arguments.results, names, arguments.again, tell=lambda line: print(line, file=sys.stderr))
    print(text)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
