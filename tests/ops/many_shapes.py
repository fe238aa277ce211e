"""Run by `test_traces.py`: by how many MB the process grows with 800 shapes or momenta, and the traces kept."""

import gc
import json
import pathlib

import tensorflow as tf

from bn_keras import BatchNorm, LayerNorm
from bn_keras.ops import traces

WARM, STEPS = 200, 800


def megabytes():
    gc.collect()
    status = pathlib.Path("/proc/self/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def growth(step):
    """The growth from the first `WARM` steps to the end, and the traces."""
    for i in range(1, WARM):
        step(i)
    before = megabytes()
    for i in range(WARM, STEPS):
        step(i)
    return megabytes() - before, traces.count()


def training_step(layer, x):
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(layer(x, training=True) ** 2)
    return tape.gradient(loss, [x, *layer.trainable_variables])


def everything(layers, x):
    return [(layer(x), training_step(layer, x)) for layer in layers]


def main():
    layers = [BatchNorm(), LayerNorm()]
    for layer in layers:
        layer.build((None, 8))
    in_a_function = tf.function(lambda x: everything(layers, x), reduce_retracing=True)
    scheduled, x = BatchNorm(), tf.ones([4, 8])

    def with_momentum(i):
        scheduled.momentum = 1 - 1 / (i + 1)
        training_step(scheduled, x)

    return {
        "eagerly": growth(lambda i: everything(layers, tf.ones([1 + i, 8]))),
        "in a function of the user": growth(lambda i: in_a_function(tf.ones([1 + i, 8]))),
        "momentum": growth(with_momentum),
    }


if __name__ == "__main__":
    print("RESULT " + json.dumps(main()))
