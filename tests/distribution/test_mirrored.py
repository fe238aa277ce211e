"""Training on several replicas. Each test has a process of its own: strategies over the same devices collide."""

import pytest

from tests.processes import script_result

pytestmark = pytest.mark.slow


def test_a_replica_without_samples_does_no_harm():
    results = script_result("tests.distribution.uneven_batch")
    old = results.pop("keras")
    assert not old["finite"], "Keras was meant to turn into NaN"
    assert not old["equal"], "Keras' statistics were meant to differ from replica to replica"
    for name, result in results.items():
        assert result["finite"], name
        assert result["equal"], name


def test_shards_are_the_whole_batch():
    results = script_result("tests.distribution.shards")
    for name, result in results["cases"].items():
        assert result["difference"] < 1e-5, (name, result)
        assert result["collectives"] == result["expected"], (name, result)
    assert results["collectives in inference"] == 0
    assert results["second derivatives"] < 1e-10
    assert results["keras"]["collectives"] > 2, "Keras was meant to take more"
    assert not results["keras"]["synchronized"], "Keras was meant to leave out what has a mask"
    assert results["variance"]["ours"] < 2e-6
    assert results["variance"]["keras"] > 0.1, "Keras' variance was meant to cancel"


def test_accumulated_batches_and_domains_are_pooled_over_shards():
    for name, result in script_result("tests.distribution.pooled_shards").items():
        assert result["difference"] < 1e-11, (name, result)
        assert result["collectives"] == result["expected"], (name, result)
