"""Run by `test_golden.py`: every golden file of one kind, loaded in a process that has imported no more than it must.

    python load.py keras FILES
    python load.py saved_model FILES UNPACKED

`keras` imports bn_keras and loads each `model.keras`. `saved_model` refuses bn_keras, imports TensorFlow and calls
the signature of each SavedModel. The script prints the largest difference from the expected output of each case.
"""

import json
import pathlib
import sys

import numpy as np


def keras_models():
    import keras

    import bn_keras  # noqa: F401 - registers the layers

    def load(case):
        model = keras.saving.load_model(case / "model.keras")
        return lambda x: keras.ops.convert_to_numpy(keras.ops.cast(model(x), "float32"))

    return load


class Refusal:
    """An import hook under which bn_keras is not installed."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "bn_keras":
            raise ModuleNotFoundError(f"{name} is refused here")


def saved_models(unpacked):
    sys.meta_path.insert(0, Refusal())
    import tensorflow as tf

    def load(case):
        signature = tf.saved_model.load(str(pathlib.Path(unpacked) / case.name)).signatures["serving_default"]

        def call(x):
            (y,) = signature(tf.constant(x)).values()
            return tf.cast(y, tf.float32).numpy()

        return call

    return load


def main(kind, files, *unpacked):
    load = keras_models() if kind == "keras" else saved_models(*unpacked)
    differences = {}
    for case in sorted(pathlib.Path(files).iterdir()):
        expected = np.load(case / "expected.npz")
        differences[case.name] = float(np.abs(load(case)(expected["x"]) - expected["output"]).max())
    assert ("bn_keras" in sys.modules) == (kind == "keras")
    print("RESULT", json.dumps(differences))


if __name__ == "__main__":
    main(*sys.argv[1:])
