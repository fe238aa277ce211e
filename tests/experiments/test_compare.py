"""The comparison on a tiny recipe: complete, resumable, and never half-written."""

import dataclasses
import json

import pytest

from bn_keras.experiments import ResultsError, answers, compare, default_recipe, read_results
from bn_keras.experiments.compare import Watcher, to_json

TINY = default_recipe("mlp_sigmoid", steps=40, evaluate_every=20, width=0.2, learning_rates=(0.1, 1.0), seeds=(0, 1))


class Interrupting(Watcher):
    """Presses Ctrl-C when so many runs have ended."""

    def __init__(self, after):
        self.left = after

    def run_ended(self, run):
        self.left -= 1

    def evaluated(self, evaluation):
        if self.left == 0 and evaluation.step:
            raise KeyboardInterrupt


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
    (tmp_path / "results.json").write_text(to_json(results))
    with pytest.raises(ResultsError, match="exists already. Go on from it with --resume"):
        compare(TINY, tmp_path)
    with pytest.raises(ResultsError, match="was made with batch_size=60, not 30"):
        compare(dataclasses.replace(TINY, batch_size=30), tmp_path, resume=True)
    assert read_results(tmp_path) == results


@pytest.mark.parametrize(
    ("content", "words"), [("{", "is not JSON"), ("[]", "does not hold"), ('{"runs": []}', "does not hold")]
)
def test_a_file_that_is_no_result_is_refused(tmp_path, content, words):
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(ResultsError, match=words):
        compare(TINY, tmp_path, resume=True)


def test_results_that_are_not_there(tmp_path):
    with pytest.raises(ResultsError, match="Make it with `bn-keras compare`"):
        read_results(tmp_path)


def test_json_has_a_line_for_each_run(results):
    text = to_json(results)
    assert json.loads(text) == results
    assert sum(line.startswith('  {"arm"') for line in text.splitlines()) == 8
