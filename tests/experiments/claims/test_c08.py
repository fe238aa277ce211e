"""C8: the rule on planted gradients, the theory against published figures, and growth that is known."""

import math
import re

import keras
import numpy as np
import pytest

from bn_keras.experiments.claims import c08_explosion as c08
from bn_keras.experiments.claims.claim import CONDITIONALLY, FAILS, HOLDS, Form
from tests.experiments.claims.filled import filled, verdict

QUICK, FULL = Form(quick=True), Form()


def norms_of(cell, factors):
    """Gradient norms that grow by these factors, from the last layer to the first."""
    return np.cumprod([1.0, *factors])[::-1].tolist()


def planted(form=FULL, changes=(), skips=lambda place: 1 + 0.5 / place):
    """Growth as in theory; `changes` replaces the growth of a network, or of one of its batch sizes or seeds."""
    changes = dict(changes)

    def values_of(cell):
        network, batch = cell["network"], cell["batch"]
        known = c08.THEORY[network](batch) if network in c08.THEORY else 1.0
        for part in (network, (network, batch), (network, batch, cell["seed"])):
            known = changes.get(part, known)
        places = range(cell["depth"] - 1, 0, -1)
        factors = [skips(place) if network == "relu with skips" else known for place in places]
        return {"gradient_norm": norms_of(cell, factors)}

    return verdict(c08.CLAIM, form, values_of)


@pytest.mark.parametrize("form", [QUICK, FULL])
def test_the_claim_holds_where_growth_is_that_of_the_theory_and_skips_cure_it(form):
    finding = planted(form)
    assert finding.verdict == HOLDS
    assert "at most 0.00 %" in finding.because


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({("relu", 8): 1.337 * 1.021}, r"\+2.1 % \(relu, batch 8\)"),
        ({("relu", 32): 1.234 * 0.979}, r"−2.1 % \(relu, batch 32\)"),
        ({("linear", 6): 1.0}, r"−13.4 % \(linear, batch 6\)"),
        ({("linear", 8): 1.0}, r"−8.7 % \(linear, batch 8\)"),
        ({("linear", 16): 1.0}, r"−3.6 % \(linear, batch 16\)"),
        ({("relu", 256): 1.2112 * 1.011}, r"\(relu, batch 256\)"),
    ],
)
def test_the_claim_holds_under_conditions_where_growth_differs_from_the_theory(changes, words):
    finding = planted(changes=changes)
    assert finding.verdict == CONDITIONALLY
    assert finding.conditions.startswith("gradients explode, but the growth differs from theory by")
    assert re.search(words, finding.conditions)


def test_the_theory_is_met_within_two_percent_and_within_one_for_the_large_batch():
    near = {("relu", 8): 1.337 * 1.019, ("relu", 128): 1.216 * 0.981, ("relu", 256): 1.2112 * 0.991}
    assert planted(changes=near).verdict == HOLDS
    assert planted(changes={("relu", 256): 1.2112 * 0.989}).verdict == CONDITIONALLY


@pytest.mark.parametrize(
    "skips",
    [
        lambda place: 1.099,  # ×85 over 48 layers
        lambda place: 1.02,  # harmless, but it does not fall with the depth
        lambda place: 1 + 0.9 / place,  # falls, but by ×33
    ],
)
def test_skip_connections_cure_only_growth_that_falls_with_the_depth_and_stays_small(skips):
    finding = planted(skips=skips)
    assert finding.verdict == CONDITIONALLY
    assert finding.conditions.startswith("gradients explode, but skip connections do not stop it (up to ×")


def test_both_conditions_are_named():
    finding = planted(changes={"linear": 1.0}, skips=lambda place: 1.099)
    assert "(linear, batch 6) and skip connections do not stop it" in finding.conditions


def test_the_claim_fails_where_one_run_does_not_explode():
    assert planted(changes={("relu", 128, 3): 1.02}).verdict == FAILS
    assert planted(changes={"relu": 1.0}).verdict == FAILS


@pytest.mark.parametrize(("batch", "published"), [(8, 1.3373), (32, 1.2337), (128, 1.2164), (512, 1.2124)])
def test_the_theory_for_relu_is_that_of_the_paper(batch, published):
    assert c08.relu_theory(batch) == pytest.approx(published, abs=1e-4)


def test_the_theory_for_relu_tends_to_the_limit():
    assert c08.relu_theory(10**6) == pytest.approx(math.sqrt(math.pi / (math.pi - 1)), rel=1e-5)


def test_the_theory_of_linear_networks_is_far_from_one_where_it_is_tested():
    squared = {batch: c08.linear_theory(batch) ** 2 for batch in (6, 8, 16)}
    assert squared == pytest.approx({6: 4 / 3, 8: 6 / 5, 16: 14 / 13})
    tested = {cell["batch"] for cell in c08.cells(FULL, None) if cell["network"] == "linear"}
    assert tested == set(squared)
    assert min(map(c08.linear_theory, tested)) > 1 + c08.TOLERANCE


def test_the_drift_with_the_depth_is_noted():
    def values_of(cell):
        half = cell["depth"] // 2
        return {"gradient_norm": norms_of(cell, [1.2] * (cell["depth"] - 1 - half) + [1.25] * half)}

    (note,) = c08.judge(FULL, filled(c08.CLAIM, FULL, values_of)).notes
    assert "At width 1024 and batch 256 the growth is 1.2500 in the first half" in note
    assert "and 1.2000 in the second" in note


def small(network, batch=8, depth=20, width=128):
    return {"network": network, "batch": batch, "depth": depth, "width": width, "seed": 0}


@pytest.mark.slow
def test_a_measured_network_grows_as_in_theory():
    grown = c08.growth(c08.measure(small("relu"), None)["gradient_norm"])
    assert grown == pytest.approx(c08.relu_theory(8), rel=0.05)


@pytest.mark.parametrize("factor", [math.nan, math.inf, 0.0])
def test_gradients_that_are_not_numbers_are_an_error_and_no_verdict(factor, monkeypatch):
    monkeypatch.setattr(c08, "norm", lambda kind, epsilon: keras.layers.Rescaling(factor))
    with pytest.raises(ArithmeticError, match=r"finite and above 0\. Received: .*'network': 'relu'"):
        c08.measure(small("relu", depth=3, width=4), None)
