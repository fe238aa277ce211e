"""One peer in a process of its own, which measures when it is told to.

    python -m bn_keras.bench.worker PEER

It reads requests from standard input and answers on standard output, a line of JSON each:

    {"do": "prepare", "case": {…}}   → {"ready": true, "facts": {…}} or {"left_out": "why"}
    {"do": "run", "calls": 12}       → {"seconds": 0.2}, of all calls together, after one that is not timed
    {"do": "memory"}                 → {"bytes": 1234}, by how much one call lifts the resident memory at its peak
    {"do": "overhead", "case": {…}}  → {"ms": 0.5, "facts": {…}}, of what happens once in a process
    {"do": "quit"}                   ends it, as the end of the input does

Everything else that is printed, by TensorFlow for one, goes to standard error.
"""

import json
import os
import pathlib
import re
import sys
import time

from bn_keras.bench.cases import case_of
from bn_keras.bench.peers import NotOfferedError, prepare

STATUS = pathlib.Path("/proc/self/status")


def private_output():
    """Standard output for the answers alone; what anybody else prints goes to standard error."""
    sys.stdout.flush()
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


class Worker:
    """Holds the call that was prepared last."""

    def __init__(self, peer):
        self.peer = peer
        self.call = None

    def answer(self, request):
        return getattr(self, request.pop("do"))(**request)

    def prepare(self, case):
        self.call = None
        try:
            self.call = prepare(self.peer, case_of(case))
            self.call()
        except NotOfferedError as reason:
            return {"left_out": str(reason)}
        except Exception as error:  # a peer that fails must not end the benchmark
            return {"left_out": f"failed: {type(error).__name__}: {error}".splitlines()[0][:300]}
        return {"ready": True, "facts": getattr(self.call, "facts", {})}

    def run(self, calls):
        self.call()
        started = time.perf_counter()
        for _ in range(calls):
            self.call()
        return {"seconds": time.perf_counter() - started}

    def memory(self):
        self.call()
        before = resident("VmRSS")
        pathlib.Path("/proc/self/clear_refs").write_text("5")  # forgets the peak
        self.call()
        return {"bytes": resident("VmHWM") - before}

    def overhead(self, case):
        from bn_keras.bench.overheads import overhead

        return overhead(self.peer, case_of(case))


def resident(field):
    """Bytes that Linux counts for this process."""
    return 1024 * int(re.search(rf"{field}:\s+(\d+) kB", STATUS.read_text())[1])


def main():
    answers = private_output()
    worker = Worker(sys.argv[1])
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "quit":
            break
        print(json.dumps(worker.answer(request)), file=answers, flush=True)


if __name__ == "__main__":
    main()
