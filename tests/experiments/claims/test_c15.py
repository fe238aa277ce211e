"""C15: the equations written out for the claim, against automatic differentiation, and the rule on planted errors."""

import numpy as np
import pytest
import tensorflow as tf

from bn_keras.experiments.claims.c15_algorithm import (
    CLAIM,
    EPSILON,
    LARGE,
    QUANTITIES,
    cells,
    in_roundings,
    layer_results,
    measure,
    reference,
)
from bn_keras.experiments.claims.claim import CONDITIONALLY, FAILS, HOLDS, Form, Found

QUICK = Form(quick=True)


def planted(dtype="float64", quantity="y", error=1.0, large=False):
    """Errors of one rounding, and another one in one run."""
    pairs = []
    for cell in cells(QUICK, Found()):
        values = {name: [1.0] * cell["seeds"] for name in QUANTITIES}
        if cell["dtype"] == dtype and (cell["shape"] == list(LARGE)) == large:
            values[quantity][1] = error
        pairs.append((cell, values))
    return Found(pairs)


def verdict(*arguments, **options):
    return CLAIM.judge(QUICK, planted(*arguments, **options)).verdict


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_one_error_beyond_rounding_refutes_the_claim(quantity):
    assert verdict("float64", quantity, 32.0) == HOLDS
    assert verdict("float64", quantity, 32.1) == FAILS
    assert verdict("float32", quantity, float("inf")) == FAILS


def test_an_error_in_half_precision_alone_is_a_condition():
    finding = CLAIM.judge(QUICK, planted("bfloat16", "dx", 40.0))
    assert (finding.verdict, finding.conditions) == (CONDITIONALLY, "not in bfloat16")
    assert finding.notes == ("Errors beyond the limit: bfloat16.",)


def test_large_inputs_may_collect_more_roundings():
    assert verdict("float32", "dx", 256.0, large=True) == HOLDS
    assert verdict("float32", "dx", 257.0, large=True) == FAILS


def test_every_rank_axis_and_dtype_has_a_cell():
    places = {(len(cell["shape"]), tuple(cell["axis"])) for cell in cells(QUICK, Found())}
    assert {rank for rank, _ in places} == {2, 3, 4, 5}
    assert all((rank, (axis,)) in places for rank in range(2, 6) for axis in range(1, rank))
    assert {cell["dtype"] for cell in cells(QUICK, Found())} == {"float64", "float32", "float16", "bfloat16"}


@pytest.mark.parametrize("axis", [(1,), (3,), (1, 3)])
def test_the_chain_of_the_paper_is_what_automatic_differentiation_gives(axis):
    random = np.random.default_rng(0)
    batches = [random.normal(2.0, 1.0, (6, 5, 4, 3)) for _ in range(3)]
    channels = [(6, 5, 4, 3)[each] for each in axis]
    gamma, beta, dy = random.normal(size=channels), random.normal(size=channels), random.normal(size=(6, 5, 4, 3))
    truth, sizes = reference(batches, gamma, beta, dy, axis)
    assert sizes["dbeta"] == pytest.approx(np.abs(dy).sum(tuple(each for each in range(4) if each not in axis)).max())
    others = [each for each in range(4) if each not in axis]
    shape = [(6, 5, 4, 3)[each] if each in axis else 1 for each in range(4)]
    x, gamma, beta = (tf.constant(each) for each in (batches[-1], gamma.reshape(shape), beta.reshape(shape)))
    with tf.GradientTape() as tape:
        tape.watch([x, gamma, beta])
        mean, variance = tf.nn.moments(x, others, keepdims=True)
        y = gamma * (x - mean) / tf.sqrt(variance + EPSILON) + beta
    gradients = tape.gradient(y, [x, gamma, beta], output_gradients=tf.constant(dy))
    for name, tensor in zip(QUANTITIES, [y, *gradients], strict=False):
        np.testing.assert_allclose(truth[name], tensor.numpy(), rtol=0, atol=1e-12, err_msg=name)


def test_inference_averages_unbiased_variances():
    batches = [np.array([[0.0], [2.0]]), np.array([[1.0], [5.0]]), np.array([[3.0], [3.0]])]
    truth, _ = reference(batches, np.array([2.0]), np.array([1.0]), np.zeros((2, 1)), (1,))
    expected = 1 + 2 * (batches[0] - 7 / 3) / np.sqrt((2 + 8 + 0) / 3 + EPSILON)
    np.testing.assert_allclose(truth["inference"], expected, rtol=1e-14)


def test_errors_are_in_units_of_the_rounding_of_the_dtype():
    ours = np.array([1.0 + 2**-23, 4.0], "float32")
    assert in_roundings(ours, np.array([1.0, 4.0]), size=4.0) == pytest.approx(0.5)
    assert in_roundings(np.array([np.nan], "float32"), np.ones(1), size=1.0) == float("inf")


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_the_layer_is_within_a_few_roundings(dtype):
    values = measure({"shape": [6, 5, 4], "axis": [1], "dtype": dtype, "seeds": 2}, None)
    assert 0 < max(max(values[name]) for name in QUANTITIES) < 16


def test_a_layer_with_another_epsilon_is_far_off(monkeypatch):
    monkeypatch.setattr("bn_keras.experiments.claims.c15_algorithm.EPSILON", 1e-2)
    random = np.random.default_rng(0)
    batches = [random.normal(size=(6, 4)) for _ in range(3)]
    gamma, beta, dy = np.ones(4), np.zeros(4), random.normal(size=(6, 4))
    ours = layer_results({"axis": [1], "dtype": "float64"}, batches, gamma, beta, dy)
    monkeypatch.undo()
    truth, sizes = reference(batches, gamma, beta, dy, (1,))
    for name in ("y", "dx", "dgamma", "inference"):
        assert in_roundings(ours[name], truth[name], sizes[name]) > 1e6, name


def test_the_figure_draws():
    figure = CLAIM.draw(QUICK, planted())
    assert len(figure.axes) == 2
