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


def two_environments():
    """The environments of the two workers of a new cluster on this machine: by Slurm's variables, and by TF_CONFIG."""
    variables = {name: value for name, value in os.environ.items() if name not in {"TF_CONFIG", "BN_KERAS_RESTARTS"}}
    job = os.getpid()
    first = 12000 + job % 20000  # the ports follow from the number of the job
    config = {
        "cluster": {"worker": [f"localhost:{first}", f"localhost:{first + 1}"]},
        "task": {"type": "worker", "index": 1},
    }
    task = {
        "SLURM_JOB_ID": str(job),
        "SLURM_PROCID": "0",
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_STEP_TASKS_PER_NODE": "2",
        "SLURMD_NODENAME": "localhost",
    }
    return variables | task, variables | {"TF_CONFIG": json.dumps(config)}
