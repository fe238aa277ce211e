"""Run by `test_cluster.py`: makes one strategy. Arguments: its kind, and the replicas or the time limit in seconds."""

import json
import sys

from bn_keras.experiments.cluster import ClusterError, make_strategy


def main(kind, number):
    if kind == "multiworker":
        make_strategy(kind, join_timeout=float(number))
    result = {"replicas": make_strategy(kind, int(number)).num_replicas_in_sync}
    try:
        make_strategy(kind, int(number) + 1)
    except ClusterError as error:
        result["error of one more"] = str(error)
    return result


if __name__ == "__main__":
    print("RESULT " + json.dumps(main(*sys.argv[1:])))
