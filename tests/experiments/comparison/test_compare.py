"""The comparison on a tiny recipe: complete, resumable, shared, and blind to the test images while it tunes."""

import collections
import dataclasses
import json
import math
import os
import types

import numpy as np
import pytest

from bn_keras.experiments import DataError, NetworkError, ResultsError, Trainer, default_recipe, load, read_comparison
from bn_keras.experiments.comparison import compare as module
from bn_keras.experiments.comparison import step_cost
from bn_keras.experiments.comparison.compare import compare, one_run
from bn_keras.experiments.comparison.runs import Job
from bn_keras.experiments.comparison.space import Trial
from bn_keras.experiments.trainer import Evaluation
from bn_keras.lab.results import write_whole
from tests.experiments.comparison import made_up
from tests.experiments.comparison.tiny import TINY, Recording, entries
from tests.processes import results_of, start

pytestmark = pytest.mark.slow


class Interrupting(Recording):
    """Presses Ctrl-C half-way through an item of a stage, which begins with so many items."""

    def __init__(self, stage, after=0):
        super().__init__()
        self.stage, self.after = stage, after

    def item_advances(self, share, note):
        unit, total, _ = self.began[-1]
        if (unit, total) == self.stage and len(self.ends) == self.after and share:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A comparison that nothing disturbed, and what its watcher was told."""
    out, watcher = tmp_path_factory.mktemp("whole") / "out", Recording()
    return out, compare(TINY, out, watcher=watcher), watcher


def test_a_comparison_holds_every_run_and_what_made_them(whole):
    out, found, _ = whole
    assert {path.name for path in out.iterdir()} == {"comparison.json", "runs", "costs.json"}
    header = json.loads((out / "comparison.json").read_text())
    assert header["recipe"] == TINY.to_dict()
    assert set(header["versions"]) == {"bn_keras", "tensorflow", "keras", "numpy", "python"}
    assert header["machine"]["processor"]
    assert header["data"]["training_examples"] == 1437, "the data as they were before the validation split"
    stored = entries(out)
    seeds = collections.Counter(entry["seed"] for entry in stored.values())
    assert seeds[0] == 2 * 2
    assert seeds[1] == seeds[2] == len({(arm, trial) for (arm, _), trial in found.plan.winners.items()})
    assert not [path for path in (out / "runs").iterdir() if path.suffix != ".json"]
    for key, entry in stored.items():
        assert entry["key"] == key
        assert entry["step"] == [0, 10, 20, 30, 40]
        assert entry["recipe"]["validation_examples"] == 300
        assert entry["parameters"] == {"none": 2350, "batch": 2530}[entry["arm"]]
    assert set(found.costs.arms) == {"none", "batch"}
    assert {arm: cost.parameters for arm, cost in found.costs.arms.items()} == {"none": 2350, "batch": 2530}


@pytest.mark.slow
def test_tuning_has_no_test_accuracy_and_each_new_seed_has_one(whole):
    for entry in entries(whole[0]).values():
        assert (entry["test_accuracy"] is None) == (entry["seed"] == 0)
        assert entry["test_accuracy"] is None or 0 <= entry["test_accuracy"] <= 1


def test_the_watcher_is_told_of_every_stage_and_run(whole):
    _, found, watcher = whole
    count = len(found.plan.jobs)
    assert watcher.began == [("run", 2, 0), ("run", 4, 2), ("run", count, 0), ("arm", 1, 0)]
    runs = [item for item in watcher.items if ", lr " in item]
    assert len(runs) == 2 + 2 + count
    assert watcher.items[: len(runs)] == runs, "the costs come last"
    assert all("best" in end for end in watcher.ends[:-1])


def test_a_finished_comparison_is_read_and_not_run(whole, monkeypatch):
    out, found, _ = whole
    monkeypatch.setattr(module, "load", lambda *arguments, **options: pytest.fail("the data are not needed"))
    again = compare(TINY, out, resume=True)
    assert again.plan.winners == found.plan.winners == read_comparison(out).plan.winners
    assert again.target == found.target
    assert again.speedup("batch") == found.speedup("batch")


def test_an_interruption_in_any_stage_keeps_what_is_finished_and_resumes_to_the_same(whole, tmp_path):
    out, found, _ = whole
    count = len(found.plan.jobs)
    stages = [(("run", 2), 1, 1), (("run", 4), 2, 3), (("run", count), 2, 5), (("arm", 1), count - 1, 4 + count)]
    for i, (stage, after, kept) in enumerate(stages):
        with pytest.raises(KeyboardInterrupt):
            compare(TINY, tmp_path, resume=i > 0, watcher=Interrupting(stage, after))
        assert len(entries(tmp_path)) == kept
        assert not list((tmp_path / "runs").glob("*.claim"))
        with pytest.raises(ResultsError, match=r"lacks .*Finish it with `bn-keras compare … --resume`"):
            read_comparison(tmp_path)
    watcher = Recording()
    resumed = compare(TINY, tmp_path, resume=True, watcher=watcher)
    assert watcher.began == [("arm", 1, 0)], "the costs are all that is missing"
    assert entries(tmp_path) == entries(out)
    assert resumed.plan.winners == found.plan.winners
    assert resumed.speedup("batch").crossings == found.speedup("batch").crossings
    (tmp_path / "costs.json").unlink()
    again = Recording()
    compare(TINY, tmp_path, resume=True, watcher=again)
    assert again.began == [("arm", 1, 0)]
    assert (tmp_path / "costs.json").exists()


def test_two_processes_share_the_runs_and_make_each_once(whole, tmp_path):
    arguments = ["-m", "tests.experiments.comparison.tiny", str(tmp_path)]
    made = results_of([start(arguments), start(arguments)], seconds=180)
    runs = [end for ends in made for end in ends if "best" in end]
    assert len(runs) == len(entries(tmp_path))
    assert sum(map(len, made)) == len(runs) + 1, "one of them measured the costs"
    assert not list(tmp_path.rglob("*.partial"))
    assert entries(tmp_path) == entries(whole[0])
    assert not list((tmp_path / "runs").glob("*.claim"))


def test_two_processes_that_write_the_same_file_do_not_mix(tmp_path, monkeypatch):
    """The other process writes and moves its file between the two steps of ours."""
    path, replace = tmp_path / "costs.json", os.replace

    def late(source, target):
        monkeypatch.setattr(os, "replace", replace)
        monkeypatch.setattr(os, "getpid", lambda: 1)
        write_whole(path, "theirs")
        replace(source, target)

    monkeypatch.setattr(os, "replace", late)
    write_whole(path, "ours")
    assert path.read_text() == "ours"
    assert [each.name for each in tmp_path.iterdir()] == ["costs.json"]


def test_runs_of_another_machine_can_be_copied_in(whole, tmp_path):
    (tmp_path / "runs").mkdir()
    for path in (whole[0] / "runs").iterdir():
        (tmp_path / "runs" / path.name).write_bytes(path.read_bytes())
    watcher = Recording()
    compare(TINY, tmp_path, watcher=watcher)
    assert watcher.began == [("arm", 1, 0)]


@pytest.fixture
def header(tmp_path):
    """The folder of a comparison that has no run yet."""
    made_up.folder(tmp_path)
    for path in (tmp_path / "runs").iterdir():
        path.unlink()
    return tmp_path


def test_another_comparison_is_not_overwritten_nor_mixed_in(header):
    before = (header / "comparison.json").read_bytes()
    with pytest.raises(ResultsError, match="exists already. Continue it with --resume"):
        compare(made_up.recipe(), header)
    with pytest.raises(ResultsError, match="was made with batch_size=64, not 30"):
        compare(made_up.recipe(batch_size=30), header, resume=True)
    with pytest.raises(ResultsError, match="was made with norms="):
        compare(made_up.recipe(norms=(None, "layer")), header, resume=True)
    with pytest.raises(ResultsError, match="was made with training_examples=1438, not 1437"):
        compare(made_up.recipe(), header, resume=True)
    assert (header / "comparison.json").read_bytes() == before
    assert not list((header / "runs").iterdir())


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"norms": (None, "batch", ("group", {"groups": 7}))}, NetworkError, "cannot be built for the data 'digits'"),
        ({"validation_examples": 1436}, DataError, "`validation_examples` must be between 10 and 1,427"),
        ({"data": "no_such_set"}, DataError, "Unknown data set 'no_such_set'"),
    ],
)
def test_what_cannot_run_is_refused_before_the_first_run_and_leaves_nothing_behind(changes, error, words, tmp_path):
    with pytest.raises(error, match=words):
        compare(dataclasses.replace(TINY, **changes), tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "There is no .*comparison.json'. Make it with `bn-keras compare`"),
        ("{", "is not JSON"),
        ("[]", "does not hold a comparison"),
        ('{"recipe": {}, "data": {}}', "does not hold a comparison"),
        ('{"recipe": {"preset": "no"}, "data": {}}', "does not hold a comparison"),
    ],
)
def test_a_folder_without_a_comparison_is_refused(text, words, tmp_path):
    if text is not None:
        (tmp_path / "comparison.json").write_text(text)
    with pytest.raises(ResultsError, match=words):
        read_comparison(tmp_path)


def test_a_comparison_with_a_field_that_is_unknown_is_refused(header):
    path = header / "comparison.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps(values | {"recipe": values["recipe"] | {"later": 1}}))
    with pytest.raises(ResultsError, match=r"does not hold a comparison .*later"):
        read_comparison(header)


def test_a_comparison_that_is_not_finished_says_what_it_lacks(header):
    with pytest.raises(ResultsError, match="lacks 16 runs of the stage 'baseline'. Finish it with"):
        read_comparison(header)
    made_up.folder(header)
    (header / "costs.json").unlink()
    with pytest.raises(ResultsError, match="lacks the cost of a step"):
        read_comparison(header)
    (header / "costs.json").write_text('{"arms": {"none": {}}}')
    with pytest.raises(ResultsError, match="costs.json' holds no costs"):
        read_comparison(header)


def test_a_stored_comparison_reads_back_as_it_was(tmp_path):
    kept, found = made_up.comparison(), read_comparison(made_up.folder(tmp_path))
    assert found.speedup("batch") == kept.speedup("batch")
    assert (found.recipe, found.data, found.target) == (kept.recipe, kept.data, kept.target)


def test_tuning_never_sees_the_test_images(whole, tmp_path, monkeypatch):
    """The test images are replaced by black ones, and the tuning comes out as before."""
    digits = load("digits")
    black = dataclasses.replace(digits.test, inputs=np.zeros_like(digits.test.inputs))
    monkeypatch.setattr(module, "load", lambda *arguments, **options: dataclasses.replace(digits, test=black))
    evaluate, splits = Trainer.evaluate, []
    monkeypatch.setattr(Trainer, "evaluate", lambda self, split=None: splits.append(split) or evaluate(self, split))
    with pytest.raises(KeyboardInterrupt):
        compare(TINY, tmp_path, watcher=Interrupting(("run", len(whole[1].plan.jobs)), 4))
    tuned = entries(tmp_path)
    assert len(tuned) == 4
    assert {key: entries(whole[0])[key] for key in tuned} == tuned
    assert set(splits) == {None}


def test_a_new_seed_is_tested_once_with_the_weights_of_its_best_validation_accuracy(whole):
    """Against a loop by hand, with a network and data of its own."""
    run = whole[1].seeds["batch", "same"][1]
    training = TINY.training("batch", run.job.trial, run.job.steps, run.job.seed)
    trainer, best = Trainer(training, load("digits")), (-1, None)
    accuracies = []
    for evaluation in trainer.run():
        accuracies.append(round(evaluation.accuracy, 6))
        best = max(
            best, (evaluation.accuracy, -evaluation.step, trainer.model.get_weights()), key=lambda each: each[:2]
        )
    assert run.accuracy.tolist() == accuracies
    trainer.model.set_weights(best[2])
    images, labels = trainer.data.test.inputs, trainer.data.test.labels
    right = (trainer.model.predict(images, verbose=0).argmax(-1) == labels).mean()
    assert run.test_accuracy == pytest.approx(right, abs=1e-6)


class FakeTrainer:
    """A trainer whose weights are the step that it has come to."""

    def __init__(self, accuracies, diverges_at=None):
        self.accuracies, self.diverges_at = accuracies, diverges_at
        self.data = types.SimpleNamespace(test="the test images")
        self.model = types.SimpleNamespace(get_weights=lambda: self.at, set_weights=self.set)
        self.tested = []

    def set(self, weights):
        self.at = weights

    def run(self, learning_rate, seed):
        for index, accuracy in enumerate(self.accuracies):
            self.at = 10 * index
            loss = math.nan if self.at == self.diverges_at else 1.0 if self.at else None
            yield Evaluation(self.at, 0.0, loss, accuracy)

    def evaluate(self, split):
        self.tested.append((split, self.at))
        return self.at / 1000


def made(seed, *arguments):
    trainer = FakeTrainer(*arguments)
    return one_run(trainer, Job("batch", Trial(1.0, 0.0, 0.0, 1.0), 40, seed), lambda share, note: None), trainer


def test_the_best_evaluation_is_tested_and_of_equals_the_first():
    found, trainer = made(1, [0.1, 0.5, 0.9, 0.9, 0.3])
    assert trainer.tested == [("the test images", 20)]
    assert found.test_accuracy == 0.02
    assert found.accuracy.tolist() == [0.1, 0.5, 0.9, 0.9, 0.3]


def test_a_tuning_run_is_not_tested():
    found, trainer = made(0, [0.1, 0.5, 0.9, 0.9, 0.3])
    assert found.test_accuracy is None
    assert not trainer.tested


def test_a_run_that_diverges_ends_there_and_is_tested_with_the_best_weights_before():
    found, trainer = made(1, [0.1, 0.5, 0.4, 0.9], 30)
    assert (found.diverged_at, found.steps.tolist()) == (30, [0, 10, 20])
    assert trainer.tested == [("the test images", 10)]
    assert found.crossing(0.5) == math.inf


def test_the_cost_of_a_step_is_measured_in_turns_for_all_arms(monkeypatch):
    turns = []

    class Fake:
        model = types.SimpleNamespace(count_params=lambda: 7)

        def __init__(self, recipe, data):
            self.arm = recipe.norm

        def start(self):
            pass

        def advance(self, steps):
            turns.append(self.arm)
            return 0.0, 0.002 * steps

    monkeypatch.setattr(step_cost, "Trainer", Fake)
    trial = TINY.space.draw(1)[0]
    recipes = {arm: TINY.training(arm, trial, 40, 1) for arm in ("none", "batch")}
    costs = step_cost.measure_costs(recipes, None, Recording())
    assert costs.ratio("batch", "none") == pytest.approx(1)
    assert {len(cost.seconds) for cost in costs.arms.values()} == {step_cost.ROUNDS}
    assert costs.arms["batch"].median == pytest.approx(0.002)
    after = turns[2:]
    assert after == [None, ("batch", {"momentum": 0.9})] * step_cost.ROUNDS


def test_default_recipes_of_the_zoo_differ_in_their_folders():
    from bn_keras.experiments.comparison.zoo import ZOO, place_of

    assert len({place_of(recipe) for recipe in ZOO}) == len(ZOO)
    assert default_recipe("mlp_sigmoid", "mnist", steps=20_000) in ZOO


def test_costs_of_other_arms_are_refused_by_name(tmp_path):
    made_up.folder(tmp_path)
    costs = json.loads((tmp_path / "costs.json").read_text(encoding="utf-8"))
    del costs["arms"]["batch"]
    (tmp_path / "costs.json").write_text(json.dumps(costs), encoding="utf-8")
    with pytest.raises(ResultsError, match="costs.json' has the arms none. Remove it, and resume"):
        read_comparison(tmp_path)
