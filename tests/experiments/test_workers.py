"""Workers in processes of their own train as one process does, and go on when one of them is killed."""

import dataclasses
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import types

import numpy as np
import pytest
import tensorflow as tf

from bn_keras.experiments import train, training_recipe, workers
from bn_keras.experiments.replicas import PLACES, largest_difference, losses_at
from tests.experiments.clusters import two_environments
from tests.processes import ROOT, limited

pytestmark = pytest.mark.slow

RUN = ("mlp_sigmoid", "--norm", "sync", "--steps", "50", "--batch-size", "64", "--learning-rate", "0.5")


def start(folder, environment, *options):
    """`bn-keras train`, with an evaluation and a checkpoint after each step."""
    command = [sys.executable, "-m", "bn_keras", "train", *RUN, "--evaluate-every", "1", "--strategy", "multiworker"]
    command += ["--join-timeout", "90", "--out", str(folder), *options]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def ended(processes, seconds=150):
    """What processes printed until they ended, and their exit codes."""
    try:
        printed = [process.communicate(timeout=seconds)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return printed, [process.returncode for process in processes]


@dataclasses.dataclass(frozen=True)
class Run:
    """A run whose second worker was killed: its folder, and what the first and the new second worker printed."""

    out: pathlib.Path
    printed: list[str]

    @property
    def losses(self):
        rows = json.loads((self.out / "results.json").read_text())["evaluations"]
        return np.array([row["loss"] for row in rows if row["step"]])


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    out, (first, second) = tmp_path_factory.mktemp("out"), two_environments()
    chief, other = start(out, first), start(out, second)
    with limited(chief), limited(other):
        while not (line := other.stdout.readline()).startswith("evaluation 25 of 50"):
            assert line, (other.communicate(), chief.kill(), chief.communicate())
    other.send_signal(signal.SIGKILL)
    other.communicate()
    printed, codes = ended([chief, start(out, second, "--resume")])
    assert codes == [0, 0], "\n\n".join(printed)
    return Run(out, printed)


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """The losses of one process with the whole batch."""
    recipe = training_recipe("mlp_sigmoid", norm="sync", steps=50, evaluate_every=1, batch_size=64, learning_rate=0.5)
    rows = train(recipe, tmp_path_factory.mktemp("one"))["evaluations"]
    losses = np.array([row["loss"] for row in rows if row["step"]])
    assert losses[-1] < losses[0] / 2  # wrong gradients would show
    return losses


def test_two_workers_train_as_one_process_does_though_one_is_killed(killed, one):
    assert len(killed.losses) == 50
    assert largest_difference(killed.losses, one) < 1e-5


@pytest.mark.sample(1)
@pytest.mark.parametrize("place", PLACES[1:3], ids=lambda place: place.name)
def test_replicas_with_sync_train_as_one_device_does(place, one):
    assert largest_difference(losses_at(place, RUN), one) < 1e-5


def test_replicas_without_sync_train_differently(one):
    local = tuple("batch" if argument == "sync" else argument for argument in RUN)
    assert largest_difference(losses_at(PLACES[1], local), one) > 1e-2


@pytest.mark.slow
def test_the_worker_that_is_left_names_the_lost_one(killed):
    expected = r"worker 1 at localhost:\d+ ended or cannot be reached. No step can be finished without it"
    assert re.search(expected, killed.printed[0])


@pytest.mark.parametrize("worker", [0, 1])
def test_both_workers_go_on_from_the_last_checkpoint(killed, worker):
    (step,) = map(int, re.findall(r"Continued from the checkpoint of step (\d+)", killed.printed[worker]))
    assert 20 <= step <= 26
    after = killed.printed[worker].split("Continued from")[1]
    assert [int(number) for number in re.findall(r"evaluation (\d+) of 50", after)] == [*range(step + 1, 51)]


def test_only_the_chief_writes_to_the_folder_of_the_run(killed):
    names = {path.name for path in killed.out.iterdir()}
    assert names == {"results.json", "log.csv", "tensorboard", "checkpoints", "model.keras"}
    assert len(list((killed.out / "checkpoints").glob("*.index"))) == 3


def test_all_workers_name_what_differs_before_the_first_step(tmp_path):
    first, second = two_environments()
    printed, codes = ended([start(tmp_path, first), start(tmp_path, second, "--seed", "1")])
    assert codes == [1, 1]
    for text in printed:
        assert "The workers differ: seed is 0 with rank 0 and 1 with rank 1" in " ".join(text.split())
    assert not (tmp_path / "results.json").exists()


class Resolver:
    """Of a strategy with a chief and two workers, seen from the second worker."""

    task_type, task_id = "worker", 1

    def cluster_spec(self):
        return tf.train.ClusterSpec({"chief": ["a:1"], "worker": ["b:1", "c:1"]})


STRATEGY = types.SimpleNamespace(cluster_resolver=Resolver())


def test_ranks_count_the_chief_first():
    assert workers.rank(STRATEGY) == 2
    assert workers.worker_count(STRATEGY) == 3
    assert not workers.is_chief(STRATEGY)


@pytest.mark.parametrize("error", workers.LOSSES)
@pytest.mark.parametrize(
    ("message", "who"),
    [
        ("", "Another worker"),
        ("/job:worker/replica:0/task:0 is gone, says /job:worker/replica:0/task:1", "worker 0 at b:1"),
        ("/job:chief/replica:0/task:0 is gone", "chief 0 at a:1"),
        ("/job:chief/replica:0/task:0 and /job:worker/replica:0/task:0", "Another worker"),
    ],
)
def test_a_loss_names_the_worker_where_tensorflow_does(error, message, who):
    with (
        pytest.raises(
            workers.LostWorkerError, match=f"^{who} ended or cannot be reached.*{error.__name__}: {message}$"
        ),
        workers.losses_explained(STRATEGY),
    ):
        raise error(None, None, message)


def test_a_loss_shows_the_line_that_says_why():
    message = "Graph execution error:\n\nDetected at node a\nCollective ops is aborted by: no heartbeats\n [[a]]"
    with (
        pytest.raises(workers.LostWorkerError, match="UnavailableError: Collective ops is aborted by: no heartbeats$"),
        workers.losses_explained(STRATEGY),
    ):
        raise tf.errors.UnavailableError(None, None, message)


@pytest.mark.parametrize("error", [*workers.LOSSES, ValueError])
def test_other_errors_stay_as_they_are(error):
    strategy = STRATEGY if error is ValueError else tf.distribute.get_strategy()
    raised = error("wrong") if error is ValueError else error(None, None, "wrong")
    with pytest.raises(error, match="wrong") as seen, workers.losses_explained(strategy):
        raise raised
    assert seen.value is raised


class Executed(Exception):  # noqa: N818
    """Takes the place of a new program."""


@pytest.fixture
def executed(monkeypatch):
    """The command that a restart runs; the environment is put back afterwards."""

    def execute(program, arguments):
        raise Executed(program, arguments, os.environ[workers.RESTARTS])

    monkeypatch.setattr(os, "execv", execute)
    monkeypatch.setenv(workers.RESTARTS, "0")


@pytest.mark.parametrize("command", [["-m", "bn_keras", "train"], ["-X", "dev", "/bin/bn-keras", "train", "--resume"]])
def test_a_restart_runs_the_same_command_and_resumes(command, executed, monkeypatch):
    monkeypatch.setattr(sys, "orig_argv", ["python", *command])
    with pytest.raises(Executed) as seen:
        workers.restart(1)
    assert seen.value.args == (sys.executable, [sys.executable, *dict.fromkeys([*command, "--resume"])], "1")


def test_a_restart_removes_the_temporary_folder(executed):
    folder = workers.folder_to_write(STRATEGY, "out")
    assert folder.is_dir()
    with pytest.raises(Executed):
        workers.restart(1)
    assert not folder.exists()


def test_restarts_are_counted_up_to_the_limit(executed):
    for count in ("1", "2"):
        with pytest.raises(Executed) as seen:
            workers.restart(2)
        assert seen.value.args[-1] == count
    workers.restart(2)


@pytest.mark.parametrize("other", [np.ones((2, 3)), np.ones(6), np.ones((3, 2), np.float32), np.zeros((3, 2))])
def test_a_digest_follows_from_values_shapes_and_dtypes(other):
    array = np.ones((3, 2))
    assert workers.digest(array) == workers.digest(np.ones((6, 2))[::2]) != workers.digest(other)
    assert workers.digest(array, other) != workers.digest(other, array)
    assert workers.digest(np.zeros(3)) != workers.digest(np.zeros(3, np.int64))  # the same bytes
    assert len(workers.digest(np.zeros((0, 3)))) == 16
