"""The results of a benchmark: a JSON file that is written after every case."""

import datetime
import json
import os
import pathlib
import platform

from bn_keras.bench.cases import case_of, cases_of
from bn_keras.bench.peers import versions
from bn_keras.bench.process import cores

RESULTS = "results.json"
FIXED = ("rounds", "quick", "machine", "versions")


class ResultsError(Exception):
    """What is in the output directory does not fit what is asked for."""


def read_results(path):
    """The results in a `results.json`, or in the directory that holds one."""
    path = pathlib.Path(path)
    path = path / RESULTS if path.is_dir() else path
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ResultsError(f"There is no {str(path)!r}. Make it with `bn-keras bench`.") from None
    except ValueError as error:
        raise ResultsError(f"{str(path)!r} is not JSON: {error}. Remove it and run the benchmark.") from None
    if not isinstance(results, dict) or not {"cases", *FIXED} <= set(results):
        raise ResultsError(f"{str(path)!r} does not hold the results of a benchmark.")
    return results


def begin_results(path, rounds, quick, resume):
    """New results, or those of `path` where they may be gone on from."""
    fresh = new_results(rounds, quick)
    if not path.exists():
        return fresh
    if not resume:
        raise ResultsError(
            f"{str(path)!r} exists already. Go on from it with --resume, or choose another directory with --out."
        )
    results = read_results(path)
    # What has been installed since then, or taken away, changes nothing of what was measured.
    results["versions"], fresh["versions"] = (
        fresh["versions"] | results["versions"],
        results["versions"] | fresh["versions"],
    )
    for field in FIXED:
        if results[field] != fresh[field]:
            raise ResultsError(
                f"{str(path)!r} was made with {field}={results[field]}, not {fresh[field]}. "
                "Resume with the same, or choose another directory with --out."
            )
    return results


def new_results(rounds, quick):
    return {
        "rounds": rounds,
        "quick": quick,
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions() | {"python": platform.python_version()},
        "cases": [],
    }


def machine():
    return {
        "processor": named("/proc/cpuinfo", "model name") or platform.processor() or platform.machine(),
        "cores": cores(),
        "memory": named("/proc/meminfo", "MemTotal"),
        "system": f"{platform.system()} {platform.machine()}",
    }


def named(path, name):
    """The first value of a name in a file of `name : value` lines; `None` where there is no such file."""
    path = pathlib.Path(path)
    lines = path.read_text().splitlines() if path.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(name)), None)


def finished(results, case, peers):
    """Whether a case is there with all of these peers."""
    return any(case_of(entry) == case and set(peers) <= set(entry["peers"]) for entry in results["cases"])


def add(results, entry):
    """Puts a case in, in place of an earlier one of the same."""
    results["cases"] = [each for each in results["cases"] if case_of(each) != case_of(entry)] + [entry]


def write_results(results, path):
    """All or nothing: an interruption leaves the file before or the file after."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".partial")
    unfinished.write_text(to_json(results), encoding="utf-8")
    os.replace(unfinished, path)


def to_json(results):
    """JSON with one line per case."""
    head = json.dumps({key: value for key, value in results.items() if key != "cases"}, indent=1)
    cases = ",\n".join("  " + json.dumps(case) for case in results["cases"])
    return head.removesuffix("\n}") + ',\n "cases": [\n' + cases + "\n ]\n}\n"


def entries_of(results, group):
    """The cases of a group, in the order in which the group lists them."""
    order = {case: i for i, case in enumerate(cases_of([group], results["quick"]))}
    found = [entry for entry in results["cases"] if entry["group"] == group and case_of(entry) in order]
    return sorted(found, key=lambda entry: order[case_of(entry)])
