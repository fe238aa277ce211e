"""A training run on disk: what it writes, and what a killed, damaged or full one keeps."""

import csv
import json
import os
import pathlib
import resource
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

from bn_keras.experiments import ResultsError, load, train, training_recipe
from bn_keras.experiments.train import Run
from bn_keras.lab.watcher import Watcher
from tests.experiments.data.folders import write_folder, write_picture
from tests.processes import run_process

ROOT = pathlib.Path(__file__).parents[2]


def recipe_of(**changes):
    fields = {"steps": 60, "evaluate_every": 10, "width": 0.2, "learning_rate": 0.3} | changes
    return training_recipe("mlp_sigmoid", "digits", **fields)


class Stop(Watcher):
    """Interrupts a run in its interval number `after`, and remembers the notes."""

    def __init__(self, after=None):
        self.after, self.count, self.notes = after, 0, ()

    def begin(self, unit, total, done=0, notes=()):
        self.notes = " ".join(notes)

    def item_begins(self, name):
        self.count += 1
        if self.count == self.after:
            raise KeyboardInterrupt


def interrupted(recipe, out, after=4):
    with pytest.raises(KeyboardInterrupt):
        train(recipe, out, watcher=Stop(after))


def state(out):
    """All weights of the saved model, statistics included, and the rows without their times."""
    rows = json.loads((out / "results.json").read_text())["evaluations"]
    weights = keras.saving.load_model(out / "model.keras").get_weights()
    return weights, [(row["step"], row["loss"], row["accuracy"]) for row in rows]


def assert_same(ours, other):
    assert ours[1] == other[1]
    for a, b in zip(ours[0], other[0], strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing disturbed."""
    out = tmp_path_factory.mktemp("whole")
    return out, train(recipe_of(), out)


@pytest.mark.slow
def test_a_run_writes_results_logs_checkpoints_and_the_model(whole):
    out, results = whole
    assert {path.name for path in out.iterdir()} == {
        "results.json", "log.csv", "tensorboard", "checkpoints", "model.keras"
    }  # fmt: skip
    assert json.loads((out / "results.json").read_text()) == results
    assert results["outcome"] == "finished"
    assert results["recipe"] == recipe_of().to_dict()
    rows = list(csv.DictReader((out / "log.csv").open()))
    assert [int(row["step"]) for row in rows] == list(range(0, 61, 10))
    assert [row["accuracy"] for row in rows] == [str(row["accuracy"]) for row in results["evaluations"]]
    assert sorted(path.name for path in (out / "checkpoints").glob("*.index")) == [
        "step-40.index", "step-50.index", "step-60.index"
    ]  # fmt: skip


@pytest.mark.slow
def test_the_events_are_what_tensorboard_reads(whole):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(whole[0] / "tensorboard"))
    events.Reload()
    assert {"loss", "accuracy", "learning_rate", "examples_per_second"} <= set(events.Tags()["tensors"])
    assert [event.step for event in events.Tensors("loss")] == list(range(10, 61, 10))


@pytest.mark.slow
def test_the_model_takes_raw_images(whole):
    out, results = whole
    model, test = keras.saving.load_model(out / "model.keras"), load("digits").test
    right = (model.predict(test.inputs, verbose=0).argmax(-1) == test.labels).mean()
    assert right == pytest.approx(results["evaluations"][-1]["accuracy"], abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"optimizer": "adamw", "weight_decay": 0.1, "schedule": "cosine", "warmup": 7, "augment": ("shift", "rotate")},
    ],
    ids=["plain", "everything with a state"],
)
def test_a_resumed_run_ends_as_one_that_nothing_disturbed(tmp_path, changes):
    train(recipe_of(**changes), tmp_path / "whole")
    interrupted(recipe_of(**changes), tmp_path / "parts")
    watcher = Stop()
    train(recipe_of(**changes), tmp_path / "parts", resume=True, watcher=watcher)
    assert "Continued from the checkpoint of step 30." in watcher.notes
    assert_same(state(tmp_path / "parts"), state(tmp_path / "whole"))


@pytest.mark.slow
def test_a_killed_process_resumes_to_the_same_bits(tmp_path):
    arguments = ["mlp_sigmoid", "--steps", "1000", "--evaluate-every", "100", "--augment", "shift", "--seed", "3"]
    command = [sys.executable, "-m", "bn_keras", "train", *arguments, "--out"]
    whole = run_process([*command, tmp_path / "whole"], cwd=ROOT)
    assert whole.returncode == 0, whole.stderr
    with subprocess.Popen([*command, tmp_path / "parts"], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        wait_for(tmp_path / "parts" / "checkpoints" / "step-300.index")
        process.send_signal(signal.SIGKILL)
    assert not (tmp_path / "parts" / "model.keras").exists()
    again = run_process([*command, tmp_path / "parts", "--resume"], cwd=ROOT)
    assert again.returncode == 0, again.stderr
    assert "Continued from the checkpoint of step" in again.stdout
    assert_same(state(tmp_path / "parts"), state(tmp_path / "whole"))


def wait_for(path, seconds=90):
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path.name} did not come"
        time.sleep(0.01)


@pytest.mark.sample(1)
@pytest.mark.slow
@pytest.mark.parametrize("damage", ["truncated", "a flipped byte", "no data", "an empty index"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path, whole, damage):
    interrupted(recipe_of(), tmp_path)
    damage_checkpoint(tmp_path / "checkpoints", 30, damage)
    watcher = Stop()
    train(recipe_of(), tmp_path, resume=True, watcher=watcher)
    assert "step-30' cannot be read and is left out" in watcher.notes
    assert "Continued from the checkpoint of step 20." in watcher.notes
    assert_same(state(tmp_path), state(whole[0]))


def damage_checkpoint(folder, step, damage):
    data, index = folder / f"step-{step}.data-00000-of-00001", folder / f"step-{step}.index"
    content = bytearray(data.read_bytes())
    if damage == "truncated":
        data.write_bytes(content[: len(content) // 2])
    elif damage == "a flipped byte":
        content[len(content) // 2] ^= 255
        data.write_bytes(content)
    elif damage == "no data":
        data.unlink()
    else:
        index.write_bytes(b"")


@pytest.mark.slow
def test_a_run_whose_checkpoints_are_all_damaged_is_refused(tmp_path):
    interrupted(recipe_of(), tmp_path)
    for step in (10, 20, 30):
        damage_checkpoint(tmp_path / "checkpoints", step, "truncated")
    with pytest.raises(ResultsError, match="None of the 3 checkpoints .* can be read"):
        train(recipe_of(), tmp_path, resume=True)


@pytest.mark.slow
def test_a_run_without_a_checkpoint_resumes_at_its_first_step(tmp_path, whole):
    train(recipe_of(), tmp_path / "new", resume=True)
    assert_same(state(tmp_path / "new"), state(whole[0]))
    interrupted(recipe_of(), tmp_path / "early", after=1)
    train(recipe_of(), tmp_path / "early", resume=True)
    assert_same(state(tmp_path / "early"), state(whole[0]))


@pytest.mark.slow
def test_a_run_is_not_overwritten_and_resumes_with_its_own_recipe_alone(tmp_path):
    interrupted(recipe_of(), tmp_path)
    with pytest.raises(ResultsError, match="exists already. Continue it with --resume"):
        train(recipe_of(), tmp_path)
    with pytest.raises(ResultsError, match="made with learning_rate=0.3, not 0.2"):
        train(recipe_of(learning_rate=0.2), tmp_path, resume=True)


def test_a_finished_run_is_returned(whole):
    out, results = whole
    assert train(recipe_of(), out, resume=True) == results


@pytest.mark.slow
def test_a_run_resumes_with_its_own_data_alone(tmp_path):
    write_folder(tmp_path / "pets", {"cat": 10, "dog": 10})
    recipe = training_recipe("mlp_sigmoid", f"folder:{tmp_path / 'pets'}", steps=4, evaluate_every=1, batch_size=4)
    interrupted(recipe, tmp_path / "run", after=3)
    write_picture(tmp_path / "pets" / "dog" / "more.png", 99)
    with pytest.raises(ResultsError, match="made with training_examples=16, not 17"):
        train(recipe, tmp_path / "run", resume=True)
    (tmp_path / "pets" / "dog" / "more.png").rename(tmp_path / "pets" / "dog" / "000.png")
    with pytest.raises(ResultsError, match="made with fingerprint="):
        train(recipe, tmp_path / "run", resume=True)


@pytest.mark.slow
def test_a_run_without_results_does_not_take_the_checkpoints_of_another(tmp_path):
    interrupted(recipe_of(), tmp_path)
    (tmp_path / "results.json").unlink()
    for resume in (False, True):
        with pytest.raises(ResultsError, match=r"checkpoints' holds checkpoints of a run whose results.json is miss"):
            train(recipe_of(seed=1), tmp_path, resume=resume)


@pytest.mark.slow
def test_a_run_that_was_killed_after_its_target_trains_no_further(tmp_path):
    recipe = recipe_of(target=0.2, steps=1000, learning_rate=1.0)
    whole = train(recipe, tmp_path)
    (tmp_path / "model.keras").unlink()
    (tmp_path / "results.json").write_text(json.dumps(whole | {"outcome": None}))
    assert train(recipe, tmp_path, resume=True) == whole
    assert (tmp_path / "model.keras").exists()


@pytest.mark.slow
def test_the_numbers_of_a_recipe_may_be_numpys(tmp_path):
    recipe = recipe_of(steps=np.int64(2), evaluate_every=np.int32(1), learning_rate=np.float32(0.25))
    train(recipe, tmp_path)
    assert train(recipe, tmp_path, resume=True)["recipe"]["learning_rate"] == 0.25


@pytest.mark.slow
def test_the_home_directory_in_the_path(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    train(recipe_of(steps=1, evaluate_every=1), "~/my run")
    assert (tmp_path / "my run" / "model.keras").exists()


@pytest.mark.slow
def test_the_target_ends_a_run(tmp_path):
    results = train(recipe_of(target=0.2, steps=1000, learning_rate=1.0), tmp_path)
    assert results["outcome"] == "target"
    assert results["evaluations"][-1]["accuracy"] >= 0.2
    assert all(row["accuracy"] < 0.2 for row in results["evaluations"][:-1])
    assert results["evaluations"][-1]["step"] < 1000


@pytest.mark.slow
def test_a_run_that_is_killed_at_its_target_ends_there(tmp_path, monkeypatch):
    recipe = recipe_of(target=0.2, steps=1000, learning_rate=1.0)
    monkeypatch.setattr(Run, "close", lambda self, outcome: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train(recipe, tmp_path)
    monkeypatch.undo()
    before = json.loads((tmp_path / "results.json").read_text())["evaluations"]
    results = train(recipe, tmp_path, resume=True)
    assert results["outcome"] == "target"
    assert results["evaluations"] == before
    assert (tmp_path / "model.keras").exists()


@pytest.mark.slow
def test_divergence_ends_a_run(tmp_path):
    recipe = training_recipe("inception_small", "digits", steps=20, evaluate_every=10, width=0.1, norm=None)
    results = train(recipe.__class__(**recipe.to_dict() | {"learning_rate": 1e5}), tmp_path)
    assert results["outcome"] == "diverged"
    assert results["evaluations"][-1]["loss"] is None
    assert not (tmp_path / "model.keras").exists()


@pytest.fixture
def file_limit():
    """Files cannot grow past a number of bytes, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.slow
def test_a_full_disk_loses_nothing_that_is_written(tmp_path, whole, file_limit):
    class Full(Stop):
        def item_begins(self, name):
            super().item_begins(name)
            if self.count == 4:
                file_limit(2000)

    with pytest.raises(ResultsError, match="could not be written.*Make room"):
        train(recipe_of(), tmp_path, watcher=Full())
    file_limit(resource.RLIM_INFINITY)
    assert (tmp_path / "checkpoints" / "step-30.index").exists()
    assert not list((tmp_path / "checkpoints").glob("step-40*"))
    train(recipe_of(), tmp_path, resume=True)
    assert_same(state(tmp_path), state(whole[0]))


@pytest.mark.skipif(os.geteuid() == 0, reason="the root user may write everywhere")
def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(ResultsError, match="could not be written"):
        train(recipe_of(), tmp_path / "run")


@pytest.mark.slow
def test_a_file_in_the_place_of_the_folder_is_told(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(ResultsError, match="could not be written"):
        train(recipe_of(), tmp_path / "run")
