"""What results say of the machine and the packages."""

import importlib.metadata
import os
import sys

import keras

from bn_keras.lab.machine import cores, first_value, installed, machine, provenance, versions


def test_the_machine():
    found = machine()
    assert list(found) == ["processor", "cores", "memory", "system"]
    assert found["processor"]
    assert found["cores"] == cores() >= 1
    if hasattr(os, "sched_getaffinity"):
        assert cores() == len(os.sched_getaffinity(0))


def test_the_first_value_of_a_name(tmp_path):
    path = tmp_path / "cpuinfo"
    path.write_text("processor : 0\nmodel name\t: An: Abacus\nmodel name : Another\n")
    assert first_value(path, "model name") == "An: Abacus"
    assert first_value(path, "flags") is None
    assert first_value(tmp_path / "missing", "model name") is None


def test_versions_are_of_the_installed_packages(monkeypatch):
    found = versions("click", "no_such_package")
    assert list(found) == ["bn_keras", "tensorflow", "keras", "numpy", "click"]
    assert found["keras"] == keras.__version__
    assert found["click"] == importlib.metadata.version("click")
    monkeypatch.setitem(sys.modules, "click", None)
    assert not installed("click")
    assert "click" not in versions("click")


def test_provenance():
    found = provenance()
    assert list(found) == ["started", "machine", "versions"]
    assert found["versions"]["python"].startswith(f"{sys.version_info.major}.{sys.version_info.minor}")
    assert found["started"].endswith("+00:00")
