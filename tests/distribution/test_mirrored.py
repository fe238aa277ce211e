"""Training on several replicas. Each test has a process of its own: strategies over the same devices collide."""

import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]


def result_of(script):
    command = [sys.executable, "-m", f"tests.distribution.{script}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    assert lines, done.stderr[-3000:]
    return json.loads(lines[0].removeprefix("RESULT "))


def test_a_replica_without_samples_does_no_harm():
    results = result_of("uneven_batch")
    old = results.pop("keras")
    assert not old["finite"], "Keras was meant to turn into NaN"
    assert not old["equal"], "Keras' statistics were meant to differ from replica to replica"
    for name, result in results.items():
        assert result["finite"], name
        assert result["equal"], name


def test_shards_are_the_whole_batch():
    results = result_of("shards")
    for name, result in results["cases"].items():
        assert result["difference"] < 1e-5, (name, result)
        assert result["collectives"] == result["expected"], (name, result)
    assert results["collectives in inference"] == 0
    assert results["keras"]["collectives"] > 2, "Keras was meant to take more"
    assert not results["keras"]["synchronized"], "Keras was meant to leave out what has a mask"
    assert results["variance"]["ours"] < 1e-4
    assert results["variance"]["keras"] > 0.1, "Keras' variance was meant to cancel"
