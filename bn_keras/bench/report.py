"""Results as rows of text, for the terminal and for pages."""

import statistics

from bn_keras.bench.cases import GROUPS, case_of
from bn_keras.bench.results import entries_of
from bn_keras.lab.markdown import size

COLUMNS = ("shape", "mode", "peer", "ms (min–max)", "time over {base} (min–max)", "times the floor")
MEMORY_COLUMNS = ("shape", "layer", "peer", "tensors of x's size")
NAMES = {"batch": "BatchNorm", "layer": "LayerNorm", "rms": "RMSNorm", "group": "GroupNorm", "instance": "InstanceNorm"}


def sections(results):
    """`(group, columns, rows)` of every group that has figures, in the order of the groups."""
    for name, group in GROUPS.items():
        entries = [entry for entry in entries_of(results, name) if figures(entry)]
        if not entries:
            continue
        if group.kind == "memory":
            yield name, MEMORY_COLUMNS, [row for entry in entries for row in memory_rows(entry)]
        else:
            base = base_of(name, entries[0])
            columns = tuple(column.format(base=base) for column in COLUMNS)
            yield name, columns, [row for entry in entries for row in rows_of(entry, base)]


def base_of(group, entry):
    """The peer that the others are compared with: the first of the group that was measured."""
    return next(name for name in GROUPS[group].peers if name in entry["peers"])


def rows_of(entry, base):
    """A row for each peer that has times; the case is named in the first."""
    case = case_of(entry)
    floor, first = floor_ms(entry), (size(case.shape) + axis_text(case), mode_text(case))
    rows = []
    for name, peer in timed_peers(entry).items():
        multiple = "–" if floor is None else number(statistics.median(peer["ms"]) / floor)
        facts = "".join(f", {count} {fact}" for fact, count in peer["facts"].items())
        rows.append((*first, name + facts, spread(peer["ms"]), ratio_text(entry, name, base), multiple))
        first = ("", "")
    return rows


def memory_rows(entry):
    case = case_of(entry)
    first = (size(case.shape), NAMES.get(case.layer, case.layer))
    rows = []
    for name, peer in entry["peers"].items():
        if "tensors" in peer:
            rows.append((*first, name, f"{peer['tensors'][0]:.2f}"))
            first = ("", "")
    return rows


def figures(entry):
    """`{peer: list of figures}`: milliseconds, or tensors."""
    found = {name: peer.get("ms") or peer.get("tensors") for name, peer in entry["peers"].items()}
    return {name: each for name, each in found.items() if each}


def timed_peers(entry):
    return {name: peer for name, peer in entry["peers"].items() if peer.get("ms")}


def omissions(results):
    """A line for each reason that a peer has no figures, the first of its cases named."""
    lines = {}
    for entry in results["cases"]:
        for name, peer in entry["peers"].items():
            if "left_out" in peer:
                lines.setdefault((name, peer["left_out"]), []).append(entry["group"])
    return [f"{name}: {why} ({', '.join(dict.fromkeys(groups))})" for (name, why), groups in lines.items()]


def summary(entry):
    """A case in a line."""
    found = [f"{name} {number(statistics.median(peer['ms']))} ms" for name, peer in timed_peers(entry).items()]
    found += [f"{name} {peer['tensors'][0]} tensors" for name, peer in entry["peers"].items() if "tensors" in peer]
    found += [f"{name} left out" for name, peer in entry["peers"].items() if "left_out" in peer]
    return ", ".join(found)


def ratios(entry, name, base):
    """The times of a peer over those of another, round by round; none if either was not measured."""
    peers = timed_peers(entry)
    if name not in peers or base not in peers:
        return []
    return [theirs / ours for theirs, ours in zip(peers[name]["ms"], peers[base]["ms"], strict=True)]


def ratio_text(entry, name, base):
    if name == base:
        return "1"
    each = ratios(entry, name, base)
    return f"{statistics.median(each):.2f} ({min(each):.2f}–{max(each):.2f})" if each else "–"


def spread(ms):
    return f"{number(statistics.median(ms))} ({number(min(ms))}–{number(max(ms))})"


def number(value):
    """Three digits."""
    if value >= 10:
        return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
    return f"{value:#.3g}"


def copy_bandwidth(entry):
    """Bytes per second that the machine copied before and after a case, the mean of both."""
    return statistics.mean(each["copy"] for each in entry["bandwidth"].values())


def floor_ms(entry):
    """Milliseconds that a case takes at the least, at the bandwidth measured around it; `None` where there is none."""
    case = case_of(entry)
    return None if case.bytes_moved is None else 1e3 * case.floor(copy_bandwidth(entry))


def axis_text(case):
    return ", channels first" if case.axis == 1 else ""


def mode_text(case):
    """What differs between the cases of a group."""
    words = [NAMES[case.layer]] if case.layer in {"group", "instance"} else []
    words += [f"{case.replicas} replicas"] if case.replicas else []
    words += [case.layer] if case.layer not in NAMES else []
    return ", ".join([*words, case.mode])
