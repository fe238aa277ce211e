"""One case: every peer takes turns, in a new random order each round, never two at once."""

import random

from bn_keras.bench.bandwidth import MEGABYTES, bandwidth
from bn_keras.bench.process import Pool, WorkerError

TURN_SECONDS, QUICK_TURN_SECONDS = 0.2, 0.01
QUICK_MEGABYTES = 8


def measure(case, peers, pool, *, rounds, quick=False):
    """The times of one case, with the machine's bandwidth before and after.

    Args:
        case: A `Case`.
        peers: Names.
        pool: A `Pool` of their workers.
        rounds: How many turns each peer takes.
        quick: Whether short turns will do, for a test.

    Returns:
        The case's fields, `bandwidth` and `peers`: for each `ms`, a list over rounds of milliseconds per call,
        `calls` per turn and `facts`, or `left_out`, why it has no times.
    """
    megabytes = QUICK_MEGABYTES if quick else MEGABYTES
    found = {name: prepare(name, case, pool, QUICK_TURN_SECONDS if quick else TURN_SECONDS) for name in peers}
    before = bandwidth(megabytes)
    order = random.Random(0)
    for _ in range(rounds):
        taking_part = [name for name in peers if "ms" in found[name]]
        order.shuffle(taking_part)
        for name in taking_part:
            take_turn(name, found, pool)
    return case.to_dict() | {"bandwidth": {"before": before, "after": bandwidth(megabytes)}, "peers": found}


def prepare(name, case, pool, turn_seconds):
    """Warms a peer up and chooses how many calls make a turn."""
    try:
        answer = pool.get(name).ask("prepare", case=case.to_dict())
        if "left_out" in answer:
            return answer
        calls = 1
        for share in (0.1, 1):  # the first call alone says little of how long the others take
            seconds = pool.get(name).ask("run", calls=calls)["seconds"]
            calls = max(1, round(share * turn_seconds * calls / seconds))
    except WorkerError as error:
        return omission(name, pool, error)
    return {"ms": [], "calls": calls, "facts": answer["facts"]}


def take_turn(name, found, pool):
    entry = found[name]
    try:
        seconds = pool.get(name).ask("run", calls=entry["calls"])["seconds"]
    except WorkerError as error:
        found[name] = omission(name, pool, error)
        return
    entry["ms"].append(float(f"{1e3 * seconds / entry['calls']:.5g}"))


def omission(name, pool, error):
    pool.close(name)
    return {"left_out": str(error)}


def measure_memory(case, peers, *, quick=False):
    """By how many tensors of x's size one call lifts the memory at its peak, each peer in a fresh process.

    Returns:
        The case's fields and `peers`: for each `tensors`, a list of one figure, or `left_out`.
    """
    found = {}
    for name in peers:
        with Pool() as pool:
            try:
                answer = pool.get(name).ask("prepare", case=case.to_dict())
                if "ready" in answer:
                    answer = {"tensors": [round(pool.get(name).ask("memory")["bytes"] / case.tensor_bytes, 2)]}
            except WorkerError as error:
                answer = {"left_out": str(error)}
        found[name] = answer
    return case.to_dict() | {"peers": found}


def measure_overheads(case, peers, *, rounds):
    """What happens once in a process, in a fresh one each time, in turns; as `measure`, without the bandwidth."""
    found = {name: {"ms": [], "calls": 1} for name in peers}
    for _ in range(rounds):
        for name in [name for name in peers if "ms" in found[name]]:
            with Pool() as pool:
                try:
                    answer = pool.get(name).ask("overhead", case=case.to_dict())
                    found[name]["ms"].append(answer["ms"])
                    found[name]["facts"] = answer["facts"]
                except WorkerError as error:
                    found[name] = {"left_out": str(error)}
    return case.to_dict() | {"peers": found}
