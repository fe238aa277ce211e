"""What the tests of several workers share: ports, and the environments that describe workers."""

import json
import os
import socket


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def environments(count):
    """The environment of each worker of a new cluster on this machine, with TF_CONFIG."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(count)]
    for index in range(count):
        config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        yield os.environ | {"TF_CONFIG": json.dumps(config)}


def slurm_environments(count):
    """The environment of each task of a Slurm job step on this machine."""
    job = {
        "SLURM_JOB_ID": str(os.getpid()),  # ports follow from it
        "SLURM_STEP_NUM_TASKS": str(count),
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_STEP_TASKS_PER_NODE": str(count),
        "SLURMD_NODENAME": "localhost",
    }
    inherited = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}
    for index in range(count):
        yield inherited | job | {"SLURM_PROCID": str(index)}
