"""Every dtype policy: dtypes, and how near the result is to that of float64."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from tests.conformance.cases import CASES, FIRST, MAIN
from tests.conformance.steps import all_close, data, ready
from tests.exhaustive import marked
from tests.layers.test_batch_norm import TOLERANCES, close

POLICIES = [*TOLERANCES, "bfloat16"]
# Each layer with every policy; its options with the two that differ in the dtypes of input, weights and arithmetic.
every_policy = pytest.mark.parametrize(
    ("case", "policy"),
    marked(
        list(itertools.product(CASES, POLICIES)),
        lambda case, policy: case in FIRST or (case in MAIN and policy in ("float64", "mixed_bfloat16")),
    ),
    ids=str,
)


@pytest.mark.sample(34)
@every_policy
def test_near_the_result_of_float64(random, case, policy):
    if policy == "float64" and case.needs_the_kernel:
        pytest.skip("fused=True is refused for float64, which the kernel does not take")
    tolerance = 5 * TOLERANCES.get(policy, TOLERANCES["mixed_bfloat16"])
    layer = ready(case.make(dtype=policy), case, random)
    x, _ = data(case, random, layer.compute_dtype)
    exact = case.exact()
    exact.build(case.shape)
    exact.set_weights([np.asarray(weight, np.float64) for weight in layer.get_weights()])

    for training in (False, True):
        ours, truth = layer(x, training=training), exact(tf.cast(x, tf.float64), training=training)
        assert ours.dtype == layer.compute_dtype
        assert np.isfinite(tf.cast(ours, tf.float64)).all()
        close(ours, truth, tolerance)
    all_close(layer.non_trainable_weights, exact.non_trainable_weights, 5e-6)


@every_policy
def test_dtypes_of_weights(case, policy):
    layer = case.make(dtype=policy)
    layer.build(case.shape)
    wide = "float64" if policy == "float64" else "float32"
    assert {weight.dtype for weight in layer.non_trainable_weights} <= {wide}
    assert {weight.dtype for weight in layer.trainable_weights} <= {layer.variable_dtype}
