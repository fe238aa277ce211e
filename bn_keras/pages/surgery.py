"""The page of surgery: models of KerasHub and of users, converted, folded, frozen and recalibrated.

`surgery_models` holds the catalogue of models, and `surgery_measure` measures one of them. A result is stored as soon
as a model is measured. A model is measured again when bn_keras or a package below it has another version.
"""

import collections
import importlib
import pathlib

import keras

from bn_keras.lab.machine import versions
from bn_keras.lab.markdown import facts, table_of
from bn_keras.lab.results import ResultsFile
from bn_keras.lab.watcher import Watcher
from bn_keras.pages.registry import Request
from bn_keras.pages.surgery_measure import FUNCTIONS, HUB, SAVED, TOLERANCE, Outcome, measure
from bn_keras.pages.surgery_models import CATALOGUE

FILE = ResultsFile("bn-keras page surgery", "outcomes", ("model", "norms", "own norms", "versions"))
# A result of other versions of these is measured again.
DECIDING = ("bn_keras", "tensorflow", "keras", HUB)
QUICK = ("VGG", "Siamese", "tied weights")


def text(request: Request) -> str:
    """The page, after measuring the models without a current result in `request.results`."""
    names = QUICK if request.quick else tuple(CATALOGUE)
    return page_text(results_of(names, request.results, request.watcher))


def results_of(names: tuple[str, ...], folder: pathlib.Path | None, watcher: Watcher) -> dict[str, dict]:
    """Results by name of the model: the stored ones that are current, and new ones, which are stored at once.

    Args:
        names: Models of `CATALOGUE`.
        folder: The folder of stored results, created with the first result; `None` stores nothing.
        watcher: Shows the progress.
    """
    if any(CATALOGUE[name].needs_hub for name in names):
        importlib.import_module(HUB)  # fails before the first measurement
    results = {} if folder is None else current_results(names, folder)
    watcher.begin("model", len(names), len(results))
    for name in names:
        if name in results:
            continue
        watcher.item_begins(name)
        keras.backend.clear_session()  # names of layers do not depend on the models before
        results[name] = measure(name)
        if folder is not None:
            FILE.write(results[name], path_of(name, folder))
        watcher.item_ends(summary(results[name]))
    return {name: results[name] for name in names}


def current_results(names: tuple[str, ...], folder: pathlib.Path) -> dict[str, dict]:
    """The stored results that the installed versions of `DECIDING` made."""
    stored = {name: FILE.read(path_of(name, folder)) for name in names if path_of(name, folder).exists()}
    return {name: result for name, result in stored.items() if deciding(result["versions"]) == deciding(versions(HUB))}


def deciding(found: dict[str, str]) -> list[str | None]:
    return [found.get(package) for package in DECIDING]


def path_of(name: str, folder: pathlib.Path) -> pathlib.Path:
    """The file of a model's result."""
    return folder / f"{''.join(letter if letter.isalnum() else '_' for letter in name.lower())}.json"


def outcomes_of(result: dict) -> dict[str, Outcome]:
    """The outcomes of a stored result by the name of the function, or of the saved copy."""
    return {
        each["of"]: Outcome(**{field: value for field, value in each.items() if field != "of"})
        for each in result["outcomes"]
    }


def summary(result: dict) -> str:
    """A result in a line."""
    lines = [f"{of}: {described(outcome)}" for of, outcome in outcomes_of(result).items()]
    return f"{', '.join(lines)} ({result['seconds']:.0f} s)"


def described(outcome: Outcome) -> str:
    """An outcome in words."""
    if outcome.verdict == "none":
        return "–"
    if outcome.verdict in ("refused", "not compared"):
        return f"{outcome.verdict}: {outcome.why}"
    if outcome.verdict == "WRONG":
        return f"**WRONG**: {outcome.why}"
    left_alone = f", {outcome.counts['kept']} left alone" if outcome.counts.get("kept") else ""
    return f"equal{left_alone}" + (f" ({outcome.difference:.0e})" if outcome.difference else "")


def page_text(results: dict[str, dict]) -> str:
    """The page that follows from results by name of the model."""
    outcomes = {name: outcomes_of(result) for name, result in results.items()}
    rows = [row_of(name, result, outcomes[name]) for name, result in results.items()]
    verdicts = collections.Counter(outcome.verdict for each in outcomes.values() for outcome in each.values())
    of_hub = sum(CATALOGUE[name].needs_hub for name in results)
    return f"""\
# Surgery on everyday models

`from_keras`, `fold`, `freeze` and `recalibrate` on {len(results)} models: {of_hub} of KerasHub in tiny configurations,
and {len(results) - of_hub} as users write them.

{table_of([counted(verdicts)])}

{LEGEND}
{table_of(rows)}

Versions: {facts(next(iter(results.values()))["versions"])}.

## What is left alone, mapped or refused, and why

{chr(10).join(reasons(outcomes)) or "Nothing."}
"""


LEGEND = f"""\
- A number is the largest difference of an output, over the largest value of that output, in float32. "Equal" allows
  {TOLERANCE:.0e}. This page compares outputs itself, on its own inputs; it does not read the library's verification.
- Scales, offsets and biases of the models are random.
- *norms* counts the normalization layers of Keras. The number in parentheses counts those of the model's own library,
  which surgery does not know and leaves as they are.
- `freeze` and `recalibrate` run on the converted copy. `freeze` is equal if its outputs are, and if a call in training
  moves no statistics. `recalibrate` is equal if its outputs match the given model with the statistics of the same
  batch, which this page computes in NumPy.
- *saved* and *folded, saved*: another process loads the `.keras` file of the converted and of the folded copy.
"""


def counted(verdicts: collections.Counter) -> dict[str, int]:
    """The row that counts the results of all models."""
    return {
        "results": verdicts.total() - verdicts["none"],
        "equal": verdicts["equal"],
        "equal, with layers left alone": verdicts["left alone"],
        "refused": verdicts["refused"],
        "not compared": verdicts["not compared"],
        "wrong": verdicts["WRONG"],
    }


def row_of(name: str, result: dict, outcomes: dict[str, Outcome]) -> dict[str, object]:
    """A row of the table."""
    norms, own = sum(result["norms"].values()), sum(result["own norms"].values())
    converting, folding = outcomes["from_keras"].counts, outcomes["fold"].counts
    counts = {
        "model": name,
        "norms": f"{norms} ({own})" if own else norms,
        "converted": converting.get("converted", 0),
        "folded": folding.get("folded", 0),
        "mapped": folding.get("mapped", 0),
        "kept": converting.get("kept", 0) + folding.get("kept", 0),
    }
    functions = {f"`{function}`": cell(outcomes[function]) for function in FUNCTIONS}
    saved = {"saved": cell(outcomes[SAVED["from_keras"]]), "folded, saved": cell(outcomes[SAVED["fold"]])}
    return counts | functions | saved


def cell(outcome: Outcome) -> str:
    """An outcome in the table, where the reason of a refusal has no room."""
    return outcome.verdict if outcome.verdict in ("refused", "not compared") else described(outcome)


def reasons(outcomes: dict[str, dict[str, Outcome]]) -> list[str]:
    """A line per reason, with the models that have it, and the number of layers in each."""
    models = collections.defaultdict(list)
    for name, by_function in outcomes.items():
        for function, outcome in by_function.items():
            if outcome.verdict in ("refused", "not compared"):
                models[f"`{function}` {outcome.verdict}", outcome.why].append(name)
            for kind, why, layers in outcome.reasons:
                verb = {"kept": "left alone", "mapped": "mapped to `Affine`"}.get(kind, kind)
                models[f"`{function}`: {verb}", why].append(f"{name} {len(layers)}")
    return [f"- {what}: {why} ({', '.join(names)})" for (what, why), names in models.items()]
