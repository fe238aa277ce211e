"""Every layer through `fit` under MirroredStrategy, with a last batch that one replica gets nothing of."""

import keras
import numpy as np
import pytest

from tests.conformance.cases import DISTINCT, every
from tests.conformance.test_export import SCRIPT
from tests.processes import result_of

pytestmark = pytest.mark.slow

REPLICAS, SAMPLES, BATCH = 2, 9, 8


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """What the run says, and its files."""
    folder = tmp_path_factory.mktemp("fit")
    numbers = (REPLICAS, SAMPLES, BATCH)
    return result_of("-m", "tests.distribution.fit_every_case", *numbers, folder, seconds=300), folder


@pytest.fixture(scope="module")
def loaded(run):
    """What the saved model and the exported one predict in processes without a strategy."""
    _, folder = run
    result = result_of("-I", str(SCRIPT), str(folder / "model"), cwd=folder)
    inputs = dict(np.load(folder / "model" / "inputs.npz"))
    (exported,) = np.load(folder / "model" / "outputs.npz").values()
    return keras.models.load_model(folder / "model.keras").predict(inputs, verbose=0), exported, result


def test_losses_are_finite(run):
    assert np.isfinite(run[0]["losses"]).all()


@pytest.mark.slow
@every(DISTINCT)
def test_all_is_finite(run, case):
    assert run[0]["finite"][case.name]
    assert run[0]["predictions"][case.name]


@every(DISTINCT)
def test_trainable_weights_are_the_same_on_all_replicas(run, case):
    assert run[0]["trainable weights"][case.name]


@every(DISTINCT)
def test_statistics_are_the_same_on_all_replicas(run, case):
    assert run[0]["statistics"][case.name]


@every(DISTINCT)
def test_a_process_without_a_strategy_predicts_the_same(run, loaded, case):
    column, predicted = DISTINCT.index(case), np.load(run[1] / "predicted.npy")
    for other in loaded[:2]:
        np.testing.assert_allclose(other[:, column], predicted[:, column], rtol=0, atol=1e-5)


@pytest.mark.slow
def test_the_exported_model_holds_no_collectives(loaded):
    assert loaded[-1] == {"blocked": True, "collectives": {"model": []}}
