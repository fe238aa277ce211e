"""Scripts that tests run in processes of their own, which print `RESULT` and a line of JSON last; free ports."""

import contextlib
import json
import pathlib
import socket
import subprocess
import sys
import threading
import time

import pytest

ROOT = pathlib.Path(__file__).parents[1]


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def start(arguments, cwd=ROOT, **settings):
    return subprocess.Popen(
        [sys.executable, *arguments], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **settings
    )


def run_process(command, seconds=300, **settings):
    """As `subprocess.run` with captured text; a process that takes longer is ended, and its output is shown."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds, **settings)
    except subprocess.TimeoutExpired as late:
        said = [(each or b"").decode(errors="replace")[-3000:] for each in (late.stdout, late.stderr)]
        pytest.fail(f"not done after {seconds} s: {command}\n{said[0]}\n{said[1]}")


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


def result_of(*arguments, cwd=ROOT, seconds=180):
    return results_of([start(arguments, cwd)], seconds)[0]


def script_result(module, *arguments):
    """The result of `python -m module`."""
    return result_of("-m", module, *arguments)
