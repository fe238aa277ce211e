"""Runs what is asked for, case by case."""

import pathlib

from bn_keras.bench import results as files
from bn_keras.bench.cases import GROUPS, cases_of
from bn_keras.bench.measure import measure, measure_memory, measure_overheads
from bn_keras.bench.peers import PEERS
from bn_keras.bench.process import Pool


class BenchError(ValueError):
    """A group or a peer that there is not."""


class Watcher:
    """Is told how a benchmark goes on; this one keeps still."""

    def begin(self, cases, done, missing):
        """`cases` in all, `done` of them there already; `missing` has packages by peers that need them."""

    def case_begins(self, group, case):
        """A case is about to be measured."""

    def case_ended(self, entry):
        """It is in the results."""


def bench(out, *, groups=(), peers=(), rounds=15, quick=False, resume=False, watcher=None):
    """Measures groups of cases and writes `results.json` after each case.

    Args:
        out: The directory of `results.json`; made where there is none.
        groups: Names of `GROUPS`; all if empty.
        peers: Names of peers; all if empty. "torch" stands for all whose first word it is.
        rounds: Turns of each peer; the figures are medians over them.
        quick: Tiny inputs and short turns, to see that everything runs.
        resume: Whether to go on from the cases that `out` holds.
        watcher: A `Watcher` that shows the progress.

    Returns:
        The results: a dict of plain values, as in `results.json`.

    Raises:
        BenchError: For names that there are not.
        ResultsError: When `out` has results and `resume` is false, and when they were made in another way.
    """
    watcher = watcher or Watcher()
    plan, missing = plan_of(groups, peers, quick)
    path = pathlib.Path(out) / files.RESULTS
    results = files.begin_results(path, rounds, quick, resume)
    left = [each for each in plan if not files.finished(results, each[1], each[2])]
    watcher.begin(len(plan), len(plan) - len(left), missing)
    with Pool() as pool:
        for before, (group, case, taking_part) in zip([None, *left], left, strict=False):
            # How a process' heap has been used decides how fast it gives memory, so no group is left another's.
            # Nor is a case of several replicas, as TensorFlow's collectives remember the first strategy.
            if before is None or before[0] != group or case.replicas:
                pool.close_all()
            watcher.case_begins(group, case)
            entry = measured(case, taking_part, pool, rounds, quick)
            files.add(results, entry)
            files.write_results(results, path)
            watcher.case_ended(entry)
    return results


def measured(case, peers, pool, rounds, quick):
    kind = GROUPS[case.group].kind
    if kind == "memory":
        return measure_memory(case, peers)
    if kind == "overheads":
        return measure_overheads(case, peers, rounds=rounds)
    return measure(case, peers, pool, rounds=rounds, quick=quick)


def plan_of(groups, peers, quick):
    """`(group, case, peers)` of all that is asked for, and the packages that are missing, by peer."""
    checked("group", groups, GROUPS)
    checked("peer", peers, {word for name in PEERS for word in (name, name.split()[0])})
    missing = {name: peer.missing for name, peer in PEERS.items() if peer.missing and wanted(name, peers)}
    plan = []
    for group in groups or GROUPS:
        taking_part = [name for name in GROUPS[group].peers if wanted(name, peers) and name not in missing]
        plan += [(group, case, taking_part) for case in cases_of([group], quick) if taking_part]
    if not plan:
        raise BenchError("None of the peers that are installed has a part in these groups. Choose others.")
    return plan, missing


def wanted(name, peers):
    return not peers or name in peers or name.split()[0] in peers


def checked(kind, given, known):
    for name in given:
        if name not in known:
            raise BenchError(f"There is no {kind} {name!r}. Choose from: {', '.join(sorted(known))}.")
