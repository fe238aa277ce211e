"""The results of a benchmark: new ones, stored ones to resume, and the cases in them."""

from bn_keras.bench.cases import case_of, cases_of
from bn_keras.bench.peers import PEERS
from bn_keras.lab.machine import provenance
from bn_keras.lab.results import ResultsFile, check_same

FIXED = ("rounds", "quick", "machine", "versions")
FILE = ResultsFile("bn-keras bench", entries="cases", fields=FIXED)


def read_results(path):
    """The results of a benchmark, from a `results.json` or the directory that holds one.

    Raises:
        ResultsError: When there is no such file, or it holds something else.
    """
    return FILE.read(path)


def begin_results(path, rounds, quick, resume):
    """New results, or the stored ones of `path` where `resume` allows it and they were made in the same way."""
    fresh = new_results(rounds, quick)
    results = FILE.read_to_resume(path, resume)
    if results is None:
        return fresh
    # A package that was installed or removed since then did not change the stored figures.
    results["versions"], fresh["versions"] = (
        fresh["versions"] | results["versions"],
        results["versions"] | fresh["versions"],
    )
    check_same(path, results, {field: fresh[field] for field in FIXED})
    return results


def new_results(rounds, quick):
    packages = [name for peer in PEERS.values() for name in peer.packages]
    return {"rounds": rounds, "quick": quick, **provenance(*packages), "cases": []}


def has_case(results, case, peers):
    """Whether the results have a case with all of these peers."""
    return any(case_of(entry) == case and set(peers) <= set(entry["peers"]) for entry in results["cases"])


def add(results, entry):
    """Adds a case; it replaces an earlier measurement of the same case."""
    results["cases"] = [each for each in results["cases"] if case_of(each) != case_of(entry)] + [entry]


def entries_of(results, group):
    """The cases of a group, in the order in which the group lists them."""
    order = {case: i for i, case in enumerate(cases_of([group], results["quick"]))}
    found = [entry for entry in results["cases"] if entry["group"] == group and case_of(entry) in order]
    return sorted(found, key=lambda entry: order[case_of(entry)])
