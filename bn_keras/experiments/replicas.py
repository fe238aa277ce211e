"""The same run in several places: one device, replicas of one machine, workers in processes of their own."""

import contextlib
import dataclasses
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence

import numpy as np

from bn_keras.lab.results import RESULTS, ResultsError


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a run takes place.

    Args:
        name: In words.
        strategy: The value of `--strategy`.
        processes: The number of worker processes.
        replicas: The replicas of all processes together.
    """

    name: str
    strategy: str
    processes: int
    replicas: int


PLACES = (
    Place("one device", "one", 1, 1),
    Place("2 replicas", "mirrored", 1, 2),
    Place("4 replicas", "mirrored", 1, 4),
    Place("2 workers", "multiworker", 2, 2),
)


def losses_at(place: Place, arguments: Sequence[str], seconds: float = 300.0) -> np.ndarray:
    """Runs `bn-keras train` in a place, and returns the loss of each step.

    Args:
        place: One of `PLACES`.
        arguments: The preset and the options, such as `("mlp_sigmoid", "--steps", "50")`.
        seconds: The time limit.

    Raises:
        ResultsError: When a process fails; the message holds the end of what it printed.
    """
    with tempfile.TemporaryDirectory(prefix="bn_keras-replicas-") as folder:
        command = [sys.executable, "-m", "bn_keras", "train", *arguments, "--evaluate-every", "1", "--out", folder]
        command += ["--evaluation-examples", "1", "--strategy", place.strategy, "--restarts", "0"]
        if place.strategy == "mirrored":
            command += ["--replicas", str(place.replicas)]
        run_together([command] * place.processes, environments_of(place), seconds)
        rows = json.loads((pathlib.Path(folder) / RESULTS).read_text(encoding="utf-8"))["evaluations"]
    return np.array([row["loss"] for row in rows if row["step"]])


def environments_of(place: Place) -> list[dict[str, str]]:
    """The environment of each process; workers find each other by `TF_CONFIG`."""
    plain = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}
    if place.strategy != "multiworker":
        return [plain]
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(place.processes)]
        for each in sockets:
            each.bind(("localhost", 0))
        cluster = {"worker": [f"localhost:{each.getsockname()[1]}" for each in sockets]}
    tasks = [{"type": "worker", "index": index} for index in range(place.processes)]
    return [plain | {"TF_CONFIG": json.dumps({"cluster": cluster, "task": task})} for task in tasks]


def run_together(commands: list[list[str]], environments: list[dict[str, str]], seconds: float) -> None:
    """Runs processes side by side until all end; ends all of them when one fails."""
    processes = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for command, environment in zip(commands, environments, strict=True)
    ]
    try:
        for process in processes:
            printed, _ = process.communicate(timeout=seconds)
            if process.returncode:
                raise ResultsError(f"{' '.join(process.args[1:])} failed:\n{printed[-2000:]}")
    finally:
        for process in processes:
            process.kill()


def largest_difference(losses: np.ndarray, other: np.ndarray) -> float:
    """The largest difference of two curves of losses, relative to the loss."""
    return float(np.max(np.abs(losses - other) / np.abs(other)))
