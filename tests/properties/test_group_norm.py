"""`GroupNorm` and `InstanceNorm` against the reference."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bn_keras import GroupNorm, InstanceNorm
from tests import reference
from tests.properties import strategies
from tests.properties.counts import check_count
from tests.properties.running import built, eagerly, step
from tests.properties.sizes import features_truth
from tests.properties.tolerances import check

pytestmark = pytest.mark.slow

every_dtype = pytest.mark.parametrize("dtype", strategies.DTYPES)


def agrees(layer, case, groups):
    """The output and the gradients of a layer."""
    weights = built(layer, case)
    (axis,), shape = case.axes, case.shape
    x, dy = strategies.input_and_gradient(case, (0, axis))
    with eagerly():
        ours = step(layer, x, dy)
    split = (*shape[:axis], groups, shape[axis] // groups, *shape[axis + 1 :])
    x, dy = (each.astype(np.float64).reshape(split) for each in (x, dy))
    gamma, beta = (weights[name].reshape(groups, -1) for name in ("gamma", "beta"))
    gamma, beta = (reference.per_channel(each, x.ndim, [axis, axis + 1]) for each in (gamma, beta))
    axes = tuple(i for i in range(1, x.ndim) if i != axis)
    check(type(layer).__name__, case, ours, features_truth(x, gamma, beta, dy, axes, case.epsilon))


@pytest.mark.sample(2)
@every_dtype
@settings(max_examples=60)
@given(data=st.data())
def test_group_norm(dtype, data):
    case = data.draw(strategies.cases(dtype, axes=strategies.one_axis))
    channels = case.shape[case.axis]
    groups = data.draw(st.sampled_from([n for n in range(1, channels + 1) if channels % n == 0]))
    agrees(GroupNorm(groups, case.axis, epsilon=case.epsilon, dtype=dtype), case, groups)


@pytest.mark.sample(2)
@every_dtype
@settings(max_examples=35)
@given(data=st.data())
def test_instance_norm(dtype, data):
    case = data.draw(strategies.cases(dtype, axes=strategies.one_axis))
    agrees(InstanceNorm(case.axis, epsilon=case.epsilon, dtype=dtype), case, case.shape[case.axis])


@pytest.mark.exhaustive  # the default leaves half of the dtypes out
def test_there_were_enough_cases(request):
    """After all others of this file."""
    check_count(request, ("GroupNorm", "InstanceNorm"), at_least=320)
