"""What `examine` takes, refuses and reports."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from bn_keras import BatchNorm, WeightNorm, doctor
from bn_keras.doctor import examine, repairs
from bn_keras.doctor.criterion import Criterion
from bn_keras.doctor.data import Batch, batches_of
from bn_keras.doctor.examine import case_of
from bn_keras.doctor.findings_weights import dead_scale, weight_decay_on_scales
from bn_keras.doctor.gaps import MEAN_GAP, gap_of
from bn_keras.doctor.measuring import Pass, measure, output_change
from bn_keras.surgery import exclude_from_weight_decay
from bn_keras.surgery.weight_decay import decayed


@pytest.fixture(scope="module")
def stale():
    """A model of one batch norm, whose statistics are of data with another mean and variance."""
    model = keras.Sequential([keras.Input((4,)), BatchNorm(momentum=0.9, name="norm"), keras.layers.Dense(2)])
    norm = model.get_layer("norm")
    norm.gamma.assign([2.0, 0.5, 1.5, 3.0])
    norm.moving_mean.assign([3.0, 3.0, 3.0, 3.0])
    norm.moving_variance.assign([4.0, 4.0, 4.0, 4.0])
    return model


@pytest.fixture(scope="module")
def inputs():
    return np.random.default_rng(0).normal(1.0, 1.0, (512, 4)).astype("float32")


def test_the_gap_is_the_equation(stale, inputs):
    batches = batches_of(inputs, 32, 16)
    norm = stale.get_layer("norm")
    gap = gap_of(norm, measure(stale, batches, "training"), [32] * 16)
    assert gap.mean_gap == pytest.approx(2.0, rel=0.05)
    assert gap.variance_ratio == pytest.approx(0.25, rel=0.05)
    assert gap.variance_factor == pytest.approx(4, rel=0.05)
    assert gap.batch_noise == pytest.approx(1 / np.sqrt(32), rel=0.3)
    assert gap.mean_noise == pytest.approx(gap.batch_noise * np.sqrt(1 / 16 + 0.1 / 1.9))
    assert (gap.channels, gap.values, gap.by_batch, gap.exceeds_noise) == (4, 32, True, True)


def test_batch_noise_is_no_gap(stale, inputs):
    norm = keras.models.clone_model(stale).get_layer("norm")
    norm.moving_mean.assign([1.0] * 4)  # right, but four batches of eight do not tell it exactly
    found = measure(keras.Sequential([keras.Input((4,)), norm]), batches_of(inputs, 8, 4), "training")
    gap = gap_of(norm, found, [8] * 4)
    assert gap.mean_gap > MEAN_GAP
    assert not gap.exceeds_noise


@pytest.mark.slow
def test_the_report(stale, inputs, tmp_path):
    examination = examine(stale, inputs)
    assert [each.name for each in examination.findings] == ["stale_statistics", "worse_in_inference"]
    text = str(examination)
    assert "doctor: " in text
    assert "2 errors" in text
    assert text.splitlines()[1].startswith("512 examples in 16 batches: output change ")
    assert "surgery.recalibrate" in text
    assert "norm" in text.splitlines()[-1]
    assert json.loads(json.dumps(examination.to_dict()))["findings"][0]["layers"] == ["norm"]
    repaired = examination.repaired()
    np.testing.assert_allclose(repaired.get_layer("norm").moving_mean, inputs.mean(axis=0), rtol=0, atol=1e-3)
    assert stale.get_layer("norm").moving_mean.numpy().tolist() == [3] * 4
    again = examine(repaired, inputs)
    assert not again.findings
    with pytest.raises(ValueError, match="no repair that gains anything"):
        again.repaired()
    examination.figure().savefig(tmp_path / "gaps.png")
    with pytest.raises(ValueError, match="nothing to repair"):
        examine(keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]), inputs).repaired()


def test_every_kind_of_data(inputs):
    labels = np.arange(512)
    dataset = tf.data.Dataset.from_tensor_slices((inputs, labels))
    batched = dataset.batch(32)
    for data in (
        inputs,
        (inputs, labels),
        {"x": inputs},
        [inputs, inputs],
        list(batched),
        batched,
        batched.repeat(),
    ):
        batches = batches_of(data, 32, 3)
        assert [batch.size for batch in batches] == [32] * 3
    x, y = batches_of((inputs, labels), 512, 1)[0].x, batches_of((inputs, labels), 512, 1)[0].y
    np.testing.assert_array_equal(x.numpy(), inputs[y.numpy()])
    assert [batch.size for batch in batches_of(inputs[:70], 32, 9)] == [32, 38], "no batch of the rest alone"


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        ("digits", {}, "`data` must be an array"),
        (None, {}, "`data` must be an array"),
        ((np.ones((4, 2)), np.ones(3)), {}, "arrays of one length"),
        ([], {}, "at least one batch"),
        (np.ones((4, 2)), {"batch_size": 0}, "batch_size"),
        (np.ones((4, 2)), {"steps": 0}, "steps"),
    ],
)
def test_data_that_is_refused(stale, data, options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        examine(stale, data, **options)


def test_what_is_no_model_is_refused(inputs):
    with pytest.raises(TypeError, match="Expected a Keras model"):
        examine("model.keras", inputs)
    with pytest.raises(ValueError, match="no weights yet"):
        examine(keras.Sequential([BatchNorm()]), inputs)


@pytest.mark.parametrize(
    ("output", "labels", "name"),
    [
        ([[0.2, 0.8], [0.9, 0.1]], [1, 0], "cross-entropy of probabilities"),
        ([[-1.0, 3.0], [2.0, 1.0]], [1, 0], "cross-entropy of logits"),
        ([[-1.0, 3.0], [2.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]], "cross-entropy of logits"),
        ([[0.2], [0.7]], [0, 1], "binary cross-entropy of probabilities"),
        ([[-2.0], [0.7]], [0, 1], "binary cross-entropy of logits"),
        ([[1.0], [2.0]], [[1.5], [2.5]], "mean squared error"),
        ([[1.0, 2.0]], [[1.5, 2.5, 3.5]], ""),
    ],
)
def test_the_loss_that_labels_ask_for(output, labels, name):
    batch, outputs = Batch(None, tf.constant(labels)), tf.constant(output)
    criterion = Criterion(None, batch, outputs)
    assert criterion.name == name
    assert np.isfinite(criterion(None, batch, outputs)[0]) == bool(name)
    assert bool(criterion.why) == (not name)


def test_a_wrong_severity_is_refused():
    with pytest.raises(ValueError, match="`severity` must be one of"):
        doctor.Finding("name", "fatal", (), 1.0, "sentence")


def test_a_list_of_arrays_is_no_list_of_batches(stale, inputs):
    with pytest.raises(ValueError, match=r"`data` is a list of 2 arrays.*has one input.*iter\("):
        examine(stale, [inputs[:32], inputs[32:64]])
    monitor = doctor.NormalizationMonitor([inputs[:32], inputs[32:64]])
    monitor.set_model(stale)
    with pytest.raises(ValueError, match="has one input"):
        monitor.on_train_begin()
    assert [batch.size for batch in batches_of(iter([inputs[:32], inputs[32:64]]), 32, 9)] == [32, 32]


def test_scales_that_start_at_zero_are_dead_after_training_alone(inputs):
    norms = [BatchNorm(name="first"), BatchNorm(gamma_initializer="zeros", name="last")]
    model = keras.Sequential([keras.Input((4,)), *norms])
    model.get_layer("first").gamma.assign([1.0, 2.0, 0.5, 3.0])  # a pretrained layer
    model.compile("sgd", "mse")
    batches = batches_of(inputs, 32, 1)
    (finding,) = dead_scale(case_of(model, batches))
    assert (finding.severity, finding.layers) == ("note", ("last",))
    assert "starts" in finding.sentence
    model.optimizer.iterations.assign(1)
    (finding,) = dead_scale(case_of(model, batches))
    assert (finding.severity, finding.layers) == ("error", ("last",))


@pytest.mark.parametrize(
    ("shapes", "values"),
    [
        ([(4, 3), (2, 3)], 3),
        ([(4, 5, 3), (2, 5, 3)], 15),
        ([(4, 5, 3), (2, 7, 3)], 3),
        ([(4, 5), (2, 6)], 1),
        ([(), ()], 1),
    ],
)
def test_the_output_change_is_the_equation(random, shapes, values):
    """Whatever varies from batch to batch: `values` have a mean each."""
    passes = [Pass(outputs=[[random.normal(9, 1, shape).astype("float32")] for shape in shapes]) for _ in range(2)]
    old, new = (np.concatenate([each[0].reshape(-1, values) for each in one.outputs]).astype(float) for one in passes)
    expected = np.sqrt(np.mean((new - old) ** 2)) / np.sqrt(np.mean((old - old.mean(0)) ** 2))
    assert output_change(*passes) == [pytest.approx(expected, rel=1e-9)]


def test_outputs_take_no_more_memory_than_the_model_gives(stale, inputs):
    found = measure(stale, batches_of(inputs, 32, 2), "inference")
    assert {each.dtype for batch in found.outputs for each in batch} == {np.dtype(np.float32)}


@pytest.mark.slow
def test_copies_train_with_the_exclusions_of_the_optimizer(monkeypatch, inputs):
    model = keras.Sequential([keras.Input((4,)), BatchNorm(name="norm"), keras.layers.Dense(2, name="head")])
    optimizer = keras.optimizers.AdamW(weight_decay=0.1)
    optimizer.exclude_from_weight_decay(var_list=[model.get_layer("head").kernel], var_names=["beta"])
    model.compile(optimizer, "mse")
    monkeypatch.setattr(repairs, "DECAY_STEPS", 1)
    for exclude, expected in [(False, ["gamma", "bias"]), (True, ["bias"])]:
        copy = repairs.trained(model, batches_of((inputs, inputs[:, :2]), 32, 1), optimizer, exclude)
        assert [each.name for each in decayed(copy.optimizer, copy.trainable_variables)] == expected


def test_weight_decay_of_the_scales_of_kernels_is_found(inputs):
    model = keras.Sequential([keras.Input((4,)), WeightNorm(keras.layers.Dense(4), name="weight"), BatchNorm(name="n")])
    others = keras.Sequential(model.layers[1:])
    model.compile(exclude_from_weight_decay(keras.optimizers.AdamW(weight_decay=1e-4), others))
    (finding,) = weight_decay_on_scales(case_of(model, batches_of(inputs, 32, 1)))
    assert finding.layers == ("weight",)
