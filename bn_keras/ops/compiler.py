"""How the branches are compiled, and for which compiler a graph is traced."""

import tensorflow as tf


def compiled(branch):
    """`tf.function`, without its warning about many traces: one per shape is meant here.

    TensorFlow has no public name for that. `tests/ops/test_compiler.py` fails when the
    private one moves.
    """
    function = tf.function(branch, autograph=False)
    function._omit_frequent_tracing_warning = True
    return function


def in_xla_context():
    """Whether the code being traced will be compiled by XLA.

    TensorFlow has no public name for this. `tests/ops/test_compiler.py` fails when the
    private one moves.
    """
    from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext

    if tf.config.optimizer.get_jit():
        return True
    return not tf.executing_eagerly() and GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())
