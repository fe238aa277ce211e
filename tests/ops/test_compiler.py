"""The two private names of TensorFlow that the branches stand on are where they were."""

import logging

import tensorflow as tf

from bn_keras.ops.compiler import in_xla_context, quiet_function


def traced_in_xla(**settings):
    seen = []

    @tf.function(**settings)
    def outer(x):
        @tf.function
        def inner(x):
            seen.append(in_xla_context())
            return x

        return inner(x)

    outer(tf.ones(1))
    return seen


def test_xla_is_noticed_from_inside_a_nested_function():
    assert traced_in_xla(jit_compile=True) == [True]
    assert traced_in_xla(jit_compile=False) == [False]
    assert not in_xla_context()


def test_auto_clustering_is_noticed():
    tf.config.optimizer.set_jit("autoclustering")
    try:
        assert in_xla_context()
    finally:
        tf.config.optimizer.set_jit(False)


def warnings_about_tracing(function, caplog):
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="tensorflow"):
        for size in range(1, 9):
            function(tf.ones(size))
    return [record for record in caplog.records if "retracing" in record.getMessage()]


def test_many_shapes_give_no_warning(caplog):
    logger = tf.get_logger()
    logger.addHandler(caplog.handler)
    try:
        assert warnings_about_tracing(tf.function(lambda x: x + 1), caplog), "a plain tf.function was meant to warn"
        assert not warnings_about_tracing(quiet_function(lambda x: x + 1), caplog)
    finally:
        logger.removeHandler(caplog.handler)
