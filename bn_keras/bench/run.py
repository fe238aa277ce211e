"""Runs the chosen groups of cases, one case at a time."""

import pathlib

from bn_keras.bench import report
from bn_keras.bench import results as stored
from bn_keras.bench.cases import GROUPS, cases_of
from bn_keras.bench.measure import measure, measure_memory, measure_overheads
from bn_keras.bench.peers import PEERS
from bn_keras.bench.process import Pool
from bn_keras.choices.ranges import RANGES
from bn_keras.lab.markdown import size
from bn_keras.lab.results import RESULTS
from bn_keras.lab.watcher import Watcher


class BenchError(ValueError):
    """An unknown group or peer, a number out of range, or a choice that leaves nothing to measure."""


def bench(out, *, groups=(), peers=(), rounds=15, quick=False, resume=False, watcher=None):
    """Measures groups of cases and writes `results.json` after each case.

    Args:
        out: The directory of `results.json`; `bench` creates it.
        groups: Names of `GROUPS`; none means all.
        peers: Names of peers; none means all. "torch" stands for every peer whose first word it is.
        rounds: Turns of each peer; the figures are medians over the rounds.
        quick: Whether to measure tiny inputs in short turns, to see that everything runs.
        resume: Whether to continue the benchmark that `out` holds.
        watcher: A `bn_keras.lab.watcher.Watcher` that shows the progress; `None` shows nothing.

    Returns:
        The results: a dict of plain values, as in `results.json`.

    Raises:
        BenchError: For unknown names, and when no chosen peer is installed.
        ResultsError: When `out` has results and `resume` is false, or when they were made with other settings.
    """
    watcher = watcher or Watcher()
    if rounds not in RANGES["rounds"]:
        raise BenchError(f"`rounds` must be {RANGES['rounds'].words}. Received: rounds={rounds!r}.")
    plan, missing = plan_of(groups, peers, quick)
    path = pathlib.Path(out) / RESULTS
    results = stored.begin_results(path, rounds, quick, resume)
    left = [each for each in plan if not stored.has_case(results, each[1], each[2])]
    notes = [f"{peer} is left out: it needs {' and '.join(packages)}." for peer, packages in missing.items()]
    watcher.begin("case", len(plan), len(plan) - len(left), notes)
    with Pool() as pool:
        for before, (group, case, taking_part) in zip([None, *left], left, strict=False):
            # A used heap allocates at another speed, so each group gets fresh processes. A case of several replicas
            # gets them too, because TensorFlow's collectives remember the first strategy.
            if before is None or before[0] != group or case.replicas:
                pool.close_all()
            watcher.item_begins(f"{group} {size(case.shape)} {report.mode_text(case)}")
            entry = measure_case(case, taking_part, pool, rounds, quick)
            stored.add(results, entry)
            stored.FILE.write(results, path)
            watcher.item_ends(report.summary(entry))
    return results


def measure_case(case, peers, pool, rounds, quick):
    kind = GROUPS[case.group].kind
    if kind == "memory":
        return measure_memory(case, peers)
    if kind == "overheads":
        return measure_overheads(case, peers, rounds=rounds)
    return measure(case, peers, pool, rounds=rounds, quick=quick)


def plan_of(groups, peers, quick):
    """`(group, case, peers)` of each chosen case, and the missing packages of each peer."""
    checked("group", groups, GROUPS)
    checked("peer", peers, {word for name in PEERS for word in (name, name.split()[0])})
    missing = {name: peer.missing for name, peer in PEERS.items() if peer.missing and wanted(name, peers)}
    plan = []
    for group in groups or GROUPS:
        taking_part = [name for name in GROUPS[group].peers if wanted(name, peers) and name not in missing]
        plan += [(group, case, taking_part) for case in cases_of([group], quick) if taking_part]
    if not plan:
        raise BenchError("None of the installed peers takes part in these groups. Choose other peers or groups.")
    return plan, missing


def wanted(name, peers):
    return not peers or name in peers or name.split()[0] in peers


def checked(kind, names, known):
    for name in names:
        if name not in known:
            raise BenchError(f"Unknown {kind} {name!r}. Choose from: {', '.join(sorted(known))}.")
