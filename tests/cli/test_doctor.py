"""`bn-keras doctor`."""

import json
import re
import zipfile

import keras
import numpy as np
import pytest

from bn_keras import BatchNorm
from tests.cli.runner import typed

pytestmark = pytest.mark.slow


@pytest.fixture
def files(tmp_path, random):
    """A model with statistics of other data, and data."""
    model = keras.Sequential([keras.Input((4,)), BatchNorm(momentum=0.9, name="norm"), keras.layers.Dense(2)])
    model.get_layer("norm").gamma.assign([2.0, 0.5, 1.5, 3.0])
    model.get_layer("norm").moving_mean.assign([3.0, 2.0, 4.0, 5.0])
    model.save(tmp_path / "model.keras")
    np.savez(tmp_path / "data.npz", x=random.normal(size=(256, 4)).astype("float32"))
    return tmp_path


def test_it_reports_repairs_and_draws(files):
    out, figure, report = files / "repaired.keras", files / "gaps.svg", files / "report.json"
    arguments = ["doctor", files / "model.keras", "--data", files / "data.npz", "--fix", out, "--figure", figure]
    code, printed = typed(*arguments, "--json", report)
    assert code == 0, printed
    assert "error stale_statistics" in printed
    assert f"Repaired model: {out} (recalibrate)." in printed
    assert json.loads(report.read_text())["findings"][0]["name"] == "stale_statistics"
    assert "<svg" in figure.read_text()
    x = np.load(files / "data.npz")["x"]
    moving_mean = keras.saving.load_model(out).get_layer("norm").moving_mean
    np.testing.assert_allclose(moving_mean, x.mean(axis=0), rtol=0, atol=1e-3)
    code, printed = typed(*arguments)
    assert code == 2
    assert "exists, and the command overwrites nothing" in printed
    code, printed = typed("doctor", out, "--data", files / "data.npz", "--fix", files / "again.keras")
    assert code == 0
    assert "nothing found" in printed
    assert "is not written" in printed


def test_digits(tmp_path):
    from bn_keras.models import build

    build("mlp_sigmoid", weights="digits").save(tmp_path / "model.keras")
    code, printed = typed("doctor", tmp_path / "model.keras", "--data", "digits", "--steps", 4)
    assert code == 0, printed
    assert "nothing found" in printed


def test_usage_errors(files):
    code, printed = typed("doctor", files / "model.keras", "--data", files / "none.npz")
    assert code == 2
    assert "there is no file" in printed
    code, printed = typed("doctor", files / "model.keras", "--data", "digits", "--steps", 1_000_000)
    assert code == 2
    assert "expected an int in [1, 1000]" in printed, "the batches stay in memory"
    code, printed = typed("doctor", files / "model.keras", "--data", "digits", "--fix", files / "out.h5")
    assert code == 2
    assert "--fix expects a file .keras" in printed
    np.savez(files / "other data.npz", images=np.ones((2, 4)))
    code, printed = typed("doctor", files / "model.keras", "--data", files / "other data.npz")
    assert code == 2
    assert "must hold an array x" in printed
    (files / "broken.keras").write_text("no archive")
    code, printed = typed("doctor", files / "broken.keras", "--data", files / "data.npz")
    assert code == 1
    assert "broken.keras' is no .keras file: those are zip archives, as model.save writes." in " ".join(printed.split())


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_archives_that_are_damaged_or_of_another_kind(files, compression):
    with zipfile.ZipFile(files / "model.keras") as whole, zipfile.ZipFile(files / "packed.keras", "w") as packed:
        for name in whole.namelist():
            packed.writestr(name, whole.read(name), compression)
        at = packed.getinfo("model.weights.h5").header_offset
    content = bytearray((files / "packed.keras").read_bytes())
    content[at + 60 : at + 160] = b"x" * 100
    (files / "packed.keras").write_bytes(content)
    code, printed = typed("doctor", files / "packed.keras", "--data", files / "data.npz")
    assert code == 1, printed
    assert re.search("packed.keras' is damaged: (model.weights.h5|a part) cannot be read.", " ".join(printed.split()))
    code, printed = typed("doctor", files / "data.npz", "--data", files / "data.npz")
    assert code == 1, printed
    assert "is no .keras file: it lacks config.json and model.weights.h5." in " ".join(printed.split())


def test_files_that_are_no_archives(files):
    whole = (files / "data.npz").read_bytes()
    (files / "cut.npz").write_bytes(whole[: len(whole) // 2])
    (files / "empty.npz").write_bytes(b"")
    (files / "text.npz").write_text("x,y\n1,2\n")
    for name in ("cut", "empty", "text"):
        code, printed = typed("doctor", files / "model.keras", "--data", files / f"{name}.npz")
        assert code == 2, printed
        assert "cannot be read as numpy.savez writes it" in printed
    with open(files / "array.npz", "wb") as file:
        np.save(file, np.ones((4, 4)))
    code, printed = typed("doctor", files / "model.keras", "--data", files / "array.npz")
    assert code == 2, printed
    assert "holds one array" in printed


def test_labels_out_of_range_and_inputs_of_another_shape(files, random):
    model = keras.saving.load_model(files / "model.keras")
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.save(files / "compiled.keras")
    x = random.normal(size=(64, 4)).astype("float32")
    np.savez(files / "labels.npz", x=x, y=np.full(64, 7))
    code, printed = typed("doctor", files / "compiled.keras", "--data", files / "labels.npz")
    assert code == 1, printed
    assert "valid range" in printed
    np.savez(files / "wide.npz", x=np.ones((64, 5)))
    code, printed = typed("doctor", files / "model.keras", "--data", files / "wide.npz")
    assert code in (1, 2), printed
    assert "Traceback" not in printed


def test_a_model_without_batch_norm_has_no_figure(files):
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]).save(files / "plain.keras")
    figure, report = files / "gaps.png", files / "report.json"
    code, printed = typed(
        "doctor", files / "plain.keras", "--data", files / "data.npz", "--figure", figure, "--json", report
    )
    assert code == 0, printed
    assert f"{figure} is not drawn" in printed
    assert report.exists()
