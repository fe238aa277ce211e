"""`LayerNorm` and `RMSNorm` against the reference."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bn_keras import LayerNorm, RMSNorm
from tests import reference
from tests.properties import strategies
from tests.properties.counts import check_count
from tests.properties.running import built, eagerly, step
from tests.properties.sizes import features_truth
from tests.properties.tolerances import check

pytestmark = pytest.mark.slow

every_dtype = pytest.mark.parametrize("dtype", strategies.DTYPES)


def agrees(make, case, centered=True, kind=None):
    """The output and the gradients of a layer."""
    layer = make(case.axis, epsilon=case.epsilon, dtype=case.dtype)
    weights = built(layer, case)
    x, dy = strategies.input_and_gradient(case, case.others)
    with eagerly():
        ours = step(layer, x, dy)
    gamma, beta = weights.get("gamma", weights.get("scale")), weights.get("beta", np.zeros(layer.sizes))
    gamma, beta = (reference.per_channel(each, x.ndim, list(case.axes)) for each in (gamma, beta))
    x, dy = x.astype(np.float64), dy.astype(np.float64)
    truths = features_truth(x, gamma, beta, dy, case.axes, case.epsilon, centered)
    check(make.__name__, case, ours, {quantity: truths[quantity] for quantity in ours}, kind)


@pytest.mark.sample(2)
@every_dtype
@settings(max_examples=70)
@given(data=st.data())
def test_layer_norm(dtype, data):
    agrees(LayerNorm, data.draw(strategies.cases(dtype)))


@every_dtype
@settings(max_examples=8)
@given(data=st.data())
def test_layer_norm_of_large_inputs(dtype, data):
    agrees(LayerNorm, data.draw(strategies.cases(dtype, strategies.large_shapes())), kind="large")


@pytest.mark.sample(2)
@every_dtype
@settings(max_examples=50)
@given(data=st.data())
def test_rms_norm(dtype, data):
    agrees(RMSNorm, data.draw(strategies.cases(dtype)), centered=False)


@pytest.mark.exhaustive  # the default leaves half of the dtypes out
def test_there_were_enough_cases(request):
    """After all others of this file."""
    check_count(request, ("LayerNorm", "RMSNorm"), at_least=440)
