"""A comparison in words and rows."""

import dataclasses
import io
import math

import pytest
import rich.console

from bn_keras.cli.terminal import print_table
from bn_keras.experiments import summarize
from bn_keras.experiments.comparison import report
from tests.experiments.comparison import made_up
from tests.experiments.comparison.test_analysis import BY_HAND, INFINITY, NEVER, comparison

FAST, MIDDLE, SLOW = (0.1, 0.8, 0.8, 0.8, 0.8), (0.1, 0.1, 0.8, 0.8, 0.8), (0.1, 0.1, 0.1, 0.8, 0.8)
GROUPS = ("group", {"groups": 4})
TABLES = [
    (report.SPEED_COLUMNS, report.speed_rows),
    (report.SETTING_COLUMNS, report.setting_rows),
    (report.ACCURACY_COLUMNS, report.accuracy_rows),
    (report.COST_COLUMNS, report.cost_rows),
    (report.EASIER_COLUMNS, report.easier_rows),
    (report.SENSITIVITY_COLUMNS, report.sensitivity_rows),
]


@pytest.fixture(scope="module")
def several():
    return made_up.comparison(norms=(None, "batch", "layer", GROUPS))


def verdict(none, batch, costs=(1.0, 2.0)):
    return report.verdict(comparison(none=[none] * 5, batch=[batch] * 5, costs=costs).speedup("batch"))


def test_long_times_are_not_powers_of_ten():
    slow = comparison(none=[SLOW] * 5, batch=[FAST] * 5, costs=(3.69, 1234.0))
    assert [row[2:4] for row in report.cost_rows(slow)] == [
        ("3,690", "3,690 to 3,690"), ("1,234,000", "1,234,000 to 1,234,000"),
    ]  # fmt: skip
    assert "e+0" not in str(report.speed_rows(slow))


def test_a_faster_arm_has_its_gain_with_the_interval():
    said = verdict(SLOW, FAST)
    assert said == (
        "With batch, 3.00× fewer steps and 1.50× less time, each arm tuned (95 % interval of the steps: 3.00–3.00×)."
    )


def test_a_slower_arm_is_told_as_one():
    assert "With batch, 3.00× more steps and 6.00× more time" in verdict(FAST, SLOW)
    assert "1×" not in verdict(FAST, SLOW).split(":")[1], "an interval below 1 is no doubt"
    assert "With batch, 1.50× fewer steps and 1.33× more time" in verdict(SLOW, MIDDLE)


def test_an_interval_around_one_leaves_the_question_open():
    mixed = comparison(none=[FAST, SLOW, MIDDLE] * 2, batch=[SLOW, FAST, MIDDLE] * 2)
    assert "which the seeds do not tell from 1×" in report.verdict(mixed.speedup("batch"))


def test_one_seed_has_no_interval_and_does_not_claim_one():
    said = report.verdict(comparison(none=[SLOW], batch=[FAST]).speedup("batch"))
    assert "one seed" in said
    assert "which the seeds do not tell from 1×" in said


def test_who_does_not_get_there_is_named():
    none, batch = [SLOW] * 4, [FAST, NEVER, NEVER, NEVER]
    said = report.verdict(comparison(none=none, batch=batch).speedup("batch"))
    assert said == "With batch, 3 of 4 seeds miss the target (each arm tuned)."
    found = comparison(none=[NEVER] * 4, batch=[FAST] * 4).speedup("batch", shift=0.3)
    assert (
        report.verdict(found) == "Only batch reaches the target; 4 of 4 seeds of the baseline miss it (each arm tuned)."
    )
    found = comparison(none=[NEVER] * 4, batch=[NEVER] * 4).speedup("batch", shift=0.3)
    assert report.verdict(found) == "Neither batch nor the baseline reaches the target (each arm tuned)."
    assert "at the same settings" in report.verdict(BY_HAND.speedup("batch", "same"))


def test_a_baseline_that_learns_nothing_is_told_as_one():
    guessing = comparison(none=[NEVER] * 5, batch=[FAST] * 5)
    assert report.verdict(guessing.speedup("batch")) == (
        "Guessing reaches the target, so it says nothing about batch (each arm tuned)."
    )
    assert [row[4] for row in report.speed_rows(guessing)] == ["1×", "–", "–"]
    assert any("hardly learns anything" in note for note in report.notes(guessing))


def test_rows_hold_the_numbers_of_the_comparison():
    base, fast, same = report.speed_rows(BY_HAND)
    assert base == ("none", "the one", "30 (20–30)", "1 of 3", "1×", "", "30", "1×")
    assert fast[:4] == ("batch", "fastest", "10 (10–20)", "0 of 3")
    assert fast[4].startswith("3.00× (")
    assert fast[5:] == ("94%", "20", "1.50×")
    assert same[:4] == ("batch", "same", "30 (10–30)", "1 of 3")
    base, hard = report.speed_rows(BY_HAND, hard=True)
    assert base[2:4] == ("never (30–30)", "2 of 3")
    assert hard[4].startswith("∞ (")
    assert hard[7] == "∞"
    assert report.target_line(BY_HAND).startswith("Target: 80.00% validation accuracy (standard error 4.00%)")
    assert "Harder target: 90.00%" in report.target_line(BY_HAND)


@pytest.mark.parametrize(
    ("ratio", "words"), [(0.5, "0.50×"), (9.94, "9.94×"), (12.3, "12×"), (INFINITY, "∞"), (0, "misses")]
)
def test_a_ratio_has_three_digits_or_a_word(ratio, words):
    assert report.times(ratio) == words
    assert report.times(math.nan) == "neither gets there"


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [(1.5, 2.5, "1.50–2.50×"), (0, 2.5, "0–2.50×"), (2, INFINITY, "2.00–∞"), (math.nan, math.nan, "one seed")],
)
def test_an_interval_has_both_ends(low, high, words):
    assert report.interval(dataclasses.replace(BY_HAND.speedup("batch"), low=low, high=high)) == words


@pytest.mark.parametrize(("low", "high", "words"), [(0, 0, "misses"), (0, 1.5, "misses (0–1.50×)"), (1, 1, "misses")])
def test_an_arm_that_always_misses_has_no_interval(low, high, words):
    speedup = dataclasses.replace(BY_HAND.speedup("batch"), crossings=(INFINITY,) * 3, low=low, high=high)
    assert report.gain(speedup) == words


@pytest.mark.slow
@pytest.mark.parametrize(("columns", "rows"), TABLES, ids=[rows.__name__ for _, rows in TABLES])
def test_every_row_has_a_cell_for_each_column(several, columns, rows):
    found = rows(several)
    assert {len(row) for row in found} == {len(columns)}
    assert {cell for row in found for cell in row} >= {"batch", "layer", "group:groups=4"}


@pytest.mark.slow
@pytest.mark.parametrize(("columns", "rows"), TABLES[:4], ids=[rows.__name__ for _, rows in TABLES[:4]])
def test_tables_fit_a_terminal_of_eighty_columns(several, columns, rows):
    terminal = rich.console.Console(width=80, record=True, file=io.StringIO())
    print_table(terminal, "", columns, rows(several))
    lines = terminal.export_text().splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) <= 8 + 3 * len(rows(several)), "no column is so narrow that a row takes more than three lines"


def test_each_arm_has_three_winners_and_the_baseline_one(several):
    winners = [row[:2] for row in report.setting_rows(several)]
    assert winners[0] == ("none", "the one")
    assert winners[1:4] == [("batch", "fastest"), ("batch", "accurate"), ("batch", "same")]
    assert len(winners) == 1 + 3 * 3


def test_trials_that_diverged_are_counted(several):
    diverged = {arm: sum(run.diverged_at is not None for run in pool) for arm, pool in several.plan.pools.items()}
    assert diverged["none"] > diverged["batch"]
    assert {row[0]: row[4] for row in report.accuracy_rows(several)}["none"] == f"{diverged['none']} of 16"


@pytest.mark.slow
def test_a_summary_has_a_sentence_for_each_arm_and_the_doubts(several):
    said = summarize(several)
    for arm in several.arms:
        assert sum(line.startswith(f"With {arm}, ") for line in said.splitlines()) == 2
    assert said.startswith("mlp_sigmoid on digits. Target: ")
    few = made_up.comparison(seeds=3, sketch=True)
    assert summarize(few).startswith("mlp_sigmoid on digits (a sketch: few trials and seeds). ")
    assert "Note: Intervals of 3 seeds are wide." in summarize(few)


def test_a_baseline_that_still_learns_with_new_seeds_is_noted():
    learning = (0.1, 0.2, 0.3, 0.4, 0.8)
    assert any(
        "still gained 10.0 standard errors" in note for note in report.notes(comparison([learning] * 5, [FAST] * 5))
    )
