"""The lines between the process that measures and its workers, with a peer that is made up."""

import pytest

from bn_keras.bench.cases import ONCE, Case
from bn_keras.bench.measure import measure, measure_memory, measure_overheads
from bn_keras.bench.process import Pool, WorkerError
from tests.exhaustive import marked

pytestmark = pytest.mark.slow

FAKE = "tests.bench.fake_peer"


@pytest.fixture(scope="module")
def pool():
    with Pool() as pool:
        yield pool


def case(layer):
    return Case("a group", layer, (4, 8))


def ask_to_prepare(pool, layer):
    return pool.get(FAKE).ask("prepare", case=case(layer).to_dict())


def test_noise_does_not_disturb(pool):
    assert ask_to_prepare(pool, "batch") == {"ready": True, "facts": {"collectives": 2}}
    assert 0.02 <= pool.get(FAKE).ask("run", calls=10)["seconds"] < 2


def test_what_a_peer_cannot_do_is_told(pool):
    assert ask_to_prepare(pool, "rms") == {"left_out": "no such layer"}
    assert ask_to_prepare(pool, "group") == {"left_out": "failed: RuntimeError: broken"}


def test_the_peak_of_memory_is_seen(pool):
    assert ask_to_prepare(pool, "layer")["ready"]
    assert 0.98 * 2**26 <= pool.get(FAKE).ask("memory")["bytes"] < 1.2 * 2**26


def test_a_worker_that_ends_is_told_with_its_last_words():
    with Pool() as pool, pytest.raises(WorkerError, match="ended with code 3.*the last words"):
        ask_to_prepare(pool, "instance")


def test_turns(pool):
    entry = measure(case("batch"), [FAKE], pool, rounds=3, quick=True)
    peer = entry["peers"][FAKE]
    assert len(peer["ms"]) == 3
    assert all(2 <= ms < 20 for ms in peer["ms"])
    assert 1 <= peer["calls"] <= 5, "a turn takes about 10 ms"
    assert set(entry["bandwidth"]) == {"before", "after"}
    assert entry["shape"] == [4, 8]


def test_a_peer_that_dies_leaves_the_others_alone(pool):
    entry = measure(case("instance"), [FAKE], pool, rounds=1, quick=True)
    assert "the last words" in entry["peers"][FAKE]["left_out"]
    assert "ms" in measure(case("batch"), [FAKE], pool, rounds=1, quick=True)["peers"][FAKE]


def test_memory_in_tensors():
    entry = measure_memory(Case("a group", "layer", (2**20, 4)), [FAKE])
    assert 3.9 <= entry["peers"][FAKE]["tensors"][0] < 5


@pytest.mark.sample(1)
@pytest.mark.parametrize("mode", marked(ONCE, lambda mode: mode != "first step"))  # a part of the two that follow
def test_what_happens_once(mode):
    entry = measure_overheads(Case("overheads", "batch", (4, 8), mode=mode), ["bn_keras", FAKE], rounds=1)
    assert 0.1 < entry["peers"]["bn_keras"]["ms"][0] < 60_000
    assert "KeyError" in entry["peers"][FAKE]["left_out"], "it has no layer to build"
    if "50" in mode:
        assert entry["peers"]["bn_keras"]["facts"]["nodes"] > 50
