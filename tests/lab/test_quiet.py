"""TensorFlow is imported quietly, and errors are not lost."""

import os

import pytest
import tensorflow as tf

from bn_keras.lab import quiet


@pytest.fixture(autouse=True)
def logger_as_before():
    level = tf.get_logger().level
    yield
    tf.get_logger().setLevel(level)


def test_standard_error_is_held_back_below_python_too(capfd):
    with quiet.standard_error_held_back():
        os.write(2, b"from C++\n")
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"


def failing_import():
    with quiet.standard_error_held_back():
        os.write(2, b"a library is missing\n")
        raise ImportError("planted")


def test_what_was_held_back_is_printed_when_the_import_fails(capfd):
    with pytest.raises(ImportError):
        failing_import()
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "a library is missing\nafter\n"


@pytest.mark.parametrize(
    ("before", "verbose", "after"),
    [(None, False, "3"), (None, True, None), ("3", False, "3"), ("1", False, "1"), ("0", True, "0")],
)
def test_the_level_that_the_user_sets_stays(before, verbose, after, monkeypatch):
    monkeypatch.delenv(quiet.LEVEL, raising=False)
    if before is not None:
        monkeypatch.setenv(quiet.LEVEL, before)
    quiet.import_tensorflow(verbose)
    assert os.environ.get(quiet.LEVEL) == after
    monkeypatch.delenv(quiet.LEVEL, raising=False)


@pytest.mark.parametrize("level", [None, "3"])
def test_the_import_of_tensorflow_is_held_back(level, monkeypatch, capfd):
    monkeypatch.delenv(quiet.LEVEL, raising=False)
    if level is not None:
        monkeypatch.setenv(quiet.LEVEL, level)
    original = quiet.importlib.import_module
    imported = []

    def noisy(name):
        os.write(2, b"a line of TensorFlow\n")
        imported.append(name)
        return original(name)

    monkeypatch.setattr(quiet.importlib, "import_module", noisy)
    quiet.import_tensorflow()
    assert imported == ["tensorflow", "keras"]
    assert capfd.readouterr().err == ""
    monkeypatch.delenv(quiet.LEVEL, raising=False)
