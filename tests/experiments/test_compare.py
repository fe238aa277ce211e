"""The comparison on a tiny recipe: complete, resumable, and never half-written."""

import dataclasses

import pytest

from bn_keras.experiments import ResultsError, answers, compare, default_recipe, read_results
from bn_keras.experiments.compare import FILE
from bn_keras.lab.watcher import Watcher

TINY = default_recipe("mlp_sigmoid", steps=40, evaluate_every=20, width=0.2, learning_rates=(0.1, 1.0), seeds=(0, 1))


class Interrupting(Watcher):
    """Presses Ctrl-C in the run after so many finished ones."""

    def __init__(self, after):
        self.left = after

    def item_ends(self, note):
        self.left -= 1

    def item_advances(self, share, note):
        if self.left == 0 and share:
            raise KeyboardInterrupt


class Recording(Watcher):
    """Writes down what it is told."""

    def __init__(self):
        self.told = []

    def begin(self, unit, total, done=0, notes=()):
        self.told.append((unit, total, done))

    def item_begins(self, name):
        self.told.append(name)

    def item_advances(self, share, note):
        self.told.append(share)

    def item_ends(self, note):
        self.told.append(note)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return compare(TINY, tmp_path_factory.mktemp("whole"))


def outcomes(results):
    return {(run["arm"], run["learning_rate"], run["seed"]): (run["step"], run["accuracy"]) for run in results["runs"]}


def test_results_hold_every_run_and_what_made_them(results):
    assert len(outcomes(results)) == len(results["runs"]) == 2 * 2 * 2
    assert results["recipe"] == TINY.to_dict()
    assert results["parameters"] == {"none": 2350, "batch": 2530}
    assert set(results["versions"]) == {"bn_keras", "tensorflow", "keras", "numpy", "python"}
    assert results["machine"]["processor"]
    for run in results["runs"]:
        assert run["step"] == [0, 20, 40]
        assert run["loss"][0] is None
        assert run["seconds"][0] == 0 < run["seconds"][1] < run["seconds"][2]
    assert len(answers(results)) == 2


def test_the_watcher_is_told_of_every_run(tmp_path):
    watcher = Recording()
    results = compare(dataclasses.replace(TINY, learning_rates=(0.1,), seeds=(0,)), tmp_path, watcher=watcher)
    last = [f"{run['accuracy'][-1]:.2%}, {run['seconds'][-1]:.1f} s" for run in results["runs"]]
    assert watcher.told == [
        ("run", 2, 0),
        *("without norm, lr 0.1, seed 0", 0, 0.5, 1, last[0]),
        *("batch norm, lr 0.1, seed 0", 0, 0.5, 1, last[1]),
    ]


def test_an_interrupted_comparison_goes_on_where_it_was(results, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        compare(TINY, tmp_path, watcher=Interrupting(after=3))
    kept = read_results(tmp_path)["runs"]
    assert len(kept) == 3
    with pytest.raises(ValueError, match="5 runs of the recipe are not in the results"):
        answers(read_results(tmp_path))
    resumed = compare(TINY, tmp_path, resume=True)
    assert resumed["runs"][:3] == kept
    assert outcomes(resumed) == outcomes(results)
    assert read_results(tmp_path) == resumed
    assert compare(TINY, tmp_path, resume=True) == resumed, "a finished one is read, not run"


def test_results_are_not_overwritten_nor_mixed(results, tmp_path):
    (tmp_path / "results.json").write_text(FILE.to_json(results))
    with pytest.raises(ResultsError, match="exists already. Continue it with --resume"):
        compare(TINY, tmp_path)
    with pytest.raises(ResultsError, match="was made with batch_size=60, not 30"):
        compare(dataclasses.replace(TINY, batch_size=30), tmp_path, resume=True)
    assert read_results(tmp_path) == results


def test_results_that_are_not_there(tmp_path):
    with pytest.raises(ResultsError, match="Make it with `bn-keras compare`"):
        read_results(tmp_path)
