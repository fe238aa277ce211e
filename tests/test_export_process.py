"""The processes and threads around an export: none that it starts outlives it, and it disturbs no other.

The other tests of exports fork these processes to save time; these tests start them as users do.
"""

import contextlib
import logging
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
import warnings

import keras
import psutil
import pytest
import tensorflow as tf

from bn_keras import BatchNorm
from bn_keras.export import ExportError, checking, export, process
from tests.test_export_inputs import EVERY_FORMAT, place

ROOT = pathlib.Path(__file__).parents[1]


def small(*layers):
    return keras.Sequential([keras.Input((4,), name="x"), keras.layers.Dense(3), BatchNorm(), *layers])


class Chatter(threading.Thread):
    """Logs, warns and prints until it is stopped."""

    def __init__(self):
        super().__init__(daemon=True)
        self.stopped, self.count = threading.Event(), 0

    def run(self):
        while not self.stopped.wait(0.002):
            for name in (None, "tensorflow", "absl", "tf2onnx", "somebody"):
                logging.getLogger(name).error("chatter %d", self.count)
            warnings.warn(f"chatter {self.count}", UserWarning, stacklevel=1)
            print("chatter", self.count)
            self.count += 1

    @contextlib.contextmanager
    def running(self):
        self.start()
        try:
            yield
        finally:
            self.stopped.set()
            self.join()


@pytest.mark.slow
@pytest.mark.sample(1)
@EVERY_FORMAT
def test_other_threads_are_heard_during_an_export(format, tmp_path, caplog, capsys):
    chatter = Chatter()
    with warnings.catch_warnings(record=True) as warned, chatter.running():
        warnings.simplefilter("always")
        export(small(), place(tmp_path, format), format=format, check=False, report=None)
    said = capsys.readouterr().out.splitlines()
    assert chatter.count > 10
    assert said == [f"chatter {i}" for i in range(chatter.count)], "all of it, and nothing that the libraries print"
    assert [str(each.message) for each in warned if "chatter" in str(each.message)] == said
    logged = [record.getMessage() for record in caplog.records if "chatter" in record.getMessage()]
    assert sorted(logged) == sorted(5 * said)
    assert len(caplog.records) == len(logged), "and nothing that the libraries log"


@pytest.mark.slow
@EVERY_FORMAT
def test_a_new_process_finds_the_outputs_of_the_model(format, tmp_path):
    assert export(small(), place(tmp_path, format), format=format, report=None).largest_difference < 1e-5


HANGING = """
import pathlib, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
pathlib.Path({folder!r}, "pids").write_text(f"{{child.pid}} {{__import__('os').getpid()}}")
print("hello")
time.sleep(600)
"""


@pytest.fixture
def hanging(tmp_path):
    """A script that starts a process and never ends."""
    script = tmp_path / "hanging.py"
    script.write_text(HANGING.format(folder=str(tmp_path)))
    return script


def alive(folder):
    """Those of the two processes that run."""
    pids = [int(pid) for pid in (folder / "pids").read_text().split()]
    assert len(pids) == 2
    return [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE]


@pytest.mark.slow
def test_a_check_ends_in_time(hanging, tmp_path, monkeypatch):
    monkeypatch.setattr(checking, "SERVED", hanging)
    started = time.monotonic()
    with pytest.raises(ExportError, match=r"The check did not end within 3 s.*Pass a larger `timeout`.*check=False"):
        export(small(), tmp_path / "exported", timeout=3, report=None)
    assert time.monotonic() - started < 20
    assert not (tmp_path / "exported").exists()
    assert not alive(tmp_path)


class Slow(keras.layers.Layer):
    """A layer that takes its time where it is called, and not in a graph."""

    def call(self, x):
        if tf.executing_eagerly():
            time.sleep(30)
        return x


@pytest.mark.slow
def test_a_model_that_does_not_answer_ends_in_time(tmp_path):
    started = time.monotonic()
    with pytest.raises(ExportError, match="did not end within 0.5 s: the model itself has not answered"):
        export(small(Slow()), tmp_path / "exported", timeout=0.5, report=None)
    assert time.monotonic() - started < 20


INTERRUPTED = """
import pathlib, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has background processes ignore Ctrl-C
from bn_keras.export import checking, export, formats
from tests.test_export_process import small

setattr({"check": checking, "formats": formats}[sys.argv[1]], sys.argv[2], pathlib.Path(sys.argv[3]))
export(small(), sys.argv[4], format=sys.argv[5], report=None)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("where", "name", "format", "suffix"),
    [("check", "SERVED", "saved_model", ""), ("formats", "CONVERT", "tflite", ".tflite")],
    ids=["the check", "the conversion"],
)
def test_ctrl_c_ends_the_processes_of_an_export(where, name, format, suffix, hanging, tmp_path):
    folder = tmp_path / "there"
    folder.mkdir()
    arguments = [where, name, str(hanging), str(folder / f"exported{suffix}"), format]
    settings = {"cwd": ROOT, "env": os.environ | {"PYTHONPATH": str(ROOT)}, "stderr": subprocess.PIPE, "text": True}
    exporting = subprocess.Popen([sys.executable, "-c", INTERRUPTED, *arguments], **settings)
    try:
        end = time.monotonic() + 120
        while not (tmp_path / "pids").exists():
            assert exporting.poll() is None, exporting.communicate()[1]
            assert time.monotonic() < end
            time.sleep(0.1)
        time.sleep(0.3)
        assert len(alive(tmp_path)) == 2
        exporting.send_signal(signal.SIGINT)
        _, errors = exporting.communicate(timeout=60)
    finally:
        exporting.kill()
    assert errors.strip().endswith("KeyboardInterrupt")
    assert not alive(tmp_path)
    assert not list(folder.iterdir())


def test_the_last_line_of_a_script_that_fails(tmp_path):
    (tmp_path / "script.py").write_text("import sys; print('well'); sys.exit('no such op')")
    with pytest.raises(process.ProcessError, match="a new process ended with code 1: no such op"):
        process.run(tmp_path / "script.py")


class Communicating(keras.layers.Layer):
    """A sum over two devices, of which one never comes: it waits for ever."""

    calls = 0

    def call(self, x):
        if tf.executing_eagerly():
            Communicating.calls += 1
            return x
        group = {"group_size": 2, "group_key": 1, "instance_key": 1, "ordering_token": []}
        return tf.raw_ops.CollectiveReduceV2(input=x, merge_op="Add", final_op="Id", **group)


@EVERY_FORMAT
@pytest.mark.parametrize("checked", [False, True], ids=["not checked", "checked"])
def test_a_collective_is_found_before_anything_runs(checked, format, tmp_path, monkeypatch):
    monkeypatch.setattr(process, "run", lambda *arguments, **settings: pytest.fail("a process was started"))
    with pytest.raises(ExportError, match="collective ops in its graph: CollectiveReduceV2"):
        export(small(Communicating()), place(tmp_path, format), format=format, check=checked, report=None)
    assert Communicating.calls == 0
    assert not list(tmp_path.iterdir())
