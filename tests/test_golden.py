"""Files that an earlier version of bn_keras wrote: each loads and computes what it computed then."""

import json
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

import bn_keras
from tests.golden.make import CASES, FILES, as_float, expectation
from tests.processes import ROOT, result_of

WRITTEN = ("model.keras", "model.weights.h5", "saved_model.tar.gz", "expected.npz", "versions.json")
SCRIPT = ROOT / "tests" / "golden" / "load.py"
# The files are float32. Another processor or version of TensorFlow may round otherwise.
TOLERANCE = {"rtol": 1e-4, "atol": 1e-4}
BFLOAT16 = {"rtol": 0.02, "atol": 0.02}


def release(version):
    return tuple(int(part) for part in version.split(".")[:2])


def skip_older_installation(name):
    """Keras and TensorFlow do not promise that they load what their later versions wrote."""
    written = json.loads((FILES / name / "versions.json").read_text(encoding="utf-8"))
    for module in (keras, tf):
        if release(module.__version__) < release(written[module.__name__]):
            pytest.skip(f"{module.__name__} {written[module.__name__]} wrote the file")


def check(name, model):
    """Inference, one call in training and the weights after it."""
    expected = dict(np.load(FILES / name / "expected.npz"))
    found = expectation(model, expected.pop("x"))
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_allclose(found[key], value, **(BFLOAT16 if "bfloat16" in name else TOLERANCE), err_msg=key)


def layers():
    public = [getattr(bn_keras, name) for name in bn_keras.__all__]
    return [each for each in public if isinstance(each, type) and issubclass(each, keras.layers.Layer)]


@pytest.mark.parametrize("layer", layers(), ids=lambda layer: layer.__name__)
def test_every_public_layer_has_files(layer):
    named = [name for name, case in CASES.items() if case.layer is layer]
    assert named, f"add a case for {layer.__name__} to tests/golden/make.py and run it"
    assert any(case.arguments for name, case in CASES.items() if name in named), "a case needs options"


def test_every_case_has_its_files():
    assert sorted(path.name for path in FILES.iterdir()) == sorted(CASES)
    for name in CASES:
        assert sorted(path.name for path in (FILES / name).iterdir()) == sorted(WRITTEN)


def test_the_files_are_small():
    assert sum(path.stat().st_size for path in FILES.rglob("*")) < 3e6


@pytest.mark.parametrize("name", CASES)
def test_a_keras_file(name):
    skip_older_installation(name)
    check(name, keras.saving.load_model(FILES / name / "model.keras"))


@pytest.mark.parametrize("name", CASES)
def test_a_weights_file(name):
    skip_older_installation(name)
    model = CASES[name].build()
    expected = np.load(FILES / name / "expected.npz")
    assert np.abs(as_float(model(expected["x"])) - expected["output"]).max() > 0.01, "the weights are trivial"
    model.load_weights(FILES / name / "model.weights.h5")
    check(name, model)


@pytest.mark.slow
def test_a_process_that_imports_bn_keras_alone_loads_the_keras_files():
    skip_older_installation("batch_norm")
    check_differences(result_of(SCRIPT, "keras", FILES, new=True))


@pytest.mark.slow
def test_a_process_with_tensorflow_alone_loads_the_saved_models(tmp_path):
    skip_older_installation("batch_norm")
    for name in CASES:
        shutil.unpack_archive(FILES / name / "saved_model.tar.gz", tmp_path / name, filter="data")
    check_differences(result_of(SCRIPT, "saved_model", FILES, tmp_path, new=True))


def check_differences(differences):
    assert sorted(differences) == sorted(CASES)
    limits = {name: BFLOAT16["atol"] if "bfloat16" in name else TOLERANCE["atol"] for name in differences}
    assert {name: value for name, value in differences.items() if not value <= limits[name]} == {}
