"""What the two distributions hold, and what they say of the package."""

import configparser
import os
import pathlib
import shutil
import sys
import tarfile
import zipfile

import pytest
import yaml

import bn_keras
from tests.processes import run_process

ROOT = pathlib.Path(__file__).parents[1]
PARTS = ("benchmarks", "bn_keras", "docs", "models", "notebooks", "tests")  # the folders of the repository
GENERATED = shutil.ignore_patterns("__pycache__", "*.pyc", "*.partial", "*.claim", ".ipynb_checkpoints", ".hypothesis")
SOURCE_THEN_WHEEL = """
import os, pathlib, sys, tarfile
from setuptools import build_meta
out, unpacked = sys.argv[1:]
name = build_meta.build_sdist(out)
with tarfile.open(pathlib.Path(out, name)) as archive:
    archive.extractall(unpacked, filter="data")
os.chdir(pathlib.Path(unpacked, name.removesuffix(".tar.gz")))
build_meta.build_wheel(out)
"""


@pytest.fixture(scope="module")
def distributions(tmp_path_factory):
    """The files in the source distribution, and in the wheel that is built from it, as `python -m build` does."""
    folder = tmp_path_factory.mktemp("build")
    copy, out, unpacked = folder / "copy", folder / "out", folder / "unpacked"
    copy.mkdir()
    for part in PARTS:
        shutil.copytree(ROOT / part, copy / part, ignore=GENERATED)
    for path in ROOT.iterdir():
        if path.is_file() and not path.name.startswith("."):
            shutil.copy(path, copy)
    command = [sys.executable, "-W", "error", "-c", SOURCE_THEN_WHEEL, out, unpacked]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = run_process(command, cwd=copy, env=environment, new=True)
    assert done.returncode == 0, done.stderr[-3000:]
    (source,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    root = source.name.removesuffix(".tar.gz")
    with tarfile.open(source) as archive:
        in_source = {pathlib.PurePath(each.name).relative_to(root).as_posix() for each in archive if each.isfile()}
    with zipfile.ZipFile(wheel) as archive:
        return files_of(copy), in_source, set(archive.namelist())


def files_of(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_the_source_distribution_holds_the_whole_repository(distributions):
    repository, source, _ = distributions
    repository = {name for name in repository if "egg-info" not in name and name not in {"MANIFEST.in"}}
    assert repository <= source
    for name in ("tests/conftest.py", "tests/test_packaging.py", "docs/fine-tuning.md", "benchmarks/results.json"):
        assert name in source


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_nothing_else(distributions):
    repository, _, wheel = distributions
    package = {name for name in repository if name.startswith("bn_keras/")}
    assert package <= wheel
    assert {name for name in wheel - package if ".dist-info/" not in name} == set()
    suffixes = {pathlib.PurePath(name).suffix for name in wheel if name.startswith("bn_keras/")}
    assert {".py", ".j2", ".h5", ".json", ".typed"} <= suffixes


def test_the_results_of_claims_go_into_the_wheel():
    """They may be absent from a clone, so this reads the setup."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert setup["options.package_data"]["bn_keras.experiments.claims"].split() == ["results/*.json"]


def test_the_citation_is_complete():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    # Those that the schema of the Citation File Format 1.2.0 requires, and what the package says too.
    assert citation["cff-version"] == "1.2.0"
    assert citation["message"]
    assert citation["title"].startswith("bn_keras")
    assert citation["authors"] == [{"name": "The bn_keras developers"}]
    assert citation["version"] == bn_keras.__version__
    assert citation["license"] == setup["metadata"]["license"]
    assert citation["type"] == "software"
