"""Batch norm on several replicas, synchronized or not: logical processors that share the machine's cores."""

import functools

import keras
import tensorflow as tf

from bn_keras.bench.peers import EPSILON, MOMENTUM, inputs_of
from bn_keras.bench.peers.tensorflow_steps import training_step
from bn_keras.layers import BatchNorm

LAYERS = {"bn_keras": BatchNorm, "keras": keras.layers.BatchNormalization}
MOST = 4


@functools.cache
def devices():
    """To be called before TensorFlow has done anything."""
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * MOST
    )
    return [f"CPU:{i}" for i in range(MOST)]


def prepare(case, library, synchronized):
    strategy = tf.distribute.MirroredStrategy(devices()[: case.replicas])
    with strategy.scope():
        layer = LAYERS[library](momentum=MOMENTUM, epsilon=EPSILON, synchronized=synchronized)
        layer.build(case.shape)
    arguments = [
        strategy.experimental_distribute_values_from_function(lambda context, value=value: tf.constant(value))
        for value in inputs_of(case)
    ]
    step = tf.function(lambda x, dy: strategy.run(training_step(layer), (x, dy)))

    def call():
        return step(*arguments)

    call.facts = {"collectives per replica": collectives(step.get_concrete_function(*arguments)) // case.replicas}
    return call


def collectives(function):
    definition = function.graph.as_graph_def()
    nodes = [*definition.node, *(node for each in definition.library.function for node in each.node_def)]
    return sum("Collective" in node.op for node in nodes)
