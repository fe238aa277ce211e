"""Where an op runs and what compiles it. The private names of TensorFlow that the package needs are here."""

import collections.abc

import tensorflow as tf

ACCELERATORS = ("GPU", "TPU")


def in_xla_context() -> bool:
    """Whether XLA compiles the code that is being traced.

    TensorFlow has no public name for this. `tests/ops/test_compiler.py` fails when the private one moves.
    """
    from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext

    if tf.config.optimizer.get_jit():
        return True
    return not tf.executing_eagerly() and GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())


def accelerated() -> bool:
    """Whether the ops that are called here run on a GPU or TPU: the one rule that every choice goes by.

    They do where the process sees such a device (`tf.config.set_visible_devices` hides devices) and TensorFlow would
    put an op on it: a device scope decides, inside a graph or around the function that is traced, and without one
    TensorFlow prefers the accelerator. An accelerator that a scope asks for and that is not there does not count, as
    soft placement then runs the ops on a CPU.
    """
    if not any(tf.config.list_logical_devices(kind) for kind in ACCELERATORS):
        return False
    device = "" if tf.executing_eagerly() else tf.fill([], 0.0).device
    return tf.DeviceSpec.from_string(device or eager_device()).device_type != "CPU"


def eager_device() -> str:
    """Where TensorFlow puts an op that is called eagerly, outside of the graph that is being traced."""
    with tf.init_scope():
        return tf.fill([], 0.0).device


def quiet_function(
    branch: collections.abc.Callable[..., list[tf.Tensor]],
    signature: list[tf.TensorSpec] | None = None,
    jit_compile: bool | None = None,
) -> tf.types.experimental.PolymorphicFunction:
    """`tf.function` without TensorFlow's warning about frequent retracing.

    `bn_keras.ops.traces` makes a function for each shape on purpose, and TensorFlow counts them as one that is traced
    again and again. It has no public name for the switch. `tests/ops/test_compiler.py` fails when the private one
    moves.
    """
    function = tf.function(branch, input_signature=signature, autograph=False, jit_compile=jit_compile)
    function._omit_frequent_tracing_warning = True
    return function
