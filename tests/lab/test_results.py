"""Stored results: read with clear errors, never half-written, and resumed only where they fit."""

import json
import os

import pytest

from bn_keras.bench.results import read_results as read_benchmark
from bn_keras.lab.results import RESULTS, ResultsError, ResultsFile, check_same, digest_of

FILE = ResultsFile("bn-keras try", entries="tries", fields=("settings",))
STORED = {"settings": {"rounds": 3}, "tries": [{"ms": [1.0, 2.0]}, {"ms": []}], "note": "after the list"}


@pytest.fixture
def path(tmp_path):
    FILE.write(STORED, tmp_path / "new" / RESULTS)
    return tmp_path / "new" / RESULTS


def test_what_is_written_is_read(path):
    assert FILE.read(path) == FILE.read(path.parent) == STORED
    assert [each.name for each in path.parent.iterdir()] == [RESULTS]


def test_json_has_a_line_for_each_entry():
    text = FILE.to_json(STORED)
    assert json.loads(text) == STORED
    assert [line for line in text.splitlines() if line.startswith("  {")] == ['  {"ms": [1.0, 2.0]},', '  {"ms": []}']


def test_an_interrupted_write_leaves_the_old_file(path, monkeypatch):
    def interrupted(source, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        FILE.write(STORED | {"tries": []}, path)
    assert FILE.read(path) == STORED


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "is not JSON: .* Remove it and run `bn-keras try`"),
        ("[]", "does not hold the results of `bn-keras try`"),
        ('{"tries": []}', "does not hold"),
        ('{"settings": {}}', "does not hold"),
    ],
)
def test_another_file_is_refused(tmp_path, content, words):
    (tmp_path / RESULTS).write_text(content)
    with pytest.raises(ResultsError, match=words):
        FILE.read(tmp_path)
    with pytest.raises(ResultsError, match=words):
        FILE.read_to_resume(tmp_path / RESULTS, resume=True)


@pytest.mark.parametrize(
    ("read", "command"),
    [(FILE.read, "try"), (read_benchmark, "bench")],
    ids=["made up", "benchmark"],
)
def test_missing_results_name_the_command(tmp_path, read, command):
    for path in (tmp_path, tmp_path / "nothing.json"):
        with pytest.raises(ResultsError, match=f"There is no .*json'. Make it with `bn-keras {command}`"):
            read(path)


def test_results_of_one_command_are_not_those_of_another(path):
    with pytest.raises(ResultsError, match="does not hold"):
        read_benchmark(path)


def test_only_resume_continues(path):
    assert FILE.read_to_resume(path, resume=True) == STORED
    with pytest.raises(ResultsError, match="exists already. Continue it with --resume"):
        FILE.read_to_resume(path, resume=False)


def test_a_file_without_entries_is_started_anew(path):
    FILE.write(STORED | {"tries": []}, path)
    assert FILE.read_to_resume(path, resume=False) is None
    assert FILE.read_to_resume(path.with_name("none"), resume=False) is None


def test_other_settings_are_named(path):
    check_same(path, STORED, {"note": "after the list"})
    with pytest.raises(ResultsError, match="was made with note='after the list', not 'another'"):
        check_same(path, STORED, {"settings": {"rounds": 3}, "note": "another"})
    with pytest.raises(ResultsError, match="was made with seed=None, not 3"):
        check_same(path, STORED, {"seed": 3})


def test_the_digest_is_of_the_bytes(path):
    before = digest_of(path)
    assert before.startswith("drawn from results.json, sha256 ")
    path.write_bytes(path.read_bytes() + b"\n")
    assert digest_of(path) != before
