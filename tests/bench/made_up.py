"""Small results, made up so that every figure of the tables can be worked out by head."""

from bn_keras.bench.cases import GROUPS

BANDWIDTH = {"before": {"copy": 9e9, "read": 1e10}, "after": {"copy": 11e9, "read": 1e10}}


def entry(group, index, ms, **omissions):
    """The case of a group, with times by peer and reasons by peer."""
    peers = {name: {"ms": each, "calls": 3, "facts": {}} for name, each in ms.items()}
    peers |= {name: {"left_out": why} for name, why in omissions.items()}
    return GROUPS[group].cases[index].to_dict() | {"bandwidth": BANDWIDTH, "peers": peers}


def made_up():
    return {
        "rounds": 3,
        "quick": False,
        "started": "2020-01-01T00:00:00+00:00",
        "machine": {"processor": "Abacus", "cores": 2, "memory": None, "system": "Wood"},
        "versions": {"bn_keras": "1", "tensorflow": "2", "keras": "3"},
        "cases": [
            entry("layer", 3, {"bn_keras": [1.0, 1.0, 1.0], "keras": [2.0, 2.0, 2.0]}),
            entry("layer", 0, {"bn_keras": [4.0, 5.0, 6.0], "keras": [12.0, 10.0, 6.0]}, jax="no such layer"),
            entry("batch-float32", 4, {"bn_keras": [10.0, 12.0, 11.0], "keras": [30.0, 24.0, 11.0]}),
            entry("batch-float32", 0, {"bn_keras": [8.0, 8.0, 8.0], "torch": [20.0, 16.0, 24.0]}, keras="failed"),
        ],
    }
