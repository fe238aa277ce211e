"""How the branches are compiled, and for which compiler a graph is traced."""

import functools

import tensorflow as tf


def compiled(branch, jit_compile=None):
    """`tf.function`, with a trace of its own for XLA, and without the warning about many traces.

    A trace made for TensorFlow has the ops that TensorFlow is quick at; XLA must not be given the same. One trace
    per shape is meant here. TensorFlow has no public name for keeping still about it. `tests/ops/test_compiler.py`
    fails when the private one moves.

    Args:
        branch: A function of tensors, with settings as keyword arguments.
        jit_compile: `True` to have it compiled by XLA, wherever it is called.
    """
    functions = [tf.function(branch, autograph=False, jit_compile=jit_compile) for _ in range(2)]
    for function in functions:
        function._omit_frequent_tracing_warning = True

    @functools.wraps(branch)
    def call(*args, **kwargs):
        return functions[in_xla_context()](*args, **kwargs)

    call.experimental_get_tracing_count = lambda: sum(each.experimental_get_tracing_count() for each in functions)
    return call


def in_xla_context():
    """Whether the code being traced will be compiled by XLA.

    TensorFlow has no public name for this. `tests/ops/test_compiler.py` fails when the
    private one moves.
    """
    from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext

    if tf.config.optimizer.get_jit():
        return True
    return not tf.executing_eagerly() and GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())


def accelerated():
    """Whether there is another device than processors."""
    return any(tf.config.list_physical_devices(kind) for kind in ("GPU", "TPU"))
