"""The page of serving, for the smallest network in one format."""

import numpy as np
import pytest

from bn_keras.export.exporting import Exported
from bn_keras.pages import serving
from tests.pages.quick import quick_page, row_of


@pytest.mark.slow
def test_the_page(tmp_path):
    text, said = quick_page("serving", tmp_path)
    row = row_of(text)
    for what in ("as it is", "folded"):
        assert 0 < float(row[f"{what}: difference"]) < 1e-5
        assert float(row[f"{what}: ms"]) > 0
        assert float(row[f"{what}: MB"]) > 6
    assert "file 1 of 1: inception_small, LiteRT: " in said


def test_a_serving_process_that_fails_is_told_with_its_last_words(tmp_path, monkeypatch):
    script = tmp_path / "process.py"
    script.write_text("import sys; sys.stderr.write('the last words'); sys.exit(3)")
    monkeypatch.setattr(serving, "PROCESS", script)
    file = Exported(tmp_path / "m.tflite", "tflite", 1, 0.0, ["x"], ["y"], None)
    with pytest.raises(ChildProcessError, match="serves tflite ended with code 3:\nthe last words"):
        serving.served_in_turns([file], [np.zeros((1, 2))], rounds=1, folder=tmp_path)
