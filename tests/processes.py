"""Scripts that tests run in processes of their own, which print `RESULT` and a line of JSON last; free ports.

On Linux a process is forked from one that has imported TensorFlow. `new=True` starts a new interpreter instead: for
tests of imports and of what is printed meanwhile, and for tests that read the output while the process runs.
"""

import contextlib
import json
import os
import pathlib
import socket
import subprocess
import sys
import threading
import time

import pytest

from tests.forking import Forked

ROOT = pathlib.Path(__file__).parents[1]


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def start(arguments, cwd=ROOT, *, new=False, env=None):
    """Starts Python with arguments; returns a `subprocess.Popen`, or a `Forked` that stands in for it."""
    kind = subprocess.Popen if new or sys.platform != "linux" or is_read_by_imports(env) else Forked
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return kind([sys.executable, *map(str, arguments)], cwd=cwd, env=env, text=True, **pipes)


def is_read_by_imports(environment):
    """Whether an environment has settings of its own that are read while TensorFlow and Keras are imported."""
    names = set() if environment is None else environment.keys() | os.environ.keys()
    changed = {name for name in names if environment.get(name) != os.environ.get(name)}
    prefixes = ("TF_", "XLA_", "KERAS_", "CUDA_", "OMP_")
    return any(name.startswith(prefixes) for name in changed - {"TF_CONFIG", "TF_CPP_MIN_LOG_LEVEL"})


def run_process(command, seconds=300, *, cwd=None, new=False, env=None):
    """As `subprocess.run` with captured text; a process that takes longer is ended, and its output is shown."""
    assert command[0] == sys.executable
    process = start(command[1:], cwd, new=new, env=env)
    try:
        said = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        said = [each[-3000:] for each in process.communicate()]
        pytest.fail(f"not done after {seconds} s: {command}\n{said[0]}\n{said[1]}")
    return subprocess.CompletedProcess(command, process.returncode, *said)


@contextlib.contextmanager
def limited(process, seconds=300):
    """Ends a process that runs longer than `seconds` while the test reads what it prints, and fails the test."""
    late = []
    timer = threading.Timer(seconds, lambda: (late.append(True), process.kill()))
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        assert not late, f"not done after {seconds} s: {process.args}"


def printed(processes, seconds):
    """What processes print that run side by side. Those that take longer are ended, and what they said is shown."""
    end, outputs, late = time.monotonic() + seconds, [], False
    for process in processes:
        try:
            outputs.append(process.communicate(timeout=max(0.1, end - time.monotonic())))
        except subprocess.TimeoutExpired:
            process.kill()
            outputs.append(process.communicate())
            late = True
    said = "\n\n".join(f"process {i}:\n{out[-1000:]}\n{err[-3000:]}" for i, (out, err) in enumerate(outputs))
    assert not late, f"not done after {seconds} s\n{said}"
    assert all("RESULT " in out for out, _ in outputs), said
    return [out for out, _ in outputs]


def results_of(processes, seconds):
    """The results of processes that run side by side."""
    found = [[line for line in out.splitlines() if line.startswith("RESULT ")] for out in printed(processes, seconds)]
    return [json.loads(lines[-1].removeprefix("RESULT ")) for lines in found]


def result_of(*arguments, cwd=ROOT, seconds=180, new=False):
    return results_of([start(arguments, cwd, new=new)], seconds)[0]


def script_result(module, *arguments):
    """The result of `python -m module`."""
    return result_of("-m", module, *arguments)
