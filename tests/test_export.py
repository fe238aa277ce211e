"""Exported models give the same outputs in a process without bn_keras, or they are not written."""

import importlib.util
import json
import os
import pathlib
import pickle
import sys
import tempfile

import click.testing
import keras
import numpy as np
import pytest
import tensorflow as tf

from bn_keras import Affine, BatchNorm, LayerNorm, export, surgery
from bn_keras.cli import cli
from bn_keras.experiments.data import load
from bn_keras.export import checking, exporting, formats, served
from bn_keras.export.preprocessing import PREPROCESSING, preprocessor
from bn_keras.export.signature import signature_of
from bn_keras.models import build
from tests.distribution.collectives import collectives
from tests.processes import free_ports, results_of, run_process, start

pytestmark = pytest.mark.usefixtures("forked_exports")
MISSING = [name for name in ("tf2onnx", "onnx", "onnxruntime") if importlib.util.find_spec(name) is None]
ONNX = pytest.param(
    "onnx", marks=pytest.mark.skipif(bool(MISSING), reason="ONNX needs the extra: pip install 'bn_keras[export]'")
)
EVERY_FORMAT = pytest.mark.parametrize("format", ["saved_model", "tflite", ONNX])


@pytest.fixture(scope="module")
def digits():
    return load("digits")


@pytest.fixture(scope="module")
def network(digits):
    """A small Inception after some steps on real digits."""
    keras.utils.set_random_seed(0)
    model = build("inception_small", input_shape=digits.input_shape, width=0.2)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), run_eagerly=True)
    for _ in range(3):
        model.train_on_batch(digits.train.inputs[:64] / 255, digits.train.labels[:64])
    return model


def small(*layers):
    return keras.Sequential([keras.Input((4,), name="x"), keras.layers.Dense(3), BatchNorm(), *layers])


def place(folder, format, name="exported"):
    return folder / (name + formats.FORMATS[format].suffix)


@pytest.mark.sample(1)
@pytest.mark.slow
@pytest.mark.parametrize("fold", [False, True], ids=["as it is", "folded"])
def test_a_saved_model_of_a_trained_network(network, digits, tmp_path, fold):
    before, images, told = network.get_weights(), digits.test.inputs[:50], []
    path, settings = tmp_path / "served" / "1", {"preprocessing": "unit", "examples": images, "report": told.append}
    made = export.export(network, path, fold=fold, check=fold, **settings)
    assert f"SavedModel {path}: " in told[-1]
    if fold:
        assert 0 < made.largest_difference < 1e-5
        assert "the examples in batches of 1 and 50, in a new process" in told[-1]
        assert str(made.report) == told[0]
    else:
        assert made.report is None
        assert not made.verified
    assert [entry.name for entry in tmp_path.iterdir()] == ["served"]
    assert made.bytes == sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    served_here, pixels = tf.saved_model.load(path), tf.constant(images, tf.float32)
    expected = network(pixels / 255, training=False)
    for answer in (served_here.serve(pixels), served_here.signatures["serving_default"](images=pixels)["output_0"]):
        np.testing.assert_allclose(answer, expected, rtol=0, atol=1e-5)
    kept = [name for name, shape in tf.train.list_variables(path / "variables" / "variables") if shape]
    exported_model = surgery.fold(network, report=None) if fold else network
    assert len(kept) == len(exported_model.weights), "each variable once"
    assert all(np.array_equal(*pair) for pair in zip(before, network.get_weights(), strict=True))


@pytest.mark.slow
@EVERY_FORMAT
def test_inputs_and_outputs_have_names(format, tmp_path):
    """Whose order in the signature is not that of the model."""
    z, a, each = keras.Input((3,), name="z"), keras.Input((5,), name="a"), keras.Input((3,), dtype="int32")
    other = Affine()(keras.layers.Dense(2)(a))
    first = LayerNorm()(z) + keras.ops.sum(keras.layers.Embedding(4, 3)(each), axis=1)
    model = keras.Model([z, a, each], {"second": BatchNorm()(other), "first": first})
    for weight in model.weights:
        weight.assign(np.random.default_rng(0).uniform(0.5, 2, weight.shape))
    made = export.export(model, place(tmp_path, format), format=format, report=None)
    assert made.inputs == ("z", "a", "inputs_2")
    assert made.outputs == ("first", "second")
    assert made.largest_difference < 1e-5


@pytest.mark.sample(1)
@pytest.mark.slow
@pytest.mark.parametrize("format", ["tflite", ONNX])
def test_a_folded_network_for_other_runtimes(network, format, tmp_path):
    made = export.export(network, place(tmp_path, format), format=format, fold=True, preprocessing="tf", report=None)
    assert made.largest_difference < 1e-5
    assert "tensorflow" not in made.verified.how or importlib.util.find_spec("ai_edge_litert") is None


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("name", PREPROCESSING)
def test_preprocessing_is_that_of_keras(name, data_format):
    before = keras.config.image_data_format()
    keras.config.set_image_data_format(data_format)
    try:
        pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 3, 3)).astype(np.float32)
        model = keras.Sequential([keras.Input((3, 3, 3)), keras.layers.Flatten()])
        expected = pixels / 255
        if name != "unit":
            expected = keras.applications.imagenet_utils.preprocess_input(pixels.copy(), mode=name)
        front = preprocessor(name, model, signature_of(model))
        np.testing.assert_allclose(front(pixels), expected, rtol=0, atol=1e-5 * abs(expected).max())
    finally:
        keras.config.set_image_data_format(before)


def test_the_given_model_is_not_called_by_another(tmp_path):
    model = keras.Sequential([keras.Input((3, 3, 3)), BatchNorm()])
    assert not hasattr(model, "input"), "Keras has it for a model that another model calls"
    export.export(model, tmp_path / "exported", preprocessing="unit", check=False, report=None)
    assert not hasattr(model, "input")


class OtherInGraphs(keras.layers.Layer):
    """A graph of it, which is exported, differs from an eager call."""

    def __init__(self, change, **kwargs):
        super().__init__(**kwargs)
        self.change = change

    def call(self, x):
        return x if tf.executing_eagerly() else self.change(x)


def with_a_collective(x):
    """A sum over two devices, of which one never comes."""
    group = {"group_size": 2, "group_key": 1, "instance_key": 1, "ordering_token": []}
    return tf.raw_ops.CollectiveReduceV2(input=x, merge_op="Add", final_op="Id", **group)


def with_a_collective_in_a_branch(x):
    return tf.cond(tf.shape(x)[0] > 1000, lambda: with_a_collective(x), lambda: x)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("format", "change", "words"),
    [
        ("tflite", lambda x: 1.001 * x, "the export differs from the model: outputs differ by 1.0e-03"),
        ("tflite", lambda x: tf.where(tf.shape(x)[0] < 2, x, np.nan), "outputs have another shape or NaN"),
        ("saved_model", with_a_collective_in_a_branch, "collective ops in its graph: CollectiveReduceV2"),
    ],
    ids=["another value", "not in batches", "a collective"],
)
def test_what_does_not_serve_is_not_written(format, change, words, tmp_path):
    with pytest.raises(export.ExportError, match=words):
        export.export(small(OtherInGraphs(change)), place(tmp_path, format), format=format, report=None)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_what_the_new_process_ends_with_is_told(tmp_path, monkeypatch):
    (tmp_path / "served.py").write_text("raise RuntimeError('no such op')")
    monkeypatch.setattr(checking, "SERVED", tmp_path / "served.py")
    with pytest.raises(export.ExportError, match="cannot be served: a new process ended with code 1: .* no such op"):
        export.export(small(), tmp_path / "exported", report=None)
    assert not (tmp_path / "exported").exists()


PROBE = """
import runpy, sys
script = runpy.run_path(sys.argv[1])
script["RUNTIMES"]["probe"] = lambda path: __import__("bn_keras")
script["main"]("probe", "", sys.argv[2], "")
"""


def test_bn_keras_cannot_be_had_where_the_check_runs(tmp_path):
    (tmp_path / "request").write_bytes(pickle.dumps({}))
    command = [sys.executable, "-I", "-c", PROBE, served.__file__, str(tmp_path / "request")]
    done = run_process(command)
    assert "ModuleNotFoundError: bn_keras is blocked" in done.stderr


def interrupted(*arguments):
    raise KeyboardInterrupt


def interrupted_half_way(endpoint, path):
    path.mkdir()
    interrupted()


@pytest.mark.parametrize("when", ["while it is written", "while it is checked", "before it is there"])
def test_ctrl_c_leaves_nothing(when, tmp_path, monkeypatch):
    if when == "while it is written":
        monkeypatch.setattr(formats, "write_saved_model", interrupted_half_way)
    monkeypatch.setattr(
        *((checking, "answer_of") if when == "while it is checked" else (exporting, "move")), interrupted
    )
    with pytest.raises(KeyboardInterrupt):
        export.export(small(), tmp_path / "deep" / "exported", check="checked" in when, report=None)
    assert not list(tmp_path.iterdir())


def workers(count, *arguments):
    """Processes of `MultiWorkerMirroredStrategy`, started."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(count)]
    for index in range(count):
        place = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        yield start(arguments, env=os.environ | {"TF_CONFIG": json.dumps(place)})


@pytest.mark.slow
def test_a_model_of_replicas_is_served_without_them(tmp_path):
    """On two devices of one process, and on two workers, both at the same time."""
    folders = [tmp_path / "devices", tmp_path / "workers"]
    for folder in folders:
        folder.mkdir()
    devices, on_workers = (("-m", "tests.export_replicas", str(folder)) for folder in folders)
    results = results_of([start(devices), *workers(2, *on_workers)], seconds=150)
    assert all(result["collectives in training"] > 0 for result in results), "there was something to leave behind"
    for folder in folders:
        call, _ = served.saved_model(folder / "model")
        said = np.load(folder / "said.npz")
        assert abs(said["mean"]).max() > 0.01, "trained"
        assert collectives(tf.saved_model.load(folder / "model").signatures["serve"]) == 0
        np.testing.assert_allclose(
            call({"images": said["x"]}, ["output_0"])[0], said["y"], rtol=0, atol=1e-5 * abs(said["y"]).max()
        )


def test_half_precision_may_differ_by_its_rounding(tmp_path):
    layers = keras.layers.Dense(3, dtype="mixed_bfloat16"), BatchNorm(dtype="mixed_bfloat16")
    model = keras.Sequential([keras.Input((4,)), *layers])
    assert checking.tolerance_of(model) == 2**-5
    assert checking.tolerance_of(small()) == 1e-4


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"format": "savedmodel"}, ValueError, "Did you mean 'saved_model'?"),
        ({"path": "model.onnx"}, ValueError, "For SavedModel the path must be a folder"),
        ({"format": "tflite"}, ValueError, "For LiteRT the path must end in .tflite"),
        ({"path": "there"}, FileExistsError, "Choose another path, or remove it first."),
        ({"path": "there/exported"}, NotADirectoryError, "there' is no folder"),
        ({"path": "gs://bucket/exported"}, ValueError, "Expected a path of this machine"),
        ({"preprocessing": "torhc"}, ValueError, "`preprocessing` must be one of unit, tf, torch, caffe, or None"),
        ({"preprocessing": "unit"}, ValueError, "one input of images"),
        ({"examples": np.ones((2, 5))}, ValueError, r"must have shape \(None, 4\). Received: \(2, 5\)"),
        ({"examples": np.ones((0, 4))}, ValueError, "≥ 1"),
        ({"examples": {"y": np.ones((2, 4))}}, ValueError, "structure of the model's inputs, x. Received: a dict"),
        ({"opset": 15}, ValueError, "`opset` belongs to format='onnx'"),
        ({"timeout": 0}, ValueError, "`timeout` must be a number of seconds > 0. Received: 0"),
        ({"custom_objects": {}}, ValueError, "`custom_objects` belongs to the path of a .keras file"),
        ({"input_signature": [4]}, ValueError, "must be a structure of tf.TensorSpec, each with a dtype"),
        ({"input_signature": tf.TensorSpec(None, "float32")}, ValueError, "whose first dimension is the batch"),
        ({"input_signature": {"x": tf.TensorSpec([None, 4])}}, ValueError, "structure of the model's inputs, x"),
        ({"input_signature": tf.TensorSpec([None, 5])}, export.ExportError, "cannot be traced for"),
        ({"examples": np.full((2, 4), np.nan)}, export.ExportError, "An output of the model itself is NaN"),
        ({"model": "nothing.keras"}, FileNotFoundError, "There is no file 'nothing.keras'"),
        ({"model": "there"}, ValueError, "'there' is no .keras file"),
        ({"model": 3}, TypeError, "Expected a Keras model or the path of one. Received: 3"),
        ({"model": keras.Sequential([keras.layers.Dense(3)])}, ValueError, "has no weights yet"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, dict) else "",
)
def test_what_cannot_be_is_told(change, error, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").write_text("")
    with pytest.raises(error, match=words):
        export.export(**{"model": small(), "path": "exported", "report": None} | change)
    assert [entry.name for entry in tmp_path.iterdir()] == ["there"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    def refuse(prefix, dir):
        raise PermissionError(13, "Permission denied", f"{dir}/{prefix}8f3a")

    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    with pytest.raises(PermissionError, match=f"^{str(tmp_path)!r} cannot be written: Permission denied. Choose"):
        export.export(small(), tmp_path / "exported", check=False, report=None)


def test_what_is_missing_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"Missing: tf2onnx, onnx, onnxruntime.*pip install 'bn_keras\[export\]'"):
        export.export(small(), tmp_path / "model.onnx", format="onnx")


@pytest.mark.slow
def test_an_op_that_a_format_has_not_is_told(tmp_path):
    model = small(OtherInGraphs(lambda x: tf.linalg.svd(x[..., tf.newaxis])[1][..., 0] * x))
    with pytest.raises(export.ExportError, match="cannot be exported to LiteRT: it has no op for Svd"):
        export.export(model, tmp_path / "model.tflite", format="tflite")


def test_a_model_of_a_strategy_is_not_exported_within_it(tmp_path):
    with (
        tf.distribute.OneDeviceStrategy("CPU:0").scope(),
        pytest.raises(ValueError, match=r"outside of strategy.scope\(\)"),
    ):
        export.export(small(), tmp_path / "exported")


class Unknown(keras.layers.Layer):
    """That nobody can load who does not have it."""

    __module__ = "elsewhere"

    def call(self, x):
        return x


def typed(*arguments):
    result = click.testing.CliRunner().invoke(cli, ["export", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


@pytest.fixture(scope="module")
def keras_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("files") / "model.keras"
    keras.Sequential([keras.Input((6, 6, 3)), keras.layers.Conv2D(4, 3), BatchNorm()]).save(path)
    return path


@pytest.mark.slow
def test_the_command(keras_file, tmp_path):
    code, printed = typed(keras_file, tmp_path / "1", "--fold", "--preprocessing", "torch", "--no-check")
    assert code == 0
    assert "folded" in printed.splitlines()[0]
    assert "kB in" in printed
    assert printed.endswith("Outputs not compared: check=False.\n")
    code, printed = typed(keras_file, tmp_path / "2", "--timeout", "0.01")
    assert code == 1
    assert "The check did not end within 0.01 s" in printed
    code, printed = typed(keras_file, tmp_path / "1")
    assert code == 1
    assert "There is something at" in printed


@pytest.mark.parametrize(
    ("arguments", "expected", "words"),
    [
        (["model.keras"], 2, "Missing argument 'OUT'"),
        (["nothing.keras", "out"], 2, "'nothing.keras' does not exist"),
        (["model.keras", "out", "--format", "tf"], 2, "expected one of saved_model, tflite, onnx; received 'tf'"),
        (["model.keras", "out", "--format", "tflite"], 2, "the path must end in .tflite"),
        (["model.keras", "out.onnx"], 2, "the path must be a folder"),
        (["model.keras", "out", "--preprocessing", "caffee"], 2, "Did you mean 'caffe'?"),
        (["model.keras", "out", "--opset", "15"], 2, "--opset is for --format onnx"),
        (["model.keras", "out", "--timeout", "-1"], 2, "expected a number in (0, 604800]; received '-1'"),
        (["text.keras", "out"], 1, "'text.keras' is no .keras file"),
        (["other.keras", "out"], 1, "'Unknown' is not known here. Call export in Python"),
        (["model.keras", "text.keras/out"], 1, "is no folder"),
    ],
)
def test_typed_wrong(arguments, expected, words, keras_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pathlib.Path("model.keras").write_bytes(keras_file.read_bytes())
    pathlib.Path("text.keras").write_text("no model")
    keras.Sequential([keras.Input((3,)), Unknown()]).save("other.keras")
    code, printed = typed(*arguments)
    assert code == expected
    assert words in printed
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["model.keras", "other.keras", "text.keras"]


@pytest.mark.slow
@pytest.mark.skipif(bool(MISSING), reason="ONNX needs the extra: pip install 'bn_keras[export]'")
def test_the_command_with_an_opset(keras_file, tmp_path):
    import onnx

    path = tmp_path / "model.onnx"
    code, printed = typed(keras_file, path, "--format", "onnx", "--opset", "13", "--no-check")
    assert code == 0, printed
    assert [each.version for each in onnx.load(path).opset_import if not each.domain] == [13]
    code, printed = typed(keras_file, tmp_path / "other.onnx", "--format", "onnx", "--opset", "99")
    assert code == 1
    assert "--opset must be a whole number from 9 to" in printed
