"""The start of a process that measures beside others."""

import signal

from bn_keras.lab.quiet import import_tensorflow


def start_worker() -> None:
    """One thread, so that processes do not take each other's cores; Ctrl-C is for the parent.

    This module is light, so that TensorFlow is imported here, as quietly as in the parent, and not before.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import_tensorflow()
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
