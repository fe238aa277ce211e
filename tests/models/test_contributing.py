"""CONTRIBUTING says how to add a preset: the test does it, in a copy of the package."""

import pathlib
import re
import shutil

import pytest

from tests.processes import result_of

ROOT = pathlib.Path(__file__).parents[2]
SECTION = re.search(r"^## Add a preset$(.*?)^## ", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL | re.MULTILINE)[1]
SCRIPT = """
import json, numpy as np
from bn_keras.models import build, describe, features, list_presets, norms
assert "lenet5" in list_presets()
images = np.random.default_rng(0).normal(size=(2, 28, 28, 1)).astype("float32")
finite = {}
for norm in (None, "batch", "layer", ("group", {"groups": 2})):
    finite[str(norm)] = bool(np.isfinite(build("lenet5", norm=norm)(images, training=True)).all())
stages = sorted(features(build("lenet5")).output)
print("RESULT", json.dumps({"finite": finite, "card": str(describe("lenet5")), "stages": stages}))
"""


@pytest.mark.slow
def test_a_preset_is_added_by_one_file_and_one_line(tmp_path):
    shutil.copytree(ROOT / "bn_keras", tmp_path / "bn_keras", ignore=shutil.ignore_patterns("__pycache__", "shipped"))
    code, line = (text for _, text in re.findall(r"^```(python|)\n(.*?)^```$", SECTION, re.DOTALL | re.MULTILINE))
    (tmp_path / "bn_keras" / "models" / "lenet.py").write_text(code)
    names = tmp_path / "bn_keras" / "choices" / "names.py"
    names.write_text(names.read_text().replace("FAMILIES = {\n", f"FAMILIES = {{\n{line}"))
    result = result_of("-c", SCRIPT, cwd=tmp_path)
    assert all(result["finite"].values())
    assert "two convolutions and two hidden layers" in result["card"]
    assert result["stages"] == ["stride_1", "stride_2", "stride_4"]
