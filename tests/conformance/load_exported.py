"""Run by `test_export.py` in a process that cannot import bn_keras: what the exported models in a folder say."""

import importlib
import json
import pathlib
import sys


class Blocker:
    """Refuses what must not be needed, even where it is installed."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "bn_keras":
            raise ModuleNotFoundError(f"{name} is blocked")


def can_import(name):
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        return False
    return True


def operations(function):
    """The names of all ops in a graph and in the functions it calls."""
    definition = function.graph.as_graph_def()
    nodes = [*definition.node, *(node for each in definition.library.function for node in each.node_def)]
    return {node.op for node in nodes}


def answer(folder):
    """What the model in a folder says of the inputs beside it, and the collective ops in it."""
    import numpy as np
    import tensorflow as tf

    loaded, inputs = tf.saved_model.load(folder), np.load(folder / "inputs.npz")
    outputs = loaded.signatures["serving_default"](**{name: tf.constant(inputs[name]) for name in inputs.files})
    np.savez(folder / "outputs.npz", **outputs)
    return sorted(op for op in operations(loaded.signatures["serving_default"]) if "Collective" in op)


if __name__ == "__main__":
    sys.meta_path.insert(0, Blocker())
    folders = map(pathlib.Path, sys.argv[1:])
    result = {"collectives": {folder.name: answer(folder) for folder in folders}, "blocked": not can_import("bn_keras")}
    print("RESULT " + json.dumps(result))
