"""An exported model of the main cases, loaded in a fresh process that cannot import bn_keras."""

import pathlib

import keras
import numpy as np
import pytest

from tests.conformance.branches import branch, examples, plain
from tests.conformance.cases import MAIN, every
from tests.processes import result_of

pytestmark = pytest.mark.slow

SCRIPT = pathlib.Path(__file__).with_name("load_exported.py")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The outputs here, those there, and what the process says."""
    folder = tmp_path_factory.mktemp("exported")
    keras.utils.set_random_seed(0)
    inputs, outputs = ({} for _ in range(2))
    for case in MAIN:
        inputs[case.name], outputs[case.name] = branch(case, plain)
    model, (x, _) = keras.Model(inputs, outputs), examples(6, MAIN)
    model(x, training=True)
    model.export(folder / "model", verbose=False)
    np.savez(folder / "model" / "inputs.npz", **x)
    # -I: neither the working directory, nor PYTHONPATH, nor the user's own packages
    result = result_of("-I", str(SCRIPT), str(folder / "model"), cwd=folder)
    return model(x), np.load(folder / "model" / "outputs.npz"), result


def test_nothing_of_us_was_there(exported):
    assert exported[-1] == {"blocked": True, "collectives": {"model": []}}


@every(MAIN)
def test_it_says_there_what_it_says_here(exported, case):
    here, there, _ = exported
    np.testing.assert_allclose(there[case.name], here[case.name], rtol=0, atol=1e-5)
