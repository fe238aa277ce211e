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
from bn_keras.cli.compare import compare
from tests.cli.runner import typed
from tests.experiments.comparison import made_up

pytestmark = pytest.mark.slow

TINY = ["--steps", "40", "--width", "0.2", "--rates", "0.1,1"]


def words_of(printed):
    return re.sub(r"[\s│]+", " ", printed)


@pytest.fixture(scope="module")
def comparison_run(tmp_path_factory):
    out = tmp_path_factory.mktemp("cli") / "out"
    return out, *typed("compare", "mlp_sigmoid", "--quick", "--trials", "1", "--out", out, *TINY)


def test_compare_prints_the_answers_what_they_stand_on_and_the_doubts(comparison_run):
    out, code, printed = comparison_run
    assert code == 0
    for words in (
        "mlp_sigmoid on digits (a sketch: few trials and seeds). Target: ",
        "Steps to the target",
        "Steps to the harder target",
        "The winners",
        "Best accuracy",
        "Cost",
        "the one",
        "Tuning without normalization: 1 run of 40 steps.",
        "run 2 of 2: batch, lr ",
        "The winners with new seeds: 6 runs of 40 steps.",
        "Note: Intervals of 3 seeds are wide.",
        "Pictures:",
        "Page:",
    ):
        assert words in words_of(printed), words
    assert len(list((out / "runs").glob("*.json"))) == 2 + 6
    assert (out / "learning_curves.png").stat().st_size > 10_000
    assert "Sketch, mlp_sigmoid on digits" in (out / "learning_curves.svg").read_text(encoding="utf-8")
    assert max(len(line) for line in printed.splitlines() if not line.startswith("run ")) <= 80


def test_compare_does_not_overwrite_and_resumes(comparison_run):
    out, *_ = comparison_run
    again = ("compare", "mlp_sigmoid", "--quick", "--trials", "1", "--out", out, *TINY)
    code, printed = typed(*again)
    assert code == 1
    assert "exists already. Continue it with --resume" in words_of(printed)
    code, printed = typed(*again, "--resume")
    assert code == 0
    assert "Steps to the target" in printed
    code, printed = typed(*again, "--resume", "--batch-size", "30")
    assert code == 1
    assert "was made with batch_size=60, not 30" in words_of(printed)


def test_a_comparison_of_several_norms_is_printed(tmp_path):
    norms = (None, "batch", ("group", {"groups": 4}))
    recipe = made_up.recipe(norms=norms)
    made_up.folder(tmp_path, norms=norms)
    command = ["compare", "--steps", "1000", "--extensions", "0", "--norms", "none,batch,group:groups=4", "--resume"]
    command += ["--batch-size", str(recipe.batch_size), "--evaluate-every", "10", "--out", tmp_path]
    code, printed = typed(*command)
    assert code == 0, printed
    assert words_of(printed).count("group:groups=4") >= 5
    assert f"Page: {tmp_path / 'index.html'}" in words_of(printed)
    assert "group:groups=4" in (tmp_path / "index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["mlp_sigmod"], "Did you mean 'mlp_sigmoid'?"),
        (["--data", "mnits"], "Did you mean 'mnist'?"),
        (["--stepz", "3"], "--steps"),
        (["--rates", "1,x"], "'--rates': expected the lowest and the highest rate, such as 0.001,10, both in"),
        (["--rates", "1"], "expected the lowest and the highest rate"),
        (["--rates", "0,1"], "both in (0, 1000000]; received '0,1'."),
        (["--rates", "2,1"], "expected the lowest and the highest rate"),
        (["--seeds", "1,2"], "'--seeds'"),
        (["--seeds", "0"], "'--seeds': expected an int in [1, 1000]; received '0'."),
        (["--trials", "0"], "'--trials': expected an int in [1, 1024]; received '0'."),
        (["--trials", "2000"], "'--trials': expected an int in [1, 1024]; received '2000'."),
        (["--extensions", "-1"], "'--extensions': expected an int in [0, 10]; received '-1'."),
        (["--steps", "many"], "'--steps'"),
        (["--steps", "0"], "'--steps': expected an int in [1, 1000000000]; received '0'."),
        (["--steps", "3"], "--steps must be a multiple of evaluate_every=1, at least 4 of them. Received: 3."),
        (["--steps", "100", "--evaluate-every", "30"], "--steps must be a multiple of evaluate_every=30"),
        (["--evaluate-every", "0"], "'--evaluate-every': expected an int in [1, 1000000000]; received '0'."),
        (["--validation-examples", "0"], "'--validation-examples': expected an int in [1, 1000000000]; received '0'."),
        (["--validation-examples", "1430"], "must be between 10 and 1,427 for 'digits'"),
        (["--batch-size", "1"], "'--batch-size': expected an int in [2, 65536]; received '1'."),
        (["--norm-momentum", "2"], "'--norm-momentum': expected a number in [0, 1]; received '2'."),
        (["--image-size", "0"], "'--image-size': expected an int in [1, 4096]; received '0'."),
        (["--width", "99"], "'--width': expected a number in (0, 16]; received '99'."),
        (["--optimizer", "adm"], "expected one of sgd, momentum, adam, adamw; received 'adm'. Did you mean 'adam'?"),
        (["--norms", "batch,layer"], "expected different norms, one of them none, the baseline, such as none,batch"),
        (["--norms", "none"], "expected different norms, one of them none"),
        (["--norms", "none,bach"], "Did you mean 'batch'?"),
        (["--norms", "none,group:groups"], "'--norms': expected key=value, such as groups=8; received 'groups'."),
        (["--norms", "none,group:groups=4,groups=8"], "'--norms': expected each option once"),
        (["--norms", "none,group:groups=7"], "cannot be built for the data 'digits'"),
        (["--norms", "none,group:gruppen=4"], "gruppen"),
        (["--data-dir", "/no/such"], "'/no/such' does not exist"),
        (["mlp_sigmoid", "two"], "unexpected extra argument"),
    ],
)
def test_typed_wrong(arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, printed = typed("compare", *arguments)
    assert code == 2, printed
    assert words in words_of(printed)
    assert not list(tmp_path.iterdir()), "nothing is left behind"


def test_every_option_is_typed_wrong_here():
    marks = test_typed_wrong.pytestmark[0].args[1]
    tested = {word for arguments, _ in marks for word in arguments if word.startswith("--")}
    options = {option for each in compare.params for option in each.opts if option.startswith("--")}
    assert options - tested == {"--out", "--resume", "--quick"}


def test_what_cannot_be_done_is_told(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    code, printed = typed("compare", *TINY, "--out", tmp_path / "file")
    assert code == 2
    assert "file' is a file; expected a folder." in words_of(printed)
    code, printed = typed("compare", *TINY, "--out", tmp_path / "file" / "folder")
    assert code == 1
    assert "folder' cannot be read or written: Not a directory." in words_of(printed)
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
    command = [sys.executable, "-m", "bn_keras", "compare", "--out", str(tmp_path), "--steps", "1000"]
    wide = os.environ | {"COLUMNS": "160"}
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, env=wide)
    try:
        os.close(theirs)
        shown = read_until(ours, r"run 3 of 16: none, lr [^\r]*seed 0, +\d+\.\d+%", 300)
        assert re.search(r"\d+ %  left.*\d+:\d\d:\d\d", shown, re.DOTALL), "a bar with the time left"
        process.send_signal(signal.SIGINT)
        shown = read_until(ours, "Interrupted", 60)
        assert process.wait(60) == 1
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert "--resume" in shown
    assert "Traceback" not in shown
    kept = [json.loads(path.read_text())["arm"] for path in (tmp_path / "runs").iterdir()]
    assert kept == ["none", "none"], "the claim of the interrupted run is gone too"
