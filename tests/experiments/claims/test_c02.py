"""C2: the rule on planted runs, and runs that learn and diverge."""

import pytest

from bn_keras.experiments import load
from bn_keras.experiments.claims.c02_higher_rates import CLAIM, bar, largest_rates
from bn_keras.experiments.claims.claim import CONDITIONALLY, FAILS, HOLDS, Form
from tests.experiments.claims.planted_runs import planted_curve, planted_measurements

FORM = Form()


def learns_until(none, batch, *, one_seed=None, test=0.9):
    """Measurements whose arms learn up to a rate, one seed of batch norm up to another one."""

    def values_of(cell):
        limit = none if cell["norm"] == "none" else batch
        if one_seed and cell["norm"] == "batch" and cell["seed"] == 0:
            limit = one_seed
        return planted_curve(test=test) if cell["learning_rate"] <= limit else planted_curve(diverged=True)

    return planted_measurements(CLAIM, FORM, values_of)


@pytest.mark.parametrize(
    ("none", "batch", "verdict"),
    [(0.1, 1.0, HOLDS), (0.1, 0.3, CONDITIONALLY), (0.1, 0.1, FAILS), (1.0, 0.1, FAILS), (0.3, 10.0, HOLDS)],
)
def test_the_distance_of_the_largest_rates_decides(none, batch, verdict):
    assert CLAIM.judge(FORM, learns_until(none, batch)).verdict == verdict


def test_the_worst_seed_decides():
    finding = CLAIM.judge(FORM, learns_until(0.1, 1.0, one_seed=0.3))
    assert finding.verdict == CONDITIONALLY
    assert "0.3–1" in finding.number


def test_half_the_way_from_chance_counts_as_learning():
    def values_of(cell):
        high = cell["learning_rate"] <= 0.1
        return planted_curve(test=0.9 if high else 0.5 if cell["norm"] == "batch" else 0.499)

    found = planted_measurements(CLAIM, FORM, values_of)
    assert bar(found, "batch") == 0.5
    assert largest_rates(found, "batch") == [10.0] * 3
    assert largest_rates(found, "none") == [0.1] * 3


def test_a_note_says_that_the_sweep_ended_first_and_what_diverged():
    notes = " ".join(CLAIM.judge(FORM, learns_until(3.0, 10.0)).notes)
    assert "at least 10" in notes
    assert "without norm at 10 (seeds 0, 1, 2)" in notes


@pytest.mark.slow
def test_a_network_without_norm_diverges_at_a_large_rate_and_learns_at_a_small_one():
    cell = next(cell for cell in CLAIM.cells(Form(quick=True), None) if cell["norm"] == "none") | {"steps": 80}
    load_digits = lambda name, **options: load(name)  # noqa: E731
    assert CLAIM.measure(cell | {"learning_rate": 10.0}, load_digits)["diverged_at"] == 20
    learned = CLAIM.measure(cell | {"learning_rate": 0.03}, load_digits)
    assert learned["diverged_at"] is None
    assert learned["test_accuracy"] > 0.5


def test_the_figure_draws_runs_that_diverged():
    CLAIM.draw(FORM, learns_until(0.1, 1.0)).canvas.draw()
