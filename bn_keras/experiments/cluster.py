"""Strategies: one replica, several replicas on this machine, or several workers on several machines."""

import json
import os
from collections.abc import Callable

import tensorflow as tf

from bn_keras.choices.ranges import RANGES
from bn_keras.experiments.rendezvous import ClusterError, Member, meet

KINDS = ("one", "mirrored", "multiworker")
JOBS = ("chief", "worker")  # in the order of their ranks
EXAMPLE = (
    """TF_CONFIG='{"cluster": {"worker": ["host0:12345", "host1:12345"]}, "task": {"type": "worker", "index": 0}}', """
    "with the same cluster for every worker, and index 1 for the second one"
)


def make_strategy(
    kind: str, replicas: int | None = None, *, join_timeout: float = 300.0, tell: Callable[[str], object] = print
) -> tf.distribute.Strategy:
    """Returns the strategy of a training run. Call it before anything else of TensorFlow.

    Workers are described by the environment variable `TF_CONFIG`, or else by Slurm's own variables. Each GPU of a
    worker is a replica; a worker without GPUs is one replica. All workers meet before TensorFlow joins them: TensorFlow
    would wait for a missing worker without end.

    Args:
        kind: Str: `"one"` for one replica; `"mirrored"` for several replicas in this process; `"multiworker"` for
            several processes.
        replicas: Int ≥ 1, the number of replicas of `"mirrored"`; `None` for all GPUs. On a machine without GPUs,
            TensorFlow splits the CPU into that many logical devices, 64 at most. `None` for the other kinds.
            Defaults to `None`.
        join_timeout: Float > 0, how long a worker waits for the others, in seconds, at most a week. Defaults to
            `300.0`.
        tell: Function that gets lines about the workers that a worker waits for. Defaults to `print`.

    Returns:
        A `tf.distribute.Strategy`.

    Raises:
        ValueError: For an unknown kind, a number of replicas that this machine or kind does not have, and a time limit
            that is not positive.
        ClusterError: When the workers are described wrongly or not at all, when a worker is missing after
            `join_timeout`, and when TensorFlow has already set up its devices.

    >>> make_strategy("one").num_replicas_in_sync
    1
    """
    if kind not in KINDS:
        raise ValueError(f"`kind` must be one of {', '.join(map(repr, KINDS))}. Received: kind={kind!r}.")
    if replicas is not None and (kind != "mirrored" or isinstance(replicas, bool) or not isinstance(replicas, int)):
        raise ValueError(
            f"`replicas` must be None, or an int with kind='mirrored'. Received: replicas={replicas!r}, kind={kind!r}."
        )
    if join_timeout not in RANGES["join_timeout"]:
        words = RANGES["join_timeout"].words.replace("number", "number of seconds")
        raise ValueError(f"`join_timeout` must be {words}. Received: join_timeout={join_timeout!r}.")
    if kind == "one":
        return tf.distribute.get_strategy()
    if kind == "mirrored":
        return tf.distribute.MirroredStrategy(_local_devices(replicas))
    return _join_workers(join_timeout, tell)


def _local_devices(replicas):
    """The devices of the replicas on this machine."""
    gpus = len(tf.config.list_physical_devices("GPU"))
    if not gpus and replicas is None:
        raise ValueError(
            "`replicas` must be given on a machine without GPUs, where it splits the CPU. Received: replicas=None."
        )
    most = gpus or RANGES["replicas"].most
    if replicas is not None and not 1 <= replicas <= most:
        limits = f"from 1 to {most}" + (", the number of GPUs" if gpus else "")
        raise ValueError(f"`replicas` must be {limits}. Received: replicas={replicas}.")
    if gpus:
        return [f"GPU:{i}" for i in range(replicas or gpus)]
    _split_the_cpu(replicas)
    return [f"CPU:{i}" for i in range(replicas)]


def _split_the_cpu(devices):
    """Gives TensorFlow that many logical CPU devices, unless it has already set up as many."""
    try:
        _set_logical_cpus(devices)
    except RuntimeError:
        there = len(tf.config.list_logical_devices("CPU"))
        if there < devices:
            raise ClusterError(
                f"TensorFlow has already set up its logical CPU devices, fewer than the {devices} replicas: {there}. "
                "Call make_strategy before anything else of TensorFlow."
            ) from None


def _set_logical_cpus(devices):
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * devices
    )


def _join_workers(join_timeout, tell):
    """Meets the other workers, and joins them."""
    if "TF_CONFIG" in os.environ or "SLURM_JOB_ID" not in os.environ:
        members, own = read_tf_config(os.environ.get("TF_CONFIG", ""))
        resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    else:
        resolver = _slurm_resolver()
        members, own = _members(resolver.cluster_spec().as_dict()), resolver.task_id
    try:
        _set_logical_cpus(1)
    except RuntimeError:  # TensorFlow would refuse to join, and the other workers would wait for this one without end
        raise ClusterError(
            "TensorFlow has already set up its devices. Call make_strategy before anything else of TensorFlow."
        ) from None
    meet(members, own, join_timeout, tell)
    return tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=resolver)


def read_tf_config(text: str) -> tuple[list[Member], int]:
    """Returns the members of the cluster that `TF_CONFIG` describes, and the index of this process among them.

    Args:
        text: The value of `TF_CONFIG`.

    Raises:
        ClusterError: When the text does not describe a cluster of workers; the message shows one that does.

    >>> members, own = read_tf_config(
    ...     '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1}}'
    ... )
    >>> str(members[own])
    'worker 1 at b:1'
    """
    if not text.strip():
        raise ClusterError(f"Several workers need the environment variable TF_CONFIG. Set it, such as {EXAMPLE}.")
    try:
        config = json.loads(text)
    except ValueError as error:
        raise _tf_config_error(f"is not JSON ({error})", text) from None
    cluster, task = (config.get(key) if isinstance(config, dict) else None for key in ("cluster", "task"))
    if not isinstance(cluster, dict) or not isinstance(task, dict):
        raise _tf_config_error("must be an object with the keys cluster and task", text)
    if not cluster or not set(cluster) <= set(JOBS):
        raise _tf_config_error(f"has the jobs {sorted(cluster)}, of {' and '.join(JOBS)}", text)
    addresses = [address for job in cluster for address in _as_list(cluster[job])]
    for address in addresses:
        if not _is_address(address):
            raise _tf_config_error(f'lists {address!r} as an address, not "host:port"', text)
    if len(set(addresses)) < len(addresses):
        raise _tf_config_error("lists an address twice", text)
    job, index = task.get("type"), task.get("index")
    if job not in cluster or not str(index).isdecimal() or int(index) >= len(_as_list(cluster[job])):
        raise _tf_config_error(f"has task type {job!r} and index {index!r}, which is no place in its cluster", text)
    return _members(cluster), sum(len(_as_list(cluster.get(each, []))) for each in JOBS[: JOBS.index(job)]) + int(index)


def _tf_config_error(problem, text):
    return ClusterError(f"TF_CONFIG {problem}. Received: {text[:300]!r}. Set it, such as {EXAMPLE}.")


def _as_list(addresses):
    return addresses if isinstance(addresses, list) else [addresses]


def _is_address(address):
    host, _, port = address.rpartition(":") if isinstance(address, str) else ("", "", "")
    return bool(host) and port.isdecimal() and 0 < int(port) < 65536


def _members(cluster):
    """The processes of a cluster by rank."""
    return [
        Member(f"{job} {index}", address)
        for job in JOBS
        for index, address in enumerate(_as_list(cluster.get(job, [])))
    ]


def _slurm_resolver():
    """The workers of a Slurm job step. Slurm gives each task its GPUs: TensorFlow's resolver fails without any."""
    try:
        slurm = tf.distribute.cluster_resolver.SlurmClusterResolver(
            # Two jobs that share a machine get different ports, below those that systems lend to clients.
            port_base=12000 + int(os.environ["SLURM_JOB_ID"]) % 20000,
            gpus_per_node=int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")),
            gpus_per_task=1,
            auto_set_gpu=False,
        )
        spec = slurm.cluster_spec()
    except (ValueError, RuntimeError) as error:
        raise ClusterError(
            f"Slurm's variables do not describe the workers: {error} Start the workers with srun, or set {EXAMPLE}."
        ) from error
    own, node = spec.task_address("worker", slurm.task_id), os.environ.get("SLURMD_NODENAME")
    if node and own.rpartition(":")[0] != node:
        # TensorFlow's resolver sorts the nodes by name and expects Slurm's ranks in that order.
        raise ClusterError(
            f"Slurm started task {slurm.task_id} on {node!r}, and TensorFlow expects it at {own!r}. Start the tasks "
            f"with --distribution=block on nodes whose names have numbers of one length, or set {EXAMPLE}."
        )
    return tf.distribute.cluster_resolver.SimpleClusterResolver(
        spec,
        task_type="worker",
        task_id=slurm.task_id,
        rpc_layer="grpc",
        num_accelerators={"GPU": len(tf.config.list_physical_devices("GPU"))},
    )
