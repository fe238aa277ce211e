"""Run by `test_cluster.py`: waits in vain for another worker, then splits the CPU, then tries to split it again."""

import json

from bn_keras.experiments.cluster import ClusterError, make_strategy


def error_of(*arguments, **settings):
    try:
        make_strategy(*arguments, **settings)
    except ClusterError as error:
        return str(error)


def main():
    said = []
    return {
        "missing": error_of("multiworker", join_timeout=0.5, tell=said.append),
        "said": said,
        "replicas": make_strategy("mirrored", 2).num_replicas_in_sync,
        "again": make_strategy("mirrored", 2).num_replicas_in_sync,
        "one more": error_of("mirrored", 3),
    }


if __name__ == "__main__":
    print("RESULT " + json.dumps(main()))
