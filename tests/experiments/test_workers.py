"""Workers in processes of their own train as one process does, and go on when one of them is killed."""

import dataclasses
import json
import os
import pathlib
import re
import sys
import types

import numpy as np
import pytest
import tensorflow as tf

from bn_keras.experiments import workers
from tests.experiments.clusters import two_environments
from tests.experiments.train_workers import train
from tests.processes import printed, start

KILL_AFTER = "STEP 25"


def run(folder, environment, *options):
    return start(["-m", "tests.experiments.train_workers", str(folder), *options], env=environment)


@dataclasses.dataclass(frozen=True)
class Run:
    """A run whose second worker was killed: its folder, and what the first and the new second worker printed."""

    out: pathlib.Path
    printed: list[str]

    @property
    def results(self):
        return [json.loads(text.split("RESULT ")[1]) for text in self.printed]


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    out, (first, second) = tmp_path_factory.mktemp("out"), two_environments()
    chief, other = run(out, first), run(out, second)
    while not (line := other.stdout.readline()).startswith(KILL_AFTER):
        assert line, (other.communicate(), chief.kill(), chief.communicate())
    other.kill()
    other.communicate()
    processes = [chief, run(out, second, "--resume")]
    return Run(out, printed(processes, seconds=120))


@pytest.fixture(scope="module")
def truth(tmp_path_factory):
    """The losses of one process with the whole batch."""
    losses, _ = train(tf.distribute.get_strategy(), tmp_path_factory.mktemp("truth"))
    assert losses[-1] < losses[0] / 2  # wrong gradients would show
    return losses


def test_two_workers_train_as_one_process_does_though_one_is_killed(killed, truth):
    for result in killed.results:
        np.testing.assert_allclose(result["losses"], truth, rtol=1e-4, atol=1e-6)


def test_the_worker_that_is_left_names_the_lost_one(killed):
    expected = r"LOST worker 1 at localhost:\d+ ended or cannot be reached. No step can be finished without it"
    assert re.search(expected, killed.printed[0])


@pytest.mark.parametrize("worker", [0, 1])
def test_both_workers_go_on_from_the_last_checkpoint(killed, worker):
    steps = [int(step) for step in re.findall(r"STEP (\d+)\n", killed.printed[worker])]
    before = [*range(1, steps.index(21, 21) + 1)] if worker == 0 else []
    assert steps == [*before, *range(21, 51)]


def test_only_the_chief_writes_to_the_folder_of_the_run(killed):
    chief, other = killed.results
    assert (chief["rank"], other["rank"]) == (0, 1)
    assert pathlib.Path(chief["folder"]) == killed.out
    assert [path.name for path in killed.out.iterdir()] == ["checkpoint.npz"]
    assert pathlib.Path(other["folder"]) != killed.out
    assert not pathlib.Path(other["folder"]).exists()


def test_all_workers_name_all_that_differs(killed):
    for result in killed.results:
        assert result["different"].startswith(
            "The workers differ: only on 0 is 1 with rank 0 and None with rank 1; only on 1 is None with rank 0 and "
            "1 with rank 1; seed is '' with rank 0 and 'é' with rank 1. Start all workers with the same command"
        )


class Resolver:
    """Of a strategy with a chief and two workers, seen from the second worker."""

    task_type, task_id = "worker", 1

    def cluster_spec(self):
        return tf.train.ClusterSpec({"chief": ["a:1"], "worker": ["b:1", "c:1"]})


STRATEGY = types.SimpleNamespace(cluster_resolver=Resolver())


def test_ranks_count_the_chief_first():
    assert workers.rank(STRATEGY) == 2
    assert workers.workers(STRATEGY) == 3
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
    assert len(workers.digest(np.zeros((0, 3)))) == 16
