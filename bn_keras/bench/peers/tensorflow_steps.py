"""A call of a layer on TensorFlow, for every peer that runs on it.

On the CPU TensorFlow returns from a call when its outputs are there; nothing has to be fetched.
"""

import inspect

import tensorflow as tf

from bn_keras.bench.peers import inputs_of


def call_of(layer, case, variables=None):
    """One call of a layer in the case's mode.

    Args:
        layer: Called as `layer(x, training=…)`.
        case: The `Case`.
        variables: Whose gradients are taken; by default those of `layer.trainable_variables`.
    """
    dtype = tf.bfloat16 if case.dtype == "mixed_bfloat16" else tf.float32
    x, dy = (tf.constant(each, dtype) for each in inputs_of(case))
    if case.mode in {"training", "gradients"}:
        output = tf.identity if case.mode == "training" else tf.reduce_sum
        step, arguments = training_step(layer, variables, output), (x, dy)
    else:
        training = case.mode == "forward"
        step, arguments = (lambda x: layer(x, training=training)), (x,)
    step = compiled(step, case.how)
    return lambda: step(*arguments)


def training_step(layer, variables=None, output=tf.identity):
    def step(x, dy):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True)
        return output(y), *tape.gradient(y, [x, *(layer.trainable_variables if variables is None else variables)], dy)

    return step


def compiled(step, how):
    return step if how == "eager" else tf.function(step, jit_compile=how == "xla", autograph=False)


def layer_call(kinds, case):
    """One call of a Keras layer of either Keras, by a table from the case's layer to a function that makes it."""
    layer = kinds[case.layer](case)
    layer.build(case.shape)
    takes_training = "training" in inspect.signature(layer.call).parameters
    called = layer if takes_training else lambda x, training: layer(x)
    return call_of(called, case, layer.trainable_variables)
