"""The table of folded networks, for the smallest of them."""

import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.folding", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_the_page(tmp_path):
    path = tmp_path / "docs" / "folding.md"
    done = command("--only", "MobileNetV3Small", "--rounds", "1", "--side", "75", "--out", str(path))
    assert done.returncode == 0, done.stderr[-3000:]
    text = path.read_text(encoding="utf-8")
    assert text in done.stdout
    header, _, row = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    found = dict(zip(header, row, strict=True))
    assert (found["batch norms"], found["folded"], found["affine maps left"]) == ("34", "34", "0")
    assert 0 < float(found["folded − ours"]) < 1e-5
    assert float(found["ours − Keras"]) < 1e-5
    assert found["`to_sync` and back"] == "bit-equal"
    assert "Nothing." in text


def test_wrong_words():
    done = command("--only", "LeNet")
    assert done.returncode == 2
    assert "invalid choice: 'LeNet'" in done.stderr
