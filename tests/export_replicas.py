"""Run by `test_export.py`: a synchronized model takes a step on two replicas and is exported from there.

With `TF_CONFIG` under MultiWorkerMirroredStrategy, once for each worker, else on two devices of one process. The
argument is a folder for the export and for what the model says, which are made by the chief.
"""

import json
import os
import pathlib
import sys

import keras
import numpy as np
import tensorflow as tf

from bn_keras import SyncBatchNorm
from bn_keras.export import export
from tests.distribution.collectives import collectives
from tests.distribution.uneven_batch import mirrored


def trained(strategy):
    """A model after a step, and how many collective ops the step had."""
    keras.utils.set_random_seed(0)
    with strategy.scope():
        layers = [keras.layers.Conv2D(4, 3), SyncBatchNorm(), keras.layers.ReLU(), keras.layers.Flatten()]
        model = keras.Sequential([keras.Input((6, 6, 3), name="images"), *layers, keras.layers.Dense(2)])
        optimizer = keras.optimizers.SGD(0.1)
        optimizer.build(model.trainable_variables)

    def step(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(model(x, training=True)))
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)

    run = tf.function(lambda x: strategy.run(step, [x]))
    x = tf.constant(np.random.default_rng(0).normal(3, 2, (4, 6, 6, 3)), tf.float32)
    run(x)
    return model, collectives(run.get_concrete_function(x))


def main(folder):
    several = "TF_CONFIG" in os.environ
    strategy = tf.distribute.MultiWorkerMirroredStrategy() if several else mirrored(2)
    model, count = trained(strategy)
    if not several or json.loads(os.environ["TF_CONFIG"])["task"]["index"] == 0:
        export(model, folder / "model", fold=several, check=False, report=None)
        x = np.random.default_rng(1).normal(3, 2, (5, 6, 6, 3)).astype(np.float32)
        np.savez(folder / "said.npz", x=x, y=model(x, training=False), mean=model.layers[1].moving_mean)
    return {"collectives in training": count}


if __name__ == "__main__":
    print("RESULT " + json.dumps(main(pathlib.Path(sys.argv[1]))))
