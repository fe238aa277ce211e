"""Workers in processes of their own train as one process does, and go on when one of them is killed."""

import json
import os
import pathlib
import re

import numpy as np
import pytest
import tensorflow as tf

from bn_keras.experiments import workers
from tests.experiments.clusters import environments, slurm_environments
from tests.experiments.train_workers import train
from tests.processes import results_of, start

SCRIPT = "tests.experiments.train_workers"
KILL_AFTER = "STEP 25"


def run(folder, environment, *options):
    return start(["-m", SCRIPT, str(folder), *options], env=environment)


@pytest.fixture(scope="module")
def truth(tmp_path_factory):
    """The losses of one process with the whole batch."""
    losses, _ = train(tf.distribute.get_strategy(), tmp_path_factory.mktemp("truth"))
    assert losses[-1] < losses[0] / 2  # the test would see gradients that are wrong
    return losses


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What two workers of a Slurm job step report."""
    folder = tmp_path_factory.mktemp("out")
    return folder, results_of([run(folder, each) for each in slurm_environments(2)], seconds=90)


def test_two_workers_train_as_one_process_does(results, truth):
    for result in results[1]:
        np.testing.assert_allclose(result["losses"], truth, rtol=1e-4, atol=1e-6)


def test_only_the_chief_writes_to_the_folder_of_the_run(results):
    out, (chief, other) = results
    assert (chief["rank"], other["rank"]) == (0, 1)
    assert pathlib.Path(chief["folder"]) == out
    assert [path.name for path in out.iterdir()] == ["checkpoint.npz"]
    assert pathlib.Path(other["folder"]) != out
    assert not pathlib.Path(other["folder"]).exists()


def test_all_workers_name_what_differs(results):
    expected = "The workers differ in seed: '' on the first one, 'é' on the one with rank 1. Start all workers"
    assert all(result["different"].startswith(expected) for result in results[1])


def test_workers_go_on_from_the_checkpoint_when_one_is_killed(truth, tmp_path):
    environment = list(environments(2))
    address = json.loads(environment[0]["TF_CONFIG"])["cluster"]["worker"][1]
    chief, killed = (run(tmp_path, each) for each in environment)
    while KILL_AFTER not in (line := killed.stdout.readline()):
        assert line, killed.communicate()
    killed.kill()
    killed.communicate()
    again = run(tmp_path, environment[1], "--resume")
    said = []
    results = []
    for process in (chief, again):
        said.append(process.communicate(timeout=90))
        results.append(json.loads(said[-1][0].split("RESULT ")[1]))
    for result in results:
        np.testing.assert_allclose(result["losses"], truth, rtol=1e-4, atol=1e-6)
    lost = re.search("LOST (.*)", said[0][0])[1]
    assert lost.startswith(f"worker 1 at {address} ended or cannot be reached. No step can be finished without it")
    assert "STEP 20\n" not in said[1][0]
    assert "STEP 21\n" in said[1][0]
