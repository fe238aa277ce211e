"""The machine and the packages that results were measured with."""

import datetime
import importlib.metadata
import importlib.util
import math
import os
import pathlib
import platform

from bn_keras import __version__

CORE_PACKAGES = ("tensorflow", "keras", "numpy")


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def most_jobs() -> int:
    """The largest number of processes that measure side by side: each has one thread and takes about a gigabyte."""
    return max(8, 2 * cores())


def machine() -> dict[str, str | int | None]:
    """The processor, cores, memory and system; the memory is `None` where the system does not tell it."""
    return {
        "processor": first_value("/proc/cpuinfo", "model name") or platform.processor() or platform.machine(),
        "cores": cores(),
        "memory": first_value("/proc/meminfo", "MemTotal"),
        "system": f"{platform.system()} {platform.machine()}",
    }


LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def memory_bytes() -> float:
    """The memory that this process may use, in bytes: that of the machine or of its container; infinite if unknown."""
    sizes = [math.inf]
    if "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):
        sizes.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for path in map(pathlib.Path, LIMITS):
        text = path.read_text().strip() if path.is_file() else ""
        if text.isdigit():
            sizes.append(int(text))
    return min(sizes)


def first_value(path: str, name: str) -> str | None:
    """The first value of a name in a file of `name : value` lines; `None` where there is no such file."""
    file = pathlib.Path(path)
    lines = file.read_text().splitlines() if file.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(name)), None)


def installed(package: str) -> bool:
    """Whether a package can be imported."""
    return importlib.util.find_spec(package) is not None


def versions(*optional: str) -> dict[str, str]:
    """Versions by package: bn_keras, what it stands on, and the optional packages that are installed."""
    found = [name for name in (*CORE_PACKAGES, *optional) if installed(name)]
    return {"bn_keras": __version__} | {name: importlib.metadata.version(name) for name in found}


def provenance(*optional: str) -> dict:
    """The part of every results file that says when, where and with which versions it was made."""
    return {
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(*optional) | {"python": platform.python_version()},
    }
