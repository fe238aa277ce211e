"""C14: the share of the residual branch, on planted variances and on networks with a known answer."""

import numpy as np
import pytest

from bn_keras.experiments.claims.c14_residual import (
    CLAIM,
    PRE_ACTIVATION,
    cells,
    growth,
    measure,
    preset_slopes,
    slope,
    theory_slopes,
)
from bn_keras.experiments.claims.claim import CONDITIONALLY, FAILS, HOLDS, Form, Found

QUICK = Form(quick=True)
BLOCKS = {"resnet20": 9, "resnet56": 27, PRE_ACTIVATION: 24}


def planted(exponent=-1.0, preset_exponent=-1.0, branch=1.0, doubling=2.0, gate=0.0, last_seed=None):
    """Variances that follow power laws; `last_seed` replaces the exponent of the last seed in theory."""

    def values(cell):
        blocks = np.arange(1, BLOCKS[cell["network"]] + 1)
        if cell["norm"] == "none":
            skip = doubling ** (blocks - 1.0)
            return {"skip": skip.tolist(), "branch": skip.tolist()}
        if cell["norm"] == "none, gated":
            return {"skip": np.ones(len(blocks)).tolist(), "branch": np.full(len(blocks), gate).tolist()}
        power = exponent if cell["network"] == PRE_ACTIVATION else preset_exponent
        if last_seed is not None and cell["seed"] == 2 and cell["network"] == PRE_ACTIVATION:
            power = last_seed
        return {"skip": (branch * blocks**-power).tolist(), "branch": np.full(len(blocks), branch).tolist()}

    return Found((cell, values(cell)) for cell in cells(QUICK, Found()))


def verdict(**options):
    return CLAIM.judge(QUICK, planted(**options)).verdict


def test_the_theory_in_both_kinds_of_networks_lets_the_claim_hold():
    finding = CLAIM.judge(QUICK, planted())
    assert finding.verdict == HOLDS
    assert finding.number == "variance of branch / skip ∝ blockⁿ, n = −1.00 (−1.00 to −1.00)"
    assert verdict(exponent=-1.09, preset_exponent=-0.76, branch=0.81, doubling=1.75) == HOLDS


def test_one_kind_alone_is_a_condition():
    for options in ({"exponent": -0.89}, {"branch": 0.79}, {"doubling": 2.4}, {"gate": 1e-9}, {"last_seed": -0.5}):
        finding = CLAIM.judge(QUICK, planted(**options))
        assert finding.verdict == CONDITIONALLY, options
        assert finding.conditions.startswith("in the ResNets"), options
    finding = CLAIM.judge(QUICK, planted(preset_exponent=-0.74))
    assert (finding.verdict, finding.conditions[:24]) == (CONDITIONALLY, "in networks of one width")


def test_a_share_that_does_not_fall_refutes_the_claim():
    assert verdict(exponent=0.0, preset_exponent=0.0) == FAILS


def test_the_exponents_and_the_growth_are_those_that_were_planted():
    found = planted(exponent=-0.7, preset_exponent=-1.2, doubling=1.9)
    assert slope([1, 2, 4], [1, 0.25, 0.0625]) == pytest.approx(-2)
    assert theory_slopes(found) == pytest.approx([-0.7] * 3)
    assert preset_slopes(found) == pytest.approx([-1.2] * 3)
    assert growth(found.where(norm="none")[0][1]) == pytest.approx(1.9)


def test_the_variances_of_a_shallow_network_are_those_of_numpy():
    cell = {"network": PRE_ACTIVATION, "norm": "batch", "blocks": 2, "units": 32, "batch": 16, "seed": 5}
    figures = measure(cell, None)
    inputs = np.random.default_rng(5).normal(size=(16, 32)).astype("float32").astype("float64")
    random = np.random.default_rng([5, 1])
    x = inputs
    for block in range(2):
        branch = x
        for _ in range(2):
            branch = (branch - branch.mean(0)) / np.sqrt(branch.var(0) + 1e-3)
            branch = np.maximum(branch, 0) @ (random.normal(size=(32, 32)) * np.sqrt(2 / 32))
        assert figures["skip"][block] == pytest.approx(x.var(), rel=1e-4)
        assert figures["branch"][block] == pytest.approx(branch.var(), rel=1e-4)
        x = x + branch


def test_a_gate_of_zero_keeps_the_skip_as_it_is():
    cell = {"network": PRE_ACTIVATION, "norm": "none, gated", "blocks": 3, "units": 8, "batch": 4, "seed": 0}
    figures = measure(cell, None)
    assert figures["branch"] == [0, 0, 0]
    assert len(set(figures["skip"])) == 1


@pytest.mark.slow
def test_a_preset_is_measured_at_every_addition():
    cell = {"network": "resnet20", "norm": "batch", "width": 0.25, "image_size": 4, "batch": 8, "seed": 0}
    figures = measure(cell, None)
    assert len(figures["skip"]) == len(figures["branch"]) == 9
    assert figures["branch"] == pytest.approx([1] * 9, abs=0.1), "a normalized branch has a variance of one"


def test_the_figure_draws():
    figure = CLAIM.draw(QUICK, planted())
    assert len(figure.axes) == 3
