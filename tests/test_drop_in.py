"""Keras' own tests of its normalization layers, run on ours."""

import collections
import os
import pathlib
import re
import sys

import keras
import pytest

from tests.processes import run_process

FOLDER = pathlib.Path(keras.__file__).parent / "src" / "layers" / "normalization"
ROOT = pathlib.Path(__file__).parents[1]
# It asks for a message that has it the wrong way round: that the groups "must be a multiple of the number of
# channels".
LEFT_OUT = "not groups_not_a_multiple"
AT_LEAST = {"batch_normalization": 15, "layer_normalization": 6, "group_normalization": 6, "rms_normalization": 3}


@pytest.fixture(scope="module")
def passed(tmp_path_factory):
    """The number of tests that pass in each class, and what pytest prints; one process runs all files."""
    paths = [path for name in AT_LEAST if (path := FOLDER / f"{name}_test.py").exists()]
    folder = tmp_path_factory.mktemp("keras")
    options = ["-v", "-p", "tests.drop_in", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", folder]
    done = run_process([sys.executable, "-m", "pytest", *options, "-k", LEFT_OUT, *paths], cwd=ROOT, new=True)
    classes = re.findall(r"::(\w+)Test::\S+ PASSED", done.stdout)
    return collections.Counter(map(str.lower, classes)), done


@pytest.mark.slow
@pytest.mark.parametrize("name", AT_LEAST)
def test_the_tests_of_keras_pass(name, passed):
    if not (FOLDER / f"{name}_test.py").exists():
        pytest.skip(f"this Keras ships no {name}_test.py")
    counts, done = passed
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-1000:]
    assert counts[name.replace("_", "")] >= AT_LEAST[name]
