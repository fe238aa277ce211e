"""The table of served networks, for the smallest of them in one format."""

import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.serving", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_the_page(tmp_path):
    path = tmp_path / "docs" / "serving.md"
    done = command("--only", "inception_small", "--format", "tflite", "--rounds", "1", "--out", str(path))
    assert done.returncode == 0, done.stderr[-3000:]
    text = path.read_text(encoding="utf-8")
    assert text in done.stdout
    header, _, row = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    found = dict(zip(header, row, strict=True))
    for what in ("as it is", "folded"):
        assert 0 < float(found[f"{what}: difference"]) < 1e-5
        assert float(found[f"{what}: ms"]) > 0
        assert float(found[f"{what}: MB"]) > 6


def test_wrong_words():
    done = command("--format", "tf")
    assert done.returncode == 2
    assert "invalid choice: 'tf'" in done.stderr
