"""Stored runs: their names, what is refused, and who may make them."""

import contextlib
import dataclasses
import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest

from bn_keras.experiments import ResultsError, TrainingRecipe
from bn_keras.experiments.comparison.runs import STALE_SECONDS, Claim, Job, Run, RunStore
from bn_keras.experiments.comparison.space import Trial
from tests.experiments.comparison import made_up

TRIAL = Trial(learning_rate=0.5, warmup=0.05, weight_decay=1e-4, initial_gain=2.0)
JOB = Job("batch", TRIAL, 1000, 1)
KEY = "0123456789abcdef"


def key_of(job=JOB, **changes):
    return job.key(made_up.recipe(**changes))


def test_a_run_is_named_by_sixteen_digits_that_stay_the_same():
    assert key_of() == key_of()
    assert len(key_of()) == 16
    assert int(key_of(), 16)


CHANGES = {
    "preset": "mlp_relu_deep", "data": "mnist", "norm_momentum": 0.8, "width": 0.5, "optimizer": "adam",
    "batch_size": 32, "evaluate_every": 20, "validation_examples": 200,
}  # fmt: skip


@pytest.mark.parametrize("field", CHANGES)
def test_a_field_that_a_run_depends_on_changes_its_name(field):
    assert key_of(**{field: CHANGES[field]}) != key_of()


@pytest.mark.parametrize(
    "changes",
    [{"trials": 4}, {"seeds": 3}, {"extensions": 2}, {"sketch": True}, {"learning_rates": (0.1, 1.0)}, {"steps": 500},
     {"norms": (None, "batch", "layer")}],
    ids=str,
)  # fmt: skip
def test_a_field_that_a_run_does_not_depend_on_keeps_its_name(changes):
    assert key_of(**changes) == key_of()


@pytest.mark.parametrize(
    "changes",
    [{"arm": "none"}, {"steps": 2000}, {"seed": 2}]
    + [{"trial": dataclasses.replace(TRIAL, **{field.name: 0.2})} for field in dataclasses.fields(Trial)],
    ids=str,
)
def test_every_part_of_a_job_changes_its_name(changes):
    assert key_of(dataclasses.replace(JOB, **changes)) != key_of()


def test_momentum_changes_the_names_of_the_norms_that_have_it_alone():
    job = dataclasses.replace(JOB, arm="none")
    assert key_of(job, norm_momentum=0.8) == key_of(job)


def test_fields_at_their_defaults_are_not_in_the_name(monkeypatch):
    """A field that is added later, with a default that changes nothing, leaves the stored runs valid."""
    before, plain = key_of(), TrainingRecipe.to_dict
    monkeypatch.setattr(TrainingRecipe, "to_dict", lambda self: plain(self) | {"a_later_field": None})
    assert key_of() == before
    monkeypatch.setattr(TrainingRecipe, "to_dict", lambda self: plain(self) | {"a_later_field": self.seed})
    assert key_of() != before


def run(best=1 / 3, job=JOB):
    return Run(job, np.array([0, 10, 20]), np.array([0.1, best, 0.2]), None, 0.25)


@pytest.fixture
def store(tmp_path):
    found = RunStore(tmp_path / "runs")
    found.put(KEY, run(), {"parameters": 10})
    return found


def plain(found):
    return found.job, found.steps.tolist(), found.accuracy.tolist(), found.diverged_at, found.test_accuracy


def test_a_stored_run_reads_back_as_it_was_kept(store):
    other = RunStore(store.folder)
    assert other.get(KEY) is None
    other.refresh()
    assert plain(other.get(KEY)) == plain(store.get(KEY))
    assert other.get(KEY).job == JOB
    assert other.get(KEY).accuracy.tolist() == [0.1, 0.333333, 0.2]
    assert os.listdir(store.folder) == [f"{KEY}.json"]


def test_runs_with_the_same_accuracy_are_equally_good_whether_from_memory_or_from_a_file(store):
    other = RunStore(store.folder)
    other.refresh()
    other.put("f" * 16, run(), {})
    assert other.get(KEY).crossing(other.get("f" * 16).best) == 10


def changed(text, **fields):
    return json.dumps(json.loads(text) | fields)


DAMAGES = {
    "truncated": lambda text: text[: len(text) // 2],
    "empty": lambda text: "",
    "binary": lambda text: "\0\1",
    "foreign": lambda text: json.dumps({"runs": []}),
    "a list": lambda text: "[1, 2]",
    "without a key": lambda text: json.dumps({k: v for k, v in json.loads(text).items() if k != "key"}),
    "without its seed": lambda text: json.dumps({k: v for k, v in json.loads(text).items() if k != "seed"}),
    "of another trial": lambda text: changed(text, trial={"learning_rate": 1}),
    "without evaluations": lambda text: changed(text, step=[], accuracy=[]),
    "with fewer accuracies than steps": lambda text: changed(text, accuracy=[0.1]),
    "with words for accuracies": lambda text: changed(text, accuracy=["a", "b", "c"]),
    "with no numbers": lambda text: changed(text, accuracy=[None, None, None]),
    "of NaN": lambda text: changed(text, accuracy=[float("nan")] * 3),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_refused_by_its_name(store, damage):
    path = store.folder / f"{KEY}.json"
    path.write_text(DAMAGES[damage](path.read_text()))
    with pytest.raises(ResultsError, match=f"{KEY}.json' is not a stored run: .* Remove it, and resume"):
        RunStore(store.folder).refresh()


def test_a_renamed_file_is_refused_by_its_name(store):
    (store.folder / f"{KEY}.json").rename(store.folder / "copy.json")
    with pytest.raises(ResultsError, match="copy.json' is not a stored run"):
        RunStore(store.folder).refresh()


def test_files_that_are_not_finished_are_no_runs(store):
    (store.folder / "f.partial").write_text("{")
    (store.folder / "f.claim").write_text("")
    other = RunStore(store.folder)
    other.refresh()
    assert list(other.runs) == [KEY]


def test_a_claim_keeps_others_away_until_it_ends(store):
    with store.claim("a") as ours, store.claim("a") as theirs, store.claim("b") as another:
        assert ours
        assert theirs is None
        assert another
    with store.claim("a") as again:
        assert again
    assert not list(store.folder.glob("*.claim"))


def test_a_claim_ends_with_an_interrupted_run(store):
    with contextlib.suppress(KeyboardInterrupt), store.claim("a"):
        raise KeyboardInterrupt
    assert not list(store.folder.glob("*.claim"))


@pytest.fixture
def claim(tmp_path):
    return Claim(tmp_path / "a.claim")


def aged(path, seconds):
    moment = path.stat().st_mtime - seconds
    os.utime(path, (moment, moment))


@pytest.mark.slow
def test_the_claim_of_a_killed_process_is_taken_over(claim):
    script = f"import time; from pathlib import Path; from {Claim.__module__} import Claim\n"
    script += f"assert Claim(Path({str(claim.path)!r})).take(); print('taken', flush=True); time.sleep(100)"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "taken\n"
        assert not claim.take(), "its process lives"
        process.kill()
        process.wait()
    assert claim.path.exists()
    assert claim.take()


def test_the_claim_of_another_host_is_taken_over_when_it_stays_silent(claim):
    claim.path.write_text("another-host 1\n")
    assert not claim.take()
    aged(claim.path, STALE_SECONDS - 60)
    assert not claim.take()
    aged(claim.path, 120)
    assert claim.take()
    assert claim.path.read_text().split() == [socket.gethostname(), str(os.getpid())]


def test_a_claim_that_is_renewed_is_not_taken_over(claim):
    claim.path.write_text("another-host 1\n")
    aged(claim.path, 2 * STALE_SECONDS)
    Claim(claim.path).renew()
    assert not claim.take()


def test_a_claim_of_a_living_process_that_stays_silent_is_taken_over(claim):
    """The number of a process that died may belong to another one by now."""
    claim.path.write_text(f"{socket.gethostname()} {os.getpid()}\n")
    assert not claim.take()
    aged(claim.path, 2 * STALE_SECONDS)
    assert claim.take()


def test_a_claim_that_is_being_written_is_respected_for_a_while(claim):
    claim.path.write_text("")
    assert not claim.take()
    aged(claim.path, 2 * STALE_SECONDS)
    assert claim.take()


def test_a_claim_that_is_removed_by_hand_does_no_harm(store):
    with store.claim("a") as ours:
        ours.path.unlink()
        ours.renew()
        assert not ours.path.exists(), "it does not come back, as another process may run now"
    assert not list(store.folder.glob("*.claim"))
