"""The table of cases, and the least that each has to move."""

import pytest

from bn_keras.bench.cases import DEFAULT_PEERS, GROUPS, LAYERS, Case, case_of, cases_of
from bn_keras.bench.peers import PEERS

CASES = cases_of(GROUPS)


def test_every_case_is_there_once_and_knows_its_group():
    assert len(set(CASES)) == len(CASES) > 30
    for name, group in GROUPS.items():
        assert {case.group for case in group.cases} == {name}


def test_every_peer_has_a_module():
    assert set(DEFAULT_PEERS) <= set(PEERS)
    assert {peer for group in GROUPS.values() for peer in group.peers} <= set(PEERS)


@pytest.mark.parametrize("case", [CASES[0], CASES[4]])
def test_a_case_is_plain_values_and_back(case):
    fields = case.to_dict()
    assert isinstance(fields["shape"], list)
    assert case_of(fields | {"peers": {}}) == case


@pytest.mark.parametrize(
    ("layer", "mode", "dtype", "tensors", "size"),
    [
        ("batch", "training", "float32", 8, 4),
        ("batch", "training", "mixed_bfloat16", 8, 2),
        ("batch", "forward", "float32", 3, 4),
        ("batch", "inference", "float32", 2, 4),
        ("layer", "training", "float32", 5, 4),
        ("instance", "inference", "float32", 2, 4),
    ],
)
def test_floor(layer, mode, dtype, tensors, size):
    case = Case("a group", layer, (10, 100), dtype=dtype, mode=mode)
    assert case.bytes_moved == tensors * size * 1000
    assert case.floor(bandwidth=1e6) == pytest.approx(tensors * size * 1e-3)


def test_a_network_has_no_floor():
    assert Case("models", "ResNet50", (1, 8, 8, 3)).floor(1e9) is None


def test_replicas_have_no_floor():
    assert Case("sync", "batch", (4, 8), replicas=2).floor(1e9) is None


def test_quick_cases_are_small_and_of_the_same_kinds():
    quick = cases_of(GROUPS, quick=True)
    kinds = [{(case.group, case.layer, case.mode, case.how) for case in each} for each in (quick, CASES)]
    assert kinds[0] == kinds[1]
    assert all(case.tensor_bytes < 5_000 for case in quick if case.layer in LAYERS and case.group != "memory")
    assert all(case.shape[case.axis] % 32 == 0 for case in quick if case.layer == "group")
