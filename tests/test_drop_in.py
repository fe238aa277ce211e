"""Keras' own tests of its normalization layers, run on ours."""

import os
import pathlib
import re
import subprocess
import sys

import keras
import pytest

FOLDER = pathlib.Path(keras.__file__).parent / "src" / "layers" / "normalization"
ROOT = pathlib.Path(__file__).parents[1]
# It asks for a message that has it the wrong way round: that the groups "must be a multiple of the number of
# channels".
LEFT_OUT = "not groups_not_a_multiple"


@pytest.mark.parametrize(
    ("name", "at_least"),
    [("batch_normalization", 15), ("layer_normalization", 6), ("group_normalization", 6), ("rms_normalization", 3)],
)
def test_the_tests_of_keras_pass(name, at_least, tmp_path):
    path = FOLDER / f"{name}_test.py"
    if not path.exists():
        pytest.skip(f"this Keras ships no {path.name}")
    options = ["-q", "-p", "tests.drop_in", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", tmp_path]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "-k", LEFT_OUT, path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) >= at_least
