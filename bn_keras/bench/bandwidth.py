"""The machine's memory bandwidth, as NumPy reaches it with a thread per core."""

import concurrent.futures
import functools
import time

import numpy as np

from bn_keras.lab.machine import cores

MEGABYTES = 256


@functools.cache
def arrays(megabytes):
    """Two arrays, larger than the caches, written once so that their pages are there."""
    return tuple(np.full(megabytes * 2**20 // 4, value, np.float32) for value in (1, 2))


def bandwidth(megabytes=MEGABYTES, repeats=3):
    """Bytes per second, the best of a few passes: `{"copy": …, "read": …}`.

    A copy counts what it reads and what it writes. Each thread has its own part of the arrays.
    """
    source, target = (np.array_split(each, cores()) for each in arrays(megabytes))
    size = megabytes * 2**20
    with concurrent.futures.ThreadPoolExecutor(cores()) as threads:

        def best(work, *parts):
            return min(timed(lambda: list(threads.map(work, *parts))) for _ in range(repeats))

        copy = best(np.copyto, target, source)
        read = best(np.max, source)
    return {"copy": float(f"{2 * size / copy:.4g}"), "read": float(f"{size / read:.4g}")}


def timed(work):
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
