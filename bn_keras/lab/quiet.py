"""Imports TensorFlow without what it logs to standard error."""

import contextlib
import importlib
import os
import sys
import tempfile
from collections.abc import Iterator

LEVEL = "TF_CPP_MIN_LOG_LEVEL"
SILENT = "3"


def import_tensorflow(verbose: bool = False) -> None:
    """Imports TensorFlow and Keras quietly, in this process and in the processes that it starts.

    TensorFlow logs some lines before it reads `TF_CPP_MIN_LOG_LEVEL`, so standard error is held back during the import.

    Args:
        verbose: Whether to leave the messages. A `TF_CPP_MIN_LOG_LEVEL` below 3 in the environment leaves them too.
    """
    if verbose:
        return
    if os.environ.setdefault(LEVEL, SILENT) != SILENT:
        return
    with standard_error_held_back():
        tensorflow = importlib.import_module("tensorflow")
        importlib.import_module("keras")
    tensorflow.get_logger().setLevel("ERROR")


@contextlib.contextmanager
def standard_error_held_back() -> Iterator[None]:
    """Holds back what the block writes to standard error, in Python and in C++; after an exception it is printed."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        original = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            sys.stderr.flush()
            held.seek(0)
            os.write(original, held.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(original, 2)
            os.close(original)
