"""Times exported models in turns, in a process without bn_keras that `serving.py` starts.

    python -I serving_process.py SERVED REQUEST ANSWER

SERVED is `bn_keras/export/served.py`. The starting process pickles REQUEST, and this process pickles ANSWER.
"""

import pickle
import runpy
import sys
import time


def measure(runtime, request):
    """The first output of each file for each batch, and the milliseconds of its calls, turn by turn."""
    calls, runtimes = zip(*(runtime(path, threads=request["threads"]) for path in request["paths"]), strict=True)
    names, x = request["names"], request["batches"][0]
    outputs = [[call(batch, names)[0] for batch in request["batches"]] for call in calls]
    for call in calls:  # the first calls make their plans
        for _ in range(3):
            call(x, names)
    milliseconds = [[] for _ in calls]
    for _ in range(request["rounds"]):
        for call, times in zip(calls, milliseconds, strict=True):
            started = time.perf_counter()
            for _ in range(request["calls"]):
                call(x, names)
            times.append(1e3 * (time.perf_counter() - started) / request["calls"])
    return {"outputs": outputs, "milliseconds": milliseconds, "runtime": runtimes[0]}


def main(script, request, answer):
    served = runpy.run_path(script)
    sys.meta_path.insert(0, served["Blocker"]())
    with open(request, "rb") as file:
        request = pickle.load(file)
    result = measure(served["RUNTIMES"][request["format"]], request)
    with open(answer, "wb") as file:
        pickle.dump(result, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
