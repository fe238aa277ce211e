"""Files of 8-bit integers answer as the model does, or they are not written."""

import importlib.util
import pathlib
import types

import click.testing
import keras
import numpy as np
import pytest
import tensorflow as tf

from bn_keras import BatchNorm, export, surgery
from bn_keras.cli import cli
from bn_keras.export import checking, process, quantizing
from bn_keras.export.agreement import Agreement, measured_agreement, refuse_drop
from bn_keras.export.endpoint import Endpoint

pytestmark = pytest.mark.usefixtures("forked_exports")
MISSING = [name for name in ("tf2onnx", "onnx", "onnxruntime") if importlib.util.find_spec(name) is None]
ONNX = pytest.param(
    "onnx", marks=pytest.mark.skipif(bool(MISSING), reason="ONNX needs the extra: pip install 'bn_keras[export]'")
)


def network(loud=1.0):
    """Two convolutions with names that Keras' scopes confuse; one channel of the first is `loud` times the others."""
    random, inputs = np.random.default_rng(0), keras.Input((6, 6, 3), name="images")
    x = inputs
    for end in ("", "_1"):
        x = keras.layers.Conv2D(8, 3, use_bias=False, name=f"conv{end}")(x)
        x = keras.layers.ReLU(name=f"relu{end}")(BatchNorm(name=f"norm{end}")(x))
    outputs = keras.layers.Dense(4, name="logits")(keras.layers.Flatten()(x))
    model = keras.Model(inputs, outputs, name="small")
    for weight in model.weights:
        positive = weight.name in ("gamma", "moving_variance")
        weight.assign(random.uniform(0.5, 1.5, weight.shape) if positive else random.normal(size=weight.shape))
    norm, following, factor = model.get_layer("norm"), model.get_layer("conv_1"), np.where(np.arange(8) == 3, loud, 1)
    norm.gamma.assign(norm.gamma * factor)
    norm.beta.assign(norm.beta * factor)
    following.kernel.assign(following.kernel / factor[:, np.newaxis])
    return model


@pytest.fixture(scope="module")
def examples():
    return np.random.default_rng(1).normal(size=(80, 6, 6, 3)).astype(np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("format", ["tflite", ONNX])
def test_a_folded_network_in_int8(format, examples, tmp_path):
    """From batches with labels; the last one is smaller."""
    model, told = network(), []
    before = model.get_weights()
    data = [(examples[:50], np.zeros(50)), (examples[50:], np.zeros(30))]
    path = tmp_path / "deep" / f"model.{format}"
    made = export.quantize(model, path, data, format=format, report=told.append)
    assert [each.name for each in tmp_path.rglob("*")] == ["deep", path.name]
    assert told == [str(made.report), str(made)]
    assert len(made.report.of("folded")) == 2
    assert (made.examples, made.inputs, made.outputs) == (80, ("images",), ("output_0",))
    assert made.bytes == path.stat().st_size
    assert 1e-4 < made.largest_difference < 0.05, "rounded, but not far off"
    assert 0 < made.mean_difference < made.largest_difference
    assert made.agreement > 0.95
    assert made.floats == ()
    *layers, output = made.layers
    assert {"relu", "relu_1"} <= {each.layer for each in layers}
    assert all(0 < each.rounding < 0.1 for each in layers), layers
    assert (output.layer, output.rounding) == ("output", None)
    assert 0.001 < output.error < 0.05
    assert f"top-1 agrees for {made.agreement:.1%}, outputs differ by" in told[1]
    assert all(np.array_equal(*pair) for pair in zip(before, model.get_weights(), strict=True))


@pytest.mark.slow
def test_what_loses_too_much_is_refused_and_its_layer_is_named(examples, tmp_path):
    """The float32 model is the same for any `loud`, because the next convolution undoes it."""
    model, path = network(loud=3e3), tmp_path / "model.tflite"
    words = r"int8 loses too much: .* Largest rounding errors: relu [89]\d.* larger `most_difference` allows the file"
    with pytest.raises(export.ExportError, match=words):
        export.quantize(model, path, examples, least_agreement=0.99, report=None)
    assert not list(tmp_path.iterdir())
    made = export.quantize(
        model, path, examples, least_agreement=0, most_difference=float("inf"), fold=False, report=None
    )
    assert made.agreement < 0.99
    assert made.worst(1)[0].layer == "relu"
    assert made.report is None
    assert path.exists()


@pytest.mark.slow
def test_a_fixed_batch_and_pixels(tmp_path):
    """The last four of 36 examples do not fill a batch of 8."""
    pixels = np.random.default_rng(2).integers(0, 256, (36, 6, 6, 3))
    signature = tf.TensorSpec([8, 6, 6, 3], "float32", name="pixels")
    made = export.quantize(
        network(), tmp_path / "m.tflite", pixels, input_signature=signature, preprocessing="unit", report=None
    )
    assert made.inputs == ("pixels",)
    assert made.agreement > 0.9
    assert made.largest_difference < 0.1


@pytest.mark.parametrize(
    ("found", "least", "most", "refused"),
    [
        (Agreement(0.94, 0.01, 0.2, ""), 0.95, 0.05, True),
        (Agreement(0.96, 0.06, 0.2, ""), 0.95, 0.05, True),
        (Agreement(None, 0.06, 0.2, ""), 0.95, 0.05, True),
        (Agreement(None, 0.04, 0.2, ""), 0.95, 0.05, False),
        (Agreement(0.1, 9.0, 9.0, ""), 0.0, float("inf"), False),
    ],
)
def test_the_limits(found, least, most, refused):
    if refused:
        with pytest.raises(export.ExportError, match="Nothing was written"):
            refuse_drop(found, least, most, "")
    else:
        refuse_drop(found, least, most, "")


def two_inputs():
    x, y = keras.Input((6, 6, 3), name="x"), keras.Input((6, 6, 3), name="y")
    return keras.Model([x, y], x + y)


def any_size():
    inputs = keras.Input((None, None, 3))
    return keras.Model(inputs, keras.layers.Conv2D(2, 3)(inputs))


GOOD = np.random.default_rng(0).normal(size=(40, 6, 6, 3))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": "saved_model", "path": "m"}, "SavedModel has no int8. Expected format='tflite' or 'onnx'"),
        ({"data": None}, "needs calibration data. Received: data=None"),
        ({"data": GOOD[:31]}, "at least 32 examples. Received: 31"),
        ({"data": GOOD[:, :5]}, r"must have shape \(None, 6, 6, 3\). Received: \(32, 5, 6, 3\)"),
        ({"data": [{"a": GOOD, "b": GOOD}]}, r"must have shape .* Received: \(40, 6, 6, 3\), \(40, 6, 6, 3\)"),
        ({"data": np.where(np.arange(40).reshape(40, 1, 1, 1) == 7, np.nan, GOOD)}, "finite numbers. Received: NaN"),
        ({"data": np.ones((40, 6, 6, 3))}, "different examples. Received: 40 that are all the same"),
        ({"data": tf.data.Dataset.from_tensors(GOOD).repeat()}, "have no end"),
        ({"data": GOOD, "preprocessing": "unit"}, "are pixels from 0 to 255"),
        ({"model": two_inputs}, "model with one input. Received: .* with the inputs x, y"),
        ({"model": any_size}, "every size of an input but the batch's. .* Pass input_signature="),
        ({"model": lambda: surgery.freeze(half(), report=None)}, "starts from a model of float32"),
        ({"least_agreement": 1.1}, "`least_agreement` must be a number from 0 to 1"),
        ({"most_difference": 0}, "`most_difference` must be a number > 0"),
        ({"data": GOOD, "input_signature": tf.TensorSpec([64, 6, 6, 3])}, "at least 64 examples. Received: 40"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_what_cannot_be_is_told_before_anything_runs(change, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(process, "run", lambda *arguments, **settings: pytest.fail("a process was started"))
    arguments = {"model": network, "path": "m.tflite", "data": GOOD, "report": None} | change
    with pytest.raises(ValueError, match=words):
        export.quantize(**arguments | {"model": arguments["model"]()})
    assert not list(tmp_path.iterdir())


def half():
    return keras.Sequential([keras.Input((6, 6, 3)), BatchNorm(dtype="mixed_bfloat16")])


def typed(*arguments):
    result = click.testing.CliRunner().invoke(cli, ["export", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


@pytest.mark.slow
def test_the_command(examples, tmp_path):
    network().save(tmp_path / "model.keras")
    np.save(tmp_path / "data.npy", examples)
    out = tmp_path / "out.tflite"
    arguments = (tmp_path / "model.keras", out, "--format", "tflite", "--int8", "--calibrate")
    code, printed = typed(*arguments, tmp_path / "nothing.npy")
    assert code == 2
    assert "there is no file" in printed
    (tmp_path / "text.npy").write_text("1, 2")
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object))
    for name in ("text", "objects"):
        code, printed = typed(*arguments, tmp_path / f"{name}.npy")
        assert code == 1
        assert f"{name}.npy' cannot be read as numpy.save writes it" in printed
    code, printed = typed(*arguments, tmp_path / "data.npy")
    assert code == 0, printed
    assert "fold: 2 folded." in printed
    assert f"int8 LiteRT {out}: " in printed
    assert "80 examples" in printed


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--int8", "--calibrate", "digits"], "SavedModel has no int8. Add --format tflite or --format onnx"),
        (["--int8", "--format", "tflite"], "--int8 needs calibration data"),
        (["--calibrate", "digits"], "--calibrate and --allow-drop are for --int8"),
        (["--int8", "--format", "tflite", "--calibrate", "digits", "--no-check"], "are not for --int8"),
    ],
)
def test_typed_wrong(options, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pathlib.Path("model.keras").write_text("")
    code, printed = typed("model.keras", "out.tflite", *options)
    assert code == 2
    assert words in printed


class FakeQuantized(keras.layers.Layer):
    """Rounds activations to 8 bits in training and inference; gradients pass through."""

    def call(self, x):
        return tf.quantization.fake_quant_with_min_max_args(x, min=-6, max=6, num_bits=8)


@pytest.mark.slow
@pytest.mark.parametrize("frozen", [True, False], ids=["frozen", "not frozen"])
def test_fake_quantized_fine_tuning_keeps_frozen_statistics(frozen, examples):
    model = surgery.freeze(network(), report=None) if frozen else network()
    inputs = x = model.input
    for layer in model.layers[1:]:
        x = FakeQuantized()(layer(x)) if isinstance(layer, keras.layers.ReLU) else layer(x)
    tuned = keras.Model(inputs, x)
    tuned.compile(keras.optimizers.SGD(1e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    norm = model.get_layer("norm")
    weights = norm.moving_mean, norm.moving_variance, norm.gamma
    before = [np.copy(each) for each in weights]
    tuned.fit(examples, np.arange(80) % 4, batch_size=16, verbose=0)
    moved = [not np.array_equal(*pair) for pair in zip(before, weights, strict=True)]
    assert moved == [not frozen, not frozen, True]
    if frozen:
        folded = surgery.fold(tuned, report=None)
        assert len(surgery.report(folded).of("folded")) == 2
        np.testing.assert_allclose(folded(examples), tuned(examples, training=True), rtol=0, atol=0.2)


@pytest.mark.parametrize(
    ("right", "value", "mean", "top1"),
    [
        ([[1.0, -4.0], [2.0, 4.0]], [[1.0, -4.0], [2.0, 3.0]], 1 / 16, 1.0),  # over the largest
        ([[300.0], [300.2], [300.4], [300.2]], [[300.2]] * 4, 0.1 / (8 * 0.02**0.5), None),  # says nothing any more
        ([[300.0], [300.0]], [[300.0], [303.0]], 0.005, None),  # always said the same
        ([1, 2, 3, 4], [1, 2, 3, 9], 5 / 4 / 4, 0.75),  # classes
    ],
)
def test_what_differences_are_measured_in(right, value, mean, top1, monkeypatch):
    answers = [[np.asarray(right)]], {"outputs": [[np.asarray(value)]], "runtime": "a runtime"}
    monkeypatch.setattr(checking, "both_answers", lambda *_: answers)
    signature = types.SimpleNamespace(batch=None, pack=lambda arrays: arrays)
    found = measured_agreement(None, types.SimpleNamespace(signature=signature), np.zeros((4, 1)), "tflite", "", 1)
    assert found.mean == pytest.approx(mean, rel=1e-3)
    assert found.top1 == top1


@pytest.mark.slow
@pytest.mark.parametrize("format", ["tflite", ONNX])
def test_a_file_that_answers_something_else_is_not_written(format, examples, tmp_path, monkeypatch):
    """The file is broken after the conversion: the process of the check loads another network."""
    convert, others = quantizing.convert, network()
    others.get_layer("logits").kernel.assign(-others.get_layer("logits").kernel)

    def broken(chosen, endpoint, data, path):
        return convert(chosen, Endpoint(others, endpoint.signature, None), data, path)

    monkeypatch.setattr(quantizing, "convert", broken)
    with pytest.raises(export.ExportError, match="int8 loses too much"):
        export.quantize(network(), tmp_path / f"m.{format}", examples, format=format, report=None)

    def cut(chosen, endpoint, data, path):
        found = convert(chosen, endpoint, data, path)
        path.write_bytes(path.read_bytes()[:100])
        return found

    monkeypatch.setattr(quantizing, "convert", cut)
    with pytest.raises(export.ExportError, match="cannot be served"):
        export.quantize(network(), tmp_path / f"m.{format}", examples, format=format, report=None)
    assert not list(tmp_path.iterdir())
