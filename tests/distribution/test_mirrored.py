"""Training on several replicas. Each test has a process of its own: strategies over the same devices collide."""

import json
import pathlib
import subprocess
import sys

FOLDER = pathlib.Path(__file__).parent


def result_of(script):
    done = subprocess.run([sys.executable, FOLDER / script], capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    assert lines, done.stderr[-3000:]
    return json.loads(lines[0].removeprefix("RESULT "))


def test_a_replica_without_samples_does_no_harm():
    finite = result_of("uneven_batch.py")
    assert finite.pop("keras") is False, "Keras was meant to turn into NaN"
    assert all(finite.values()), finite
