"""A comparison that trains for seconds, and a process that takes part in one."""

import json
import sys

from bn_keras.experiments import default_recipe
from bn_keras.experiments.comparison import compare, step_cost
from bn_keras.lab.watcher import Watcher

TINY = default_recipe(
    "mlp_sigmoid", steps=40, evaluate_every=10, width=0.2, learning_rates=(0.1, 1.0), trials=2, seeds=2, extensions=0
)


class Recording(Watcher):
    """Writes down what it is told."""

    def __init__(self):
        self.began, self.items, self.ends = [], [], []

    def begin(self, unit, total, done=0, notes=()):
        self.began.append((unit, total, done))

    def item_begins(self, name):
        self.items.append(name)

    def item_ends(self, note):
        self.ends.append(note)


def entries(folder):
    """The stored runs of a folder, by their names, without what differs from machine to machine."""
    found = {}
    for path in sorted((folder / compare.RUNS).glob("*.json")):
        found[path.stem] = json.loads(path.read_text())
        assert found[path.stem].pop("seconds") > 0
    return found


def take_part(folder):
    """Takes part in the comparison of a folder, and prints what it made: runs, and the costs."""
    step_cost.TURN_SECONDS, compare.WAIT_SECONDS = 0.01, 0.05
    watcher = Recording()
    compare.compare(TINY, folder, resume=True, watcher=watcher)
    print("RESULT", json.dumps(watcher.ends))


if __name__ == "__main__":
    take_part(sys.argv[1])
