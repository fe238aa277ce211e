"""What workers do together beside their steps: one of them writes, all agree on what they train, all restart."""

import contextlib
import hashlib
import json
import os
import pathlib
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping

import numpy as np
import tensorflow as tf

from bn_keras.experiments.rendezvous import ClusterError

RESTARTS = "BN_KERAS_RESTARTS"
LOSSES = (
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.UnavailableError,
)
_folders: list[tempfile.TemporaryDirectory] = []


class LostWorkerError(ClusterError):
    """Another worker ended, or cannot be reached, in the middle of a run."""


def rank(strategy: tf.distribute.Strategy) -> int:
    """Returns the index of this worker among all, with the chief first; 0 without other workers.

    >>> rank(tf.distribute.get_strategy())
    0
    """
    resolver = strategy.cluster_resolver
    spec = resolver.cluster_spec().as_dict() if resolver else {}
    if not spec:
        return 0
    return resolver.task_id + (len(spec.get("chief", [])) if resolver.task_type == "worker" else 0)


def workers(strategy: tf.distribute.Strategy) -> int:
    """Returns the number of workers.

    >>> workers(tf.distribute.get_strategy())
    1
    """
    resolver = strategy.cluster_resolver
    spec = resolver.cluster_spec().as_dict() if resolver else {}
    return sum(len(spec.get(job, [])) for job in ("chief", "worker")) or 1


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this worker is the one that writes.

    >>> is_chief(tf.distribute.get_strategy())
    True
    """
    return rank(strategy) == 0


def folder_to_write(strategy: tf.distribute.Strategy, out: str | os.PathLike) -> pathlib.Path:
    """Returns the folder that this worker writes to: all workers run the same code, and one result is kept.

    Args:
        strategy: The strategy of the run.
        out: The folder of the run's results.

    Returns:
        `out` on the chief; on another worker a temporary folder, which goes when the process ends.

    >>> folder_to_write(tf.distribute.get_strategy(), "runs/mnist").as_posix()
    'runs/mnist'
    """
    if is_chief(strategy):
        return pathlib.Path(out)
    _folders.append(tempfile.TemporaryDirectory(prefix="bn_keras-worker-"))
    return pathlib.Path(_folders[-1].name)


def digest(*arrays: np.ndarray) -> str:
    """Returns 16 hexadecimal digits that follow from the dtypes, shapes and values of arrays.

    >>> digest(np.zeros(3)) == digest(np.zeros(3)) != digest(np.zeros((3, 1)))
    True
    """
    sha = hashlib.sha256()
    for array in map(np.ascontiguousarray, arrays):
        sha.update(f"{array.dtype.str}{array.shape}".encode())
        sha.update(array.data.cast("B") if array.size else b"")
    return sha.hexdigest()[:16]


def check_same(strategy: tf.distribute.Strategy, facts: Mapping[str, object]) -> None:
    """Compares facts among all workers, each of which has to call this. Call it before the first step.

    Args:
        strategy: The strategy of the run.
        facts: Values by name that must be the same on all workers, such as the recipe, a `digest` of the data and the
            step of the last checkpoint. JSON has to hold them.

    Raises:
        ClusterError: On every worker, when facts differ; it names each fact, two workers and their values.

    >>> check_same(tf.distribute.get_strategy(), {"steps": 100})
    """
    if workers(strategy) == 1:
        return
    first, *others = _facts_of_all(strategy, dict(facts))
    for index, other in enumerate(others, start=1):
        differences = [
            f"{name} is {first.get(name)!r} with rank 0 and {other.get(name)!r} with rank {index}"
            for name in sorted(first | other)
            if first.get(name) != other.get(name)
        ]
        if differences:
            raise ClusterError(
                f"The workers differ: {'; '.join(differences)}. Start all workers with the same command, the same data "
                "and the same --out on a file system that they share."
            )


def _facts_of_all(strategy, facts):
    """The facts of each worker by rank. TensorFlow has no collective for text, so its bytes travel as numbers."""
    text = np.frombuffer(json.dumps(facts, sort_keys=True).encode(), np.uint8)
    lengths = _row_of_each(strategy, [len(text)])[:, 0].astype(int)
    texts = _row_of_each(strategy, np.pad(text, (0, lengths.max() - len(text))))
    return [json.loads(row[:length].astype(np.uint8).tobytes()) for row, length in zip(texts, lengths, strict=True)]


def _row_of_each(strategy, row):
    """The row of each worker: the sum of matrices that are zero elsewhere."""
    own = np.zeros((workers(strategy), len(row)), np.float32)  # exact for lengths below 2²⁴
    own[rank(strategy)] = row
    local = strategy.num_replicas_in_sync // workers(strategy)
    values = strategy.experimental_distribute_values_from_function(
        lambda context: tf.constant(own if context.replica_id_in_sync_group % local == 0 else np.zeros_like(own))
    )
    return strategy.reduce("sum", values, axis=None).numpy()


@contextlib.contextmanager
def losses_explained(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Turns TensorFlow's errors about a lost worker in the block into a `LostWorkerError`.

    Without other workers, the errors stay as they are.

    Args:
        strategy: The strategy of the run.

    Raises:
        LostWorkerError: When another worker ended or cannot be reached.
    """
    try:
        yield
    except LOSSES as error:
        if workers(strategy) == 1:
            raise
        raise LostWorkerError(
            f"{_named_in(error, strategy)} ended or cannot be reached. No step can be finished without it: start all "
            f"workers again with --resume. TensorFlow said: {_reason(error)}"
        ) from error


def _named_in(error, strategy):
    """The one other worker that TensorFlow names, or any."""
    tasks = set(re.findall(r"/job:(\w+)/replica:\d+/task:(\d+)", error.message))
    resolver = strategy.cluster_resolver
    tasks -= {(resolver.task_type, str(resolver.task_id))}
    if len(tasks) != 1:
        return "Another worker"
    ((job, index),) = tasks
    return f"{job} {index} at {resolver.cluster_spec().task_address(job, int(index))}"


def _reason(error):
    """The line of TensorFlow's message that says why; a stack of calls stands above it."""
    lines = error.message.strip().splitlines() or [""]
    return f"{type(error).__name__}: {next((line for line in lines if 'aborted by' in line), lines[0])[:300]}"


def restart(limit: int) -> None:
    """Starts this process again in place, with the same command and `--resume`; returns when that happened too often.

    TensorFlow cannot repair the collectives of a process that lost another one, so each worker starts anew.

    Args:
        limit: How often a process may restart, ≥ 0. An environment variable counts the restarts.
    """
    count = int(os.environ.get(RESTARTS, "0"))
    if count >= limit:
        return
    while _folders:
        _folders.pop().cleanup()
    os.environ[RESTARTS] = str(count + 1)
    arguments = sys.orig_argv[1:]
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *arguments, *([] if "--resume" in arguments else ["--resume"])])
