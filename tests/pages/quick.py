"""Measured pages on small inputs, written by the command in a process of their own."""

import os
import pathlib
import sys

from tests.processes import run_process

ROOT = pathlib.Path(__file__).parents[2]


def quick_page(name, folder):
    """The text of a page that `bn-keras page NAME --quick` wrote, and what the command said meanwhile."""
    path = folder / "docs" / f"{name}.md"
    command = [sys.executable, "-m", "bn_keras", "page", name, "--quick", "--out", str(path)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = run_process(command, seconds=600, cwd=folder, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout == f"{path}\n"
    text = path.read_text(encoding="utf-8")
    assert text.startswith(f"<!-- Written by `bn-keras page {name} --quick`. Do not edit. -->\n# ")
    return text, done.stderr


def row_of(text):
    """The only row of the first table of a page, by column."""
    header, _, row = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    return dict(zip(header, row, strict=True))
