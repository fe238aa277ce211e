"""The answers, on curves made up so that they are known."""

import pytest

from bn_keras.experiments import answers, report
from bn_keras.experiments.analysis import curves, standard_error


def run(arm, rate, seed, accuracy, diverged_at=None):
    steps = [10 * i for i in range(len(accuracy))]
    seconds = [step * (0.2 if arm == "batch" else 0.1) for step in steps]
    loss = [None] + [1.0] * (len(accuracy) - 1)
    if diverged_at:
        loss[-1] = None
    return {
        "arm": arm, "learning_rate": rate, "seed": seed, "diverged_at": diverged_at,
        "step": steps, "seconds": seconds, "loss": loss, "accuracy": accuracy,
    }  # fmt: skip


def made_up():
    """At 0.1 both learn, norm faster; at 1.0 one seed diverges without norm and norm is faster still."""
    runs = [
        run("none", 0.1, 0, [0.1, 0.3, 0.5, 0.8, 0.8]),
        run("none", 0.1, 1, [0.1, 0.3, 0.5, 0.7, 0.8]),
        run("none", 1.0, 0, [0.1, 0.9, 0.9, 0.9, 0.9]),
        run("none", 1.0, 1, [0.1, 0.4, 0.1], diverged_at=20),
        run("batch", 0.1, 0, [0.1, 0.5, 0.85, 0.9, 0.9]),
        run("batch", 0.1, 1, [0.1, 0.5, 0.79, 0.9, 0.9]),
        run("batch", 1.0, 0, [0.1, 0.9, 0.95, 0.95, 0.95]),
        run("batch", 1.0, 1, [0.1, 0.9, 0.95, 0.95, 0.95]),
    ]
    recipe = {
        "preset": "mlp_sigmoid", "data": "digits", "learning_rates": [0.1, 1.0], "seeds": [0, 1],
        "steps": 40, "evaluate_every": 10, "evaluation_examples": 100, "optimizer": "sgd", "batch_size": 60,
        "width": 1.0, "norm_momentum": 0.9,
    }  # fmt: skip
    return {
        "recipe": recipe,
        "data": {
            "name": "digits",
            "classes": 10,
            "image_shape": [8, 8, 1],
            "test_examples": 360,
            "training_examples": 1437,
        },
        "parameters": {"none": 10, "batch": 12},
        "machine": {"processor": "abacus", "cores": 1},
        "versions": {"bn_keras": "0"},
        "started": "2020-01-01T00:00:00+00:00",
        "runs": runs,
    }


def test_both_questions():
    same, own = answers(made_up())
    assert same.target == own.target == pytest.approx(0.8)
    assert [curve.learning_rate for curve in (same.without, same.with_norm)] == [0.1, 0.1]
    assert [curve.learning_rate for curve in (own.without, own.with_norm)] == [0.1, 1.0]
    without, with_norm = same.crossings
    assert (without.step, without.seconds, without.step_of_seed) == (40, pytest.approx(4.0), (30, 40))
    assert (with_norm.step, with_norm.seconds, with_norm.step_of_seed) == (20, pytest.approx(4.0), (20, 30))
    assert (same.fewer_steps, same.less_time) == (2, pytest.approx(1))
    assert (own.fewer_steps, own.less_time) == (4, pytest.approx(2))


def test_of_equally_good_rates_the_faster_is_the_best():
    results = made_up()
    for each in results["runs"]:
        if each["arm"] == "batch" and each["learning_rate"] == 0.1:
            each["accuracy"] = [0.1, 0.2, 0.2, 0.2, 0.95]
    assert answers(results)[1].with_norm.learning_rate == 1.0


def test_a_diverged_run_counts_as_chance():
    curve = curves(made_up())["none"][1.0]
    assert curve.diverged == 1
    assert curve.accuracy[1].tolist() == [0.1, 0.4, 0.1, 0.1, 0.1]
    assert curve.best == pytest.approx(0.65)


def test_never_is_never():
    results = made_up()
    for each in results["runs"]:
        if each["arm"] == "batch":
            each["accuracy"] = [0.1] * 5
    for answer in answers(results):
        assert answer.crossings[1].step is None
        assert answer.fewer_steps is answer.less_time is None
    rows = report.answer_rows(results)
    assert rows[1][3:] == ("never", "never never", "never", "–", "–")
    assert any("hardly learned" in line for line in report.warnings(results))


def test_a_lower_target_is_reached_earlier():
    same, _ = answers(made_up(), lowered_by=0.06)
    assert (same.crossings[0].step, same.crossings[1].step) == (30, 20)
    assert standard_error(made_up()) == pytest.approx((0.8 * 0.2 / 200) ** 0.5)
    assert "(2.83 points) lower, batch norm: 2.0× fewer steps, 1.0× less time at the same" in report.sensitivity_line(
        made_up()
    )


def test_rows_tell_what_happened():
    rows = report.answer_rows(made_up())
    assert rows[0] == ("at the same learning rate", "without norm", "0.1", "40", "30 40", "4.00", "1×", "1×")
    assert rows[1][-2:] == ("2.00×", "1.00×")
    assert report.sweep_rows(made_up()) == [
        ("0.1", "80.00%", "90.00%"),
        ("1", "65.00% (1 of 2 diverged)", "95.00%"),
    ]
    assert any("edge of the sweep" in line for line in report.warnings(made_up()))
    assert any("Fewer than three seeds" in line for line in report.warnings(made_up()))


def test_a_loss_is_told_as_one():
    assert report.more_or_less(0.5, "fewer", "more") == "2.0× more"
    assert report.more_or_less(12.3, "fewer", "more") == "12× fewer"


def test_missing_runs_are_no_answer():
    results = made_up()
    results["runs"].pop()
    with pytest.raises(ValueError, match="1 runs of the recipe are not in the results"):
        answers(results)
