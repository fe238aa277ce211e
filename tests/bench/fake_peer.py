"""A peer for tests: it talks where it should not, and what it does depends on the case's layer."""

import os
import time

from bn_keras.bench.peers import NotOfferedError


def prepare(case):
    print("noise of Python")
    os.write(1, b"noise of C\n")
    if case.layer == "rms":
        raise NotOfferedError("no such layer")
    if case.layer == "group":
        raise RuntimeError("broken\nin two lines")
    if case.layer == "instance":
        os.write(2, b"the last words\n")
        os._exit(3)
    return call if case.layer == "batch" else hold_memory


def call():
    time.sleep(0.002)


call.facts = {"collectives": 2}


def hold_memory():
    """64 MiB, for a moment."""
    held = bytearray(2**26)
    held[:: 2**12] = b"1" * (2**26 // 2**12)
