"""C12: the invariances of each norm, against the published table and the equation with ε."""

import numpy as np
import pytest

from bn_keras.experiments.claims.c12_scale import CHANGES, CLAIM, FACTORS, KINDS, PUBLISHED, SCALE, cells, measure
from bn_keras.experiments.claims.claim import CONDITIONALLY, FAILS, HOLDS, Form, Found

QUICK = Form(quick=True)
# What a change does when a norm ignores it, and when it does not.
SAME, OTHER = 1e-9, 0.5


def planted(changed=(), factors=None, rounded=0.0):
    """Measurements as published; `changed` are the runs (kind, seed, change, difference) that differ.

    `rounded` is what float32 adds to what ε does not explain.
    """
    values = {
        (kind, seed): {
            change: SAME if same else OTHER
            for change, same in zip(CHANGES, PUBLISHED.get(kind, PUBLISHED["batch"]), strict=True)
        }
        for kind in KINDS
        for seed in range(3)
    }
    for kind, seed, change, difference in changed:
        values[kind, seed][change] = difference
    factors = factors or {}
    by_factor = {
        "difference": factors.get("difference", [0.5] * 5 + [0.005] * 5),
        "unexplained": factors.get("unexplained", [1e-13] * 10),
        "smallest_variance": [1.0] * 5 + [100.0] * 5,
    }
    in_float32 = by_factor | {"unexplained": [each + rounded for each in by_factor["unexplained"]]}
    of_dtype = {"float64": by_factor, "float32": in_float32}
    return Found(
        (cell, values[cell["kind"], cell["seed"]] if cell["part"] == "changes" else of_dtype[cell["dtype"]])
        for cell in cells(QUICK, Found())
    )


def verdict(**options):
    return CLAIM.judge(QUICK, planted(**options)).verdict


def test_changes_that_epsilon_explains_let_the_claim_hold():
    finding = CLAIM.judge(QUICK, planted())
    assert finding.verdict == HOLDS
    assert finding.number.startswith("ε explains each change to within 1e-13 of the output in float64, 1e-13 of the")
    assert "up to 50 %, and by at most 0.5 % where the variance is at least 50 ε" in finding.because
    assert finding.rows[KINDS.index("layer")] == (
        "layer", "same", "differs", "same", "same", "same", "differs", "same"
    )  # fmt: skip


def test_rounding_beyond_its_limit_is_a_condition_in_float32_and_refutes_in_float64():
    assert verdict(factors={"unexplained": [1e-12] * 10}) == HOLDS
    finding = CLAIM.judge(QUICK, planted(factors={"unexplained": [1e-13] * 10}, rounded=1.01e-4))
    assert finding.verdict == CONDITIONALLY
    assert finding.conditions.startswith("in float64")
    assert verdict(factors={"unexplained": [1e-11] + [1e-13] * 9}) == FAILS


def test_one_run_refutes_the_claim():
    for change in SCALE:
        assert verdict(changed=[("layer", 2, change, 1e-5)]) == FAILS, change
    contrast = list(CHANGES)[4]
    assert verdict(changed=[("batch", 1, contrast, SAME)]) == FAILS, "batch norm that ignores one example's scale"
    assert verdict(changed=[("rms", 1, contrast, 1e-4)]) == HOLDS, "another kind has no part in the verdict"


@pytest.mark.parametrize("kind", ["batch", "layer"])
def test_the_layers_have_the_published_invariances(kind):
    differences = measure({"part": "changes", "kind": kind, "seed": 0}, None)
    assert tuple(differences[change] < 1e-6 for change in CHANGES) == PUBLISHED[kind]
    assert all(difference < 1e-6 or difference > 1e-2 for difference in differences.values())


def test_the_change_over_the_factors_is_that_of_the_equation():
    figures = measure({"part": "factors", "dtype": "float64", "seed": 3}, None)
    random = np.random.default_rng(3)
    inputs = random.normal(size=(32, 6, 24))
    values = inputs @ (random.normal(size=(24, 16)) / np.sqrt(24))

    def normalized(scaled):
        return (scaled - scaled.mean(-1, keepdims=True)) / np.sqrt(scaled.var(-1, keepdims=True) + 1e-3)

    for factor, difference in zip(FACTORS, figures["difference"], strict=True):
        expected = np.linalg.norm(normalized(factor * values) - normalized(values)) / np.linalg.norm(normalized(values))
        assert difference == pytest.approx(expected, rel=1e-3)
    assert max(figures["unexplained"]) < 1e-12


def test_the_figure_marks_every_kind_and_change():
    figure = CLAIM.draw(QUICK, planted(changed=[("rms", 1, next(iter(CHANGES)), 1e-4)]))
    _, table = figure.axes
    assert len(table.collections) == len(KINDS) * len(CHANGES)
