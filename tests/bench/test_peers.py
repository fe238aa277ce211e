"""What the peers compute is the same thing, and all of it: outputs and gradients."""

import numpy as np
import pytest

from bn_keras.bench.cases import LAYERS, Case
from bn_keras.bench.peers import PEERS, NotOfferedError, prepare

pytestmark = pytest.mark.slow

TENSORFLOW = ["keras", "tf_keras", "fused_op"]
OTHERS = ["torch", "torch channels-last", "jax"]
CASES = [
    *(Case("a group", layer, (4, 3, 5, 32)) for layer in LAYERS),
    Case("a group", "batch", (6, 8)),
    Case("a group", "batch", (6, 5, 8)),
    Case("a group", "batch", (2, 8, 3, 5), axis=1),
    Case("a group", "batch", (6, 8), how="eager"),
    Case("a group", "batch", (4, 3, 5, 8), how="xla"),
    Case("a group", "batch", (4, 3, 5, 8), mode="inference"),
    Case("a group", "batch", (4, 3, 5, 8), mode="forward"),
    Case("a group", "layer", (6, 8), mode="inference"),
    Case("a group", "batch", (4, 3, 5, 8), dtype="mixed_bfloat16"),
]


def prepared(name, case):
    if PEERS[name].missing:
        pytest.skip(f"{name} is not installed")
    try:
        return prepare(name, case)
    except NotOfferedError as reason:
        pytest.skip(str(reason))


def tensors(result):
    """The arrays in what a call returned, in float32, largest first."""
    if isinstance(result, dict):
        result = [result[name] for name in sorted(result)]
    if isinstance(result, (tuple, list)):
        return [array for each in result for array in tensors(each)]
    if hasattr(result, "detach"):
        result = result.detach().float()
    return [np.asarray(result, np.float32)]


def named(case):
    return f"{case.layer} {case.shape} {case.mode} {case.how} {case.dtype}"


@pytest.mark.parametrize("case", CASES, ids=named)
@pytest.mark.parametrize("name", TENSORFLOW)
def test_tensorflow_peers_give_what_ours_gives(name, case):
    theirs, ours = tensors(prepared(name, case)()), tensors(prepared("bn_keras", case)())
    assert len(ours) == (1 if case.mode != "training" else 3 if case.layer == "rms" else 4)
    tolerance = 0.1 if case.dtype == "mixed_bfloat16" else 1e-4
    for a, b in zip(theirs, ours, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=10 * tolerance)


@pytest.mark.parametrize("case", CASES, ids=named)
@pytest.mark.parametrize("name", OTHERS)
def test_other_peers_give_the_same_numbers(name, case):
    """In another order of axes or outputs: their sums of squares agree."""
    theirs, ours = tensors(prepared(name, case)()), tensors(prepared("bn_keras", case)())
    sums = [sorted(float(np.sum(each**2)) for each in one if each.size) for one in (theirs, ours)]
    tolerance = 0.1 if case.dtype == "mixed_bfloat16" else 1e-3
    for b in sums[1]:
        assert any(abs(a - b) <= tolerance * b + 1e-3 for a in sums[0]), (b, sums[0])
