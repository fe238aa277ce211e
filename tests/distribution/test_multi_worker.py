"""Every layer under MultiWorkerMirroredStrategy: processes on this machine, shards of different sizes."""

import json
import os

import keras
import numpy as np
import pytest

from tests.conformance.cases import DISTINCT, MixedDomains, every
from tests.conformance.test_export import SCRIPT
from tests.processes import free_ports, result_of, results_of, start

pytestmark = pytest.mark.slow

SHARDS = (4, 1, 3)  # the examples of each worker
SYNCHRONIZED = [case for case in DISTINCT if case.synchronized]
# Domains follow from the places in a batch, which are others on a shard; `pooled_shards.py` tests them by example.
BY_PLACE = [case for case in DISTINCT if case.layer is MixedDomains]


def workers(sizes, folder):
    """A process for each shard, started."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(len(sizes))]
    for index in range(len(sizes)):
        config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        arguments = ["-m", "tests.distribution.worker", ",".join(map(str, sizes)), str(folder)]
        yield start(arguments, env=os.environ | {"TF_CONFIG": json.dumps(config)})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """What each worker says, and the chief's files."""
    folder = tmp_path_factory.mktemp("workers")
    return results_of(list(workers(SHARDS, folder)), seconds=240), folder


@every(DISTINCT)
def test_weights_are_finite(run, case):
    assert all(worker["finite"][case.name] for worker in run[0])


@pytest.mark.slow
@every(DISTINCT)
@pytest.mark.parametrize("kind", ["trainable weights", "statistics"])
def test_weights_are_the_same_on_all_workers(run, case, kind):
    assert len({worker[kind][case.name] for worker in run[0]}) == 1


@every([case for case in SYNCHRONIZED if case not in BY_PLACE])
def test_synchronized_shards_are_the_whole_batch(run, case):
    assert max(worker["difference"][case.name] for worker in run[0]) < 1e-5


@every([case for case in DISTINCT if (case in SYNCHRONIZED or not case.statistics) and case not in BY_PLACE])
def test_training_on_shards_is_training_on_the_whole_batch(run, case):
    assert run[0][0]["from the whole"][case.name] < 1e-5


@every(DISTINCT)
def test_collectives_in_training(run, case):
    expected = 2 if case in SYNCHRONIZED else 1 if case.statistics else 0
    assert {worker["in training"][case.name] for worker in run[0]} == {expected}


@every(DISTINCT)
def test_no_collectives_in_inference(run, case):
    assert {worker["in inference"][case.name] for worker in run[0]} == {0}


def test_files_of_the_chief_serve_without_a_strategy(run):
    _, folder = run
    result = result_of("-I", str(SCRIPT), str(folder / "model"), cwd=folder)
    assert result == {"blocked": True, "collectives": {"model": []}}
    loaded = keras.models.load_model(folder / "model.keras")
    inputs = dict(np.load(folder / "model" / "inputs.npz"))
    (exported,) = np.load(folder / "model" / "outputs.npz").values()
    np.testing.assert_allclose(exported, loaded.predict(inputs, verbose=0), rtol=0, atol=1e-5)
