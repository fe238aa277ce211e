"""Strategies, and what is said when they cannot be made."""

import json
import os
import re

import pytest
import tensorflow as tf

from bn_keras.experiments import cluster
from bn_keras.experiments.cluster import ClusterError, make_strategy, read_tf_config
from tests.experiments.clusters import two_environments
from tests.processes import results_of, start

WORKERS = {"worker": ["a:1", "b:2"]}


def tf_config(task_type="worker", index=0, **jobs):
    return json.dumps({"cluster": jobs or WORKERS, "task": {"type": task_type, "index": index}})


@pytest.mark.parametrize("kind", ["", "two", None])
def test_unknown_kinds_are_refused(kind):
    with pytest.raises(ValueError, match=r"`kind` must be one of 'one', 'mirrored', 'multiworker'. Received: kind="):
        make_strategy(kind)


@pytest.mark.parametrize(("kind", "replicas"), [("one", 2), ("multiworker", 2), ("mirrored", 2.0), ("mirrored", True)])
def test_replicas_are_refused_where_they_mean_nothing(kind, replicas):
    with pytest.raises(ValueError, match="`replicas` must be None, or an int with kind='mirrored'. Received"):
        make_strategy(kind, replicas)


@pytest.mark.parametrize(("gpus", "replicas"), [(0, 0), (0, None), (0, 65), (2, 0), (2, 3)])
def test_replicas_that_the_machine_does_not_have_are_refused(gpus, replicas, monkeypatch):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["device"] * gpus)
    with pytest.raises(ValueError, match=r"`replicas` must be .* Received: replicas="):
        make_strategy("mirrored", replicas)


@pytest.mark.parametrize(("replicas", "expected"), [(None, ["GPU:0", "GPU:1"]), (1, ["GPU:0"])])
def test_mirrored_replicas_are_gpus_where_there_are_any(replicas, expected, monkeypatch):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["device"] * 2)
    monkeypatch.setattr(tf.distribute, "MirroredStrategy", list)
    assert make_strategy("mirrored", replicas) == expected


def test_a_time_limit_that_is_over_is_refused():
    with pytest.raises(ValueError, match="`join_timeout` must be a number of seconds in .* Received: join_timeout=0"):
        make_strategy("multiworker", join_timeout=0)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (None, "need the environment variable TF_CONFIG"),
        (" ", "need the environment variable TF_CONFIG"),
        ("{", "is not JSON"),
        ("[]", "keys cluster and task"),
        ('{"cluster": {"worker": ["a:1"]}}', "keys cluster and task"),
        ('{"cluster": {}, "task": {}}', "has the jobs"),
        (tf_config(worker=["a:1"], ps=["b:1"]), "has the jobs ['ps', 'worker']"),
        (tf_config(worker=["a:1", "b"]), "lists 'b' as an address"),
        (tf_config(worker=["a:1", "b:0"]), "lists 'b:0' as an address"),
        (tf_config(worker=["a:1", 2]), "lists 2 as an address"),
        (tf_config(worker=["a:1", "a:1"]), "lists an address twice"),
        (tf_config(index=2), "index 2, which is no place"),
        (tf_config(index=-1), "index -1, which is no place"),
        (tf_config(index=None), "index None, which is no place"),
        (tf_config("chief"), "task type 'chief' and index 0, which is no place"),
    ],
)
def test_a_wrong_tf_config_is_named_beside_a_right_one(text, problem, monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if text is not None:
        monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(ClusterError) as raised:
        make_strategy("multiworker", join_timeout=0.1)
    assert problem in str(raised.value)
    right = str(raised.value).split("TF_CONFIG='")[1].split("'")[0]
    assert read_tf_config(right)[1] == 0


def test_the_chief_comes_first():
    jobs = {"worker": ["b:1", "c:1"], "chief": ["a:1"]}
    members, own = read_tf_config(tf_config("worker", "1", **jobs))
    assert [str(member) for member in members] == ["chief 0 at a:1", "worker 0 at b:1", "worker 1 at c:1"]
    assert own == 2
    assert read_tf_config(tf_config("chief", 0, **jobs))[1] == 0


def test_tensorflow_that_is_already_set_up_is_named_before_the_workers_meet(monkeypatch):
    tf.constant(0)
    monkeypatch.setenv("TF_CONFIG", tf_config())
    monkeypatch.setattr(cluster, "meet", lambda *arguments: pytest.fail("the others were told to go on"))
    with pytest.raises(ClusterError, match="before anything else of TensorFlow"):
        make_strategy("multiworker")


def slurm(monkeypatch, **changes):
    """The variables of a task of Slurm: 2 nodes with 2 tasks each; no variable where a change is `None`."""
    variables = {
        "SLURM_JOB_ID": "70007", "SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_NODELIST": "n[1-2]",
        "SLURM_STEP_TASKS_PER_NODE": "2(x2)", "SLURMD_NODENAME": "n2",
    }  # fmt: skip
    monkeypatch.delenv("TF_CONFIG", raising=False)
    for name, value in (variables | changes).items():
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)


def test_slurm_describes_the_workers(monkeypatch):
    slurm(monkeypatch, CUDA_VISIBLE_DEVICES="5")
    resolver = cluster._slurm_resolver()
    assert resolver.cluster_spec().as_dict() == {"worker": ["n1:22007", "n1:22008", "n2:22007", "n2:22008"]}
    assert (resolver.task_type, resolver.task_id) == ("worker", 3)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "5"  # which Slurm has set
    assert resolver.num_accelerators() == {"GPU": len(tf.config.list_physical_devices("GPU"))}


def test_a_slurm_job_without_srun_is_named(monkeypatch):
    slurm(monkeypatch, SLURM_STEP_NUM_TASKS=None, SLURM_PROCID=None)
    with pytest.raises(ClusterError, match=r"SLURM_PROCID not found.*Start the workers with srun, or set TF_CONFIG="):
        make_strategy("multiworker")


def test_slurm_ranks_on_other_nodes_than_tensorflow_expects_are_named(monkeypatch):
    slurm(monkeypatch, SLURMD_NODENAME="n1")
    with pytest.raises(ClusterError, match="started task 3 on 'n1', and TensorFlow expects it at 'n2:22008'"):
        make_strategy("multiworker")


@pytest.fixture(scope="module")
def result():
    """What a process says that is the first of two workers, and alone."""
    environment, _ = two_environments()
    return results_of([start(["-m", "tests.experiments.make_strategies"], env=environment)], seconds=90)[0]


@pytest.mark.slow
def test_a_worker_that_never_joins_is_named(result):
    (said,) = result["said"]
    first, other = re.fullmatch(r"worker 0 at (localhost:\d+) waits up to 0.5 s for worker 1 at (.*)", said).groups()
    assert result["missing"].startswith(f"worker 1 at {other} did not join within 0.5 s.")
    assert first in result["missing"]


@pytest.mark.slow
def test_mirrored_splits_the_cpu(result):
    assert (result["replicas"], result["again"]) == (2, 2)


def test_more_replicas_than_tensorflow_has_set_up_are_refused(result):
    assert "fewer than the 3 replicas: 2. Call make_strategy before anything else" in result["one more"]
