"""Run by `test_determinism.py`: whether two runs of a few steps end in weights of equal bits."""

import json

import keras
import numpy as np
import tensorflow as tf

from tests.conformance.cases import MAIN


def trained(case):
    """The weights after four steps on random batches."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input(case.shape[1:]), keras.layers.Dense(case.shape[-1]), case.make()])
    optimizer = keras.optimizers.SGD(0.01)
    for _ in range(4):
        x = tf.random.normal(case.shape, 3, 2)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(model(x, training=True) - x))
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
    return model.get_weights()


if __name__ == "__main__":
    tf.config.experimental.enable_op_determinism()
    runs = {case.name: (trained(case), trained(case)) for case in MAIN}
    print("RESULT " + json.dumps({name: all(map(np.array_equal, *pair)) for name, pair in runs.items()}))
