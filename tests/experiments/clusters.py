"""The environments that describe the workers of a cluster."""

import json
import os


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
