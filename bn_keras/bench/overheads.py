"""What a layer costs beside the work itself: its import, its first call, its share of a graph.

Each figure is taken once in a fresh process, as what it measures happens but once.
"""

import subprocess
import sys
import time

import keras
import tensorflow as tf

from bn_keras.bench.peers import inputs_of
from bn_keras.bench.peers.tensorflow_steps import training_step
from bn_keras.layers import BatchNorm

DEPTH = 50
LAYERS = {"bn_keras": BatchNorm, "keras": keras.layers.BatchNormalization}
IMPORTS = {"bn_keras": ("keras", "bn_keras"), "keras": ("sys", "keras")}


def overhead(library, case):
    """`{"ms": …, "facts": {…}}` of one of `MEASURED`, named by the case's mode."""
    seconds, facts = MEASURED[case.mode](library, case)
    return {"ms": float(f"{1e3 * seconds:.5g}"), "facts": facts}


def import_(library, case):
    """Of the library alone, after what it stands on; Keras brings TensorFlow."""
    first, then = IMPORTS[library]
    code = f"import {first}, time; start = time.perf_counter(); import {then}; print(time.perf_counter() - start)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(run.stdout.split()[-1]), {}


def first_step(library, case):
    """Tracing and running a training step of one layer."""
    arguments = warmed(case)
    return seconds_of(tf.function(training_step(built(library, case))), arguments), {}


def next_step(library, case):
    """The same of another layer of that shape, which shares what has been compiled."""
    arguments = warmed(case)
    first, second = (tf.function(training_step(built(library, case))) for _ in range(2))
    first(*arguments)
    return seconds_of(second, arguments), {}


def deep_step(library, case):
    """The same of a model of many layers, and how large its graph is."""
    arguments = warmed(case)
    model = keras.Sequential([keras.Input(case.shape[1:]), *(LAYERS[library]() for _ in range(DEPTH))])
    step = tf.function(training_step(model))
    seconds = seconds_of(step, arguments)
    return seconds, {"nodes": nodes_of(step.get_concrete_function(*arguments).graph.as_graph_def())}


MEASURED = {
    "import": import_,
    "first step": first_step,
    "first step of a second layer": next_step,
    f"first step of {DEPTH} layers": deep_step,
}


def warmed(case):
    """The input and the gradient of the output, once TensorFlow itself has started."""
    arguments = tuple(tf.constant(each) for each in inputs_of(case))
    tf.function(lambda x, dy: tf.gradients(x * x, x, dy))(*arguments)
    return arguments


def built(library, case):
    layer = LAYERS[library]()
    layer.build(case.shape)
    return layer


def seconds_of(step, arguments):
    started = time.perf_counter()
    step(*arguments)
    return time.perf_counter() - started


def nodes_of(definition):
    """Those of a graph and of the functions in its library."""
    return len(definition.node) + sum(len(function.node_def) for function in definition.library.function)
