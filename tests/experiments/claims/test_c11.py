"""C11: the rule on planted runs, and the norms and rates of the arms."""

import pytest

from bn_keras.experiments import load
from bn_keras.experiments.claims import c11_batch_size as c11
from bn_keras.experiments.claims.claim import CONDITIONALLY, FAILS, HOLDS, Form
from bn_keras.models import norm
from tests.experiments.claims.filled import filled, run, tuned, verdict

FORM = Form(quick=True)
HOLDING = {("batch", 2): 0.6, ("batch", 8): 0.85, ("batch", 32): 0.92, ("layer", 2): 0.9, ("layer", 8): 0.9,
           ("layer", 32): 0.89}  # fmt: skip


def planted(changes=(), diverged=(), edge=()):
    """Runs whose accuracies differ by norm and batch size, and a little by the seed."""
    accuracies = HOLDING | dict(changes)

    def values_of(cell):
        arm, rates = (cell["norm"], cell["batch"]), c11.rates_of(FORM, cell["batch"])
        if cell["seed"] == 0:
            return run(tuned(cell, rates[-1 if arm == edge else 1]))
        return run(None if (*arm, cell["seed"]) in diverged else accuracies[arm] + 0.002 * cell["seed"])

    return verdict(c11.CLAIM, FORM, values_of)


def test_the_claim_holds_where_only_batch_norm_loses_by_small_batches():
    finding = planted()
    assert finding.verdict == HOLDS
    assert "cost batch norm 32.0 points" in finding.because
    assert planted(edge=("batch", 2)).conditions == "within the swept learning rates"
    assert planted(edge=("batch", 8)).verdict == HOLDS, "the rule does not read these runs"


def test_the_claim_fails_where_batch_norm_is_level_in_one_seed():
    assert planted({("batch", 2): 0.896}).verdict == FAILS
    assert planted({("batch", 2): 0.895}).verdict == HOLDS


@pytest.mark.parametrize(
    ("changes", "condition"),
    [
        ({("batch", 32): 0.8799}, "behind layer norm with moderate batches too: 32"),
        ({("layer", 8): 0.92}, "layer norm loses"),
    ],
)
def test_the_claim_holds_under_conditions_where_more_than_batch_size_matters(changes, condition):
    finding = planted(changes)
    assert finding.verdict == CONDITIONALLY
    assert condition in finding.conditions


def test_batch_norm_is_level_up_to_a_point_and_only_with_moderate_batches():
    finding = planted({("batch", 32): 0.8801, ("batch", 8): 0.5})
    assert finding.verdict == HOLDS
    assert "−40.0 with batches of 8, −1.0 with batches of 32." in finding.because


@pytest.mark.parametrize("batch", [16, 64])
def test_the_full_form_judges_two_batch_sizes_that_are_named_before(batch):
    def values_of(cell):
        losses = {("batch", 2): 0.2, ("batch", 4): 0.2, ("batch", batch): 0.02, ("batch", 256): 0.1}
        return run(0.6 - losses.get((cell["norm"], cell["batch"]), 0.0) + 0.001 * cell["seed"])

    finding = verdict(c11.CLAIM, Form(), values_of)
    assert finding.conditions == f"batch norm is behind layer norm with moderate batches too: {batch}"


def test_the_norms_that_the_rule_compares_have_more_seeds():
    found = filled(c11.CLAIM, Form(), lambda cell: run(0.5))
    assert {norm: len(found.where(norm=norm, batch=2)) - len(c11.RATES) for norm in ("batch", "layer", "group")} == {
        "batch": 5,
        "layer": 5,
        "group": 3,
    }


def test_a_run_that_diverged_counts_as_a_miss_and_is_noted():
    finding = planted(diverged=[("layer", 2, 1)])
    assert finding.verdict == FAILS
    assert any("1 of 42 runs diverged" in note for note in finding.notes)


def test_the_full_form_has_every_norm_and_ghosts_of_larger_batches_only():
    arms = c11.arms_of(Form())
    assert {arm["norm"] for arm in arms} == {"batch", "ghost", "renorm", "group", "layer", "none"}
    assert {arm["batch"] for arm in arms if arm["norm"] == "ghost"} == {64, 256}
    for arm in arms:
        norm(c11.norm_of(arm["norm"], arm["batch"]))


def test_moving_averages_forget_as_much_per_example_with_every_batch_size():
    shares = [norm(c11.norm_of("batch", batch)).momentum ** (640 / batch) for batch in (2, 64, 256)]
    assert shares == pytest.approx([0.9**10] * 3)


def test_every_norm_tries_the_same_rates():
    found = filled(c11.CLAIM, FORM, lambda cell: run(0.5))
    rates = {(cell["norm"], cell["batch"]): [] for cell, _ in found.where(seed=0)}
    for cell, _ in found.where(seed=0):
        rates[cell["norm"], cell["batch"]].append(cell["learning_rate"])
    assert all(rates["batch", batch] == rates["layer", batch] == c11.rates_of(FORM, batch) for batch in (2, 8, 32))


@pytest.mark.slow
def test_a_cell_trains():
    (arm,) = [arm for arm in c11.arms_of(FORM) if (arm["norm"], arm["batch"]) == ("layer", 32)]
    values = c11.measure(arm | {"learning_rate": 0.07, "seed": 1}, load)
    assert values["steps"] == [0, 96]
    assert values["test_accuracy"] > 0.5
