"""`bn-keras compare` as it is typed, wrong too."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time

import pytest

from bn_keras import experiments
from tests.cli.runner import typed

TINY = ["--steps", "40", "--evaluate-every", "20", "--width", "0.2", "--rates", "0.1,1", "--seeds", "0,1"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("cli") / "out"
    return out, *typed("compare", "mlp_sigmoid", "--out", out, *TINY)


def test_compare_prints_both_answers_and_writes_the_results(finished):
    out, code, printed = finished
    assert code == 0
    for words in (
        "mlp_sigmoid on digits",
        "at the same learning rate",
        "at each arm's best learning rate",
        "run 8 of 8: batch norm, lr 1, seed 1: ",
        "Fewer than three seeds",
    ):
        assert re.sub(r"\s+", " ", words) in re.sub(r"[\s│]+", " ", printed), words
    assert len(json.loads((out / "results.json").read_text())["runs"]) == 8
    assert (out / "curves.png").stat().st_size > 10_000


def test_compare_does_not_overwrite_and_resumes(finished):
    out, *_ = finished
    code, printed = typed("compare", "--out", out, *TINY)
    assert code == 1
    assert "--resume" in printed
    code, printed = typed("compare", "--out", out, *TINY, "--resume")
    assert code == 0
    assert "at the same learning rate" in re.sub(r"\s+", " ", printed)
    code, printed = typed("compare", "--out", out, *TINY, "--resume", "--batch-size", "30")
    assert code == 1
    assert "was made with batch_size=60, not 30" in printed


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["compare", "mlp_sigmod"], "Did you mean 'mlp_sigmoid'?"),
        (["compare", "--data", "mnits"], "Did you mean 'mnist'?"),
        (["compare", "--stepz", "3"], "--steps"),
        (["compare", "--rates", "1,x"], "'--rates': expected numbers separated by commas"),
        (["compare", "--rates", "0"], "--rates must be a number in (0, 1000000]. Received: 0.0."),
        (["compare", "--seeds", "1.5"], "'--seeds': expected whole numbers separated by commas"),
        (["compare", "--seeds", "-1"], "--seeds must be an int in [0, 4294967295]. Received: -1."),
        (["compare", "--steps", "many"], "'--steps'"),
        (["compare", "--steps", "0"], "--steps must be an int ≥ 1. Received: 0."),
        (["compare", "--steps", "100", "--evaluate-every", "30"], "--steps must be a multiple of evaluate_every=30"),
        (["compare", "--width", "99"], "--width must be a number in (0, 16]. Received: 99.0."),
        (["compare", "--optimizer", "adm"], "--optimizer must be one of sgd, momentum, adam, adamw. Received: 'adm'."),
        (["compare", "--data-dir", "/no/such"], "'/no/such' does not exist"),
        (["compare", "one", "two"], "unexpected extra argument"),
    ],
)
def test_typed_wrong(arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, printed = typed(*arguments)
    assert code == 2
    assert words in printed
    assert not list(tmp_path.iterdir()), "nothing is left behind"


def test_what_cannot_be_done_is_told(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    code, printed = typed("compare", *TINY, "--out", tmp_path / "file")
    assert code == 1
    assert "file" in printed
    monkeypatch.setattr(experiments.data.download, "reachable", lambda address, seconds: False)
    code, printed = typed("compare", "--data", "mnist", "--data-dir", tmp_path, "--out", tmp_path / "out")
    assert code == 1
    assert "Use the data set 'digits'" in printed


def read_until(descriptor, pattern, seconds):
    """What a terminal shows, until it shows the pattern."""
    shown, end = "", time.monotonic() + seconds
    while not re.search(pattern, shown):
        assert time.monotonic() < end, shown
        try:
            shown += os.read(descriptor, 65536).decode(errors="replace")
        except OSError:
            break
    return shown


def test_ctrl_c_on_a_terminal_keeps_what_is_finished(tmp_path):
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "bn_keras", "compare", "--out", str(tmp_path), "--steps", "2000"]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True) as process:
        os.close(theirs)
        shown = read_until(ours, r"run 3 of 36: without norm, lr 0.1, seed 0, +\d+\.\d+%", 120)
        assert re.search(r"\d+ %  left.*\d+:\d\d:\d\d", shown, re.DOTALL), "a bar with the time left"
        process.send_signal(signal.SIGINT)
        shown = read_until(ours, "Interrupted", 60)
        assert process.wait(60) == 1
    os.close(ours)
    assert "--resume" in shown
    assert "Traceback" not in shown
    assert len(experiments.read_results(tmp_path)["runs"]) >= 2
