"""`bn-keras bench` as it is typed, wrong too."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from bn_keras.bench.peers import PEERS, Peer
from bn_keras.bench.results import read_results
from tests.cli.runner import typed
from tests.processes import limited

pytestmark = pytest.mark.slow

QUICK = ["--quick", "--peer", "bn_keras", "--peer", "keras"]


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory):
    out = tmp_path_factory.mktemp("bench") / "out"
    return out, *typed("bench", *QUICK, "--group", "batch-eager", "--group", "layer", "--out", out)


def test_the_help_is_one_left_edge():
    code, printed = typed("bench", "--help")
    assert code == 0
    text, options = printed.split("Options:")
    assert {len(line) - len(line.lstrip()) for line in text.splitlines()[1:] if line.strip()} == {2}
    assert "writes the page and its pictures.\n\n  The groups:\n\n  batch-float32: " in text
    assert "--group GROUP" in options


def test_it_prints_the_tables_and_writes_everything(benchmark):
    out, code, printed = benchmark
    assert code == 0, printed
    plain = re.sub(r"\s+", " ", printed)
    for words in (
        "Batch norm, training step called eagerly",
        "Layer norm",
        "case 6 of 6: layer 2×32 inference",
    ):
        assert words in plain, words
    results = json.loads((out / "results.json").read_text())
    assert len(results["cases"]) == 6
    for entry in results["cases"]:
        assert {name: len(peer["ms"]) for name, peer in entry["peers"].items()} == {"bn_keras": 2, "keras": 2}
    assert [path.name for path in out.iterdir()] == ["results.json"]
    assert f"bn-keras page benchmark --results {out}" in printed


def test_the_page_that_it_names_can_be_written(benchmark, tmp_path):
    out, *_ = benchmark
    code, printed = typed("page", "benchmark", "--results", out, "--out", tmp_path)
    assert code == 0, printed
    assert {path.name for path in tmp_path.iterdir()} == {"README.md", "layer.svg", "batch-eager.svg"}
    assert printed.split() == [str(tmp_path / name) for name in ("README.md", "batch-eager.svg", "layer.svg")]


@pytest.mark.slow
def test_it_does_not_overwrite_and_resumes(benchmark):
    out, *_ = benchmark
    before = (out / "results.json").read_bytes()
    code, printed = typed("bench", *QUICK, "--out", out)
    assert code == 1
    assert "--resume" in printed
    code, printed = typed("bench", *QUICK, "--group", "layer", "--out", out, "--resume")
    assert code == 0
    assert (out / "results.json").read_bytes() == before, "nothing was left to measure"
    code, printed = typed("bench", "--peer", "keras", "--group", "layer", "--out", out, "--resume")
    assert code == 1
    assert "was made with rounds=2, not 15" in printed


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--group", "bach"], "expected one of batch-float32, batch-bfloat16,"),
        (["--peer", "tensorflow"], "expected one of bn_keras, keras,"),
        (["--peer", "fused_op", "--group", "none"], "received 'none'."),
        (["--rounds", "0"], "'--rounds': expected an int in [1, 10000]; received '0'."),
    ],
)
def test_typed_wrong(arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, printed = typed("bench", *arguments)
    assert code == 2
    assert words in re.sub(r"\s+", " ", printed)
    assert not list(tmp_path.iterdir()), "nothing is left behind"


def test_peers_that_are_not_installed_are_left_out(benchmark, tmp_path, monkeypatch):
    out, *_ = benchmark
    monkeypatch.setitem(PEERS, "tf_keras", Peer("nothing", ("no_such_package",)))
    code, printed = typed("bench", *QUICK, "--peer", "tf_keras", "--group", "batch-eager", "--out", out, "--resume")
    assert code == 0
    assert "tf_keras is left out: it needs no_such_package." in printed
    code, printed = typed("bench", "--peer", "tf_keras", "--out", tmp_path / "out")
    assert code == 2
    assert "None of the installed peers" in printed
    assert not list(tmp_path.iterdir())


def test_the_groups_are_in_the_help():
    code, printed = typed("bench", "--help")
    assert code == 0
    assert "batch-float32: Batch norm, training step, float32." in re.sub(r"\s+", " ", printed)


def test_ctrl_c_keeps_what_is_finished(tmp_path):
    command = [sys.executable, "-m", "bn_keras", "bench", "--rounds", "3", "--peer", "fused_op"]
    command += ["--out", str(tmp_path)]
    with subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # what runs in the background may ignore it
    ) as process:
        with limited(process):
            for line in process.stderr:
                if line.startswith("case 2 of"):
                    break
        os.killpg(process.pid, signal.SIGINT)
        started = time.monotonic()
        said = process.stderr.read()
        assert process.wait(30) == 1
    assert time.monotonic() - started < 20
    assert "--resume" in said
    assert "Traceback" not in said
    assert len(read_results(tmp_path)["cases"]) >= 2
