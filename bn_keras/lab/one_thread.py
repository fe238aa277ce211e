"""The start of a process that measures beside others."""

import multiprocessing
import os
import signal
import threading

from bn_keras.lab.quiet import import_tensorflow


def start_worker() -> None:
    """One thread, so that processes do not take each other's cores; Ctrl-C is for the parent.

    This module is light, so that TensorFlow is imported here, as quietly as in the parent, and not before.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=end_with_parent, daemon=True).start()
    import_tensorflow()
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)


def end_with_parent() -> None:
    """Ends this process when its parent is gone: a worker of a pool would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
