"""One planted fault per model: the doctor names it, and its repair gains what the doctor says."""

import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from bn_keras.doctor import examine
from bn_keras.doctor.examine import FINDINGS
from tests.doctor import networks

pytestmark = pytest.mark.slow


def found(examination, name):
    """The finding of that name; the whole report if there is none."""
    (finding,) = [each for each in examination.findings if each.name == name] or [None]
    assert finding is not None, str(examination)
    return finding


def gain(finding, what):
    (gain,) = [each for each in finding.repair.gains if each.what == what]
    return gain


def accuracy(model, digits):
    x, y = digits
    return float(np.mean(np.argmax(model.predict(x, verbose=0), -1) == y))


def alarms(examination):
    return {each.name for each in examination.findings if each.severity != "note"}


def test_statistics_that_were_never_updated(digits):
    model = networks.mlp(momentum=1.0)
    examination = examine(model, digits)
    finding = found(examination, "never_updated")
    assert finding.severity == "error"
    assert set(finding.layers) == {"norm_1", "norm_2"}
    assert finding.repair.name == "recalibrate"
    assert gain(finding, "loss").after < 0.5 * gain(finding, "loss").before
    assert alarms(examination) <= {"never_updated", "worse_in_inference"}
    assert accuracy(examination.repaired(), digits) == pytest.approx(gain(finding, "accuracy").after)
    assert gain(finding, "accuracy").after > accuracy(model, digits)


def test_a_call_that_takes_no_training(digits):
    keras.utils.set_random_seed(1)
    model = networks.fit(networks.Forgetful())
    examination = examine(model, digits)
    finding = found(examination, "never_updated")
    assert finding.severity == "error"
    assert "takes no `training`" in finding.sentence
    assert finding.repair is None, "the weights were trained without normalization: other statistics would harm"
    assert alarms(examination) == {"never_updated"}


def test_statistics_of_other_weights(trained, digits):
    model = networks.copy_of(trained)
    kernel = model.get_layer("dense_2").kernel
    kernel.assign(0.2 * kernel)  # as an edit or an average of weights does
    examination = examine(model, digits)
    finding = found(examination, "stale_statistics")
    assert finding.severity == "error"
    assert finding.layers == ("norm_2",)
    assert finding.number == pytest.approx(np.log(25), rel=0.15)
    assert gain(finding, "loss").after < 0.8 * gain(finding, "loss").before
    assert alarms(examination) <= {"stale_statistics", "worse_in_inference"}
    repaired = examination.repaired()
    assert accuracy(repaired, digits) == pytest.approx(gain(finding, "accuracy").after)
    assert not alarms(examine(repaired, digits))


def test_nan(trained, digits):
    model = networks.copy_of(trained)
    variance = model.get_layer("norm_2").moving_variance
    variance.assign(np.where(np.arange(48) == 5, np.nan, variance).astype("float32"))
    finding = found(examine(model, digits), "not_finite")
    assert finding.severity == "error"
    assert finding.layers == ("norm_2",)
    assert "in its moving statistics" in finding.sentence
    assert finding.repair.name == "recalibrate"
    model.get_layer("dense_1").kernel.assign(np.full((64, 48), np.nan, "float32"))
    finding = found(examine(model, digits), "not_finite")
    assert finding.layers == ("norm_1", "norm_2")
    assert "'norm_1' gets NaN" in finding.sentence
    assert finding.repair is None


def test_good_in_training_bad_in_inference(digits):
    model = networks.mlp(epochs=3, momentum=0.999)
    examination = examine(model, digits)
    finding = found(examination, "worse_in_inference")
    assert finding.severity == "error"
    assert finding.number == pytest.approx(examination.numbers["loss"] - examination.numbers["training loss"])
    assert gain(finding, "accuracy").after > gain(finding, "accuracy").before + 0.05
    assert alarms(examination) == {"stale_statistics", "worse_in_inference"}


def test_without_labels_the_outputs_tell(digits):
    model = networks.mlp(epochs=3, momentum=0.999)
    examination = examine(model, digits[0])
    finding = found(examination, "worse_in_inference")
    assert gain(finding, "output change").after < 0.5 * gain(finding, "output change").before
    assert found(examination, "stale_statistics").severity == "error"


def test_dead_scales(trained, digits):
    model = networks.copy_of(trained)
    gamma = model.get_layer("norm_1").gamma
    gamma.assign(gamma * np.array([0.0] * 36 + [1.0] * 12, "float32"))
    examination = examine(model, digits)
    finding = found(examination, "dead_scale")
    assert finding.severity == "warning"
    assert finding.layers == ("norm_1",)
    assert finding.number == 0.75
    assert gain(finding, "loss").after < 0.7 * gain(finding, "loss").before
    assert accuracy(examination.repaired(), digits) > accuracy(model, digits)


def test_an_exploding_scale(trained, digits):
    model = networks.copy_of(trained)
    gamma = model.get_layer("norm_2").gamma
    factors = np.ones(48, "float32")
    factors[[3, 9, 17, 30]] = 300
    gamma.assign(gamma * factors)
    examination = examine(model, digits)
    finding = found(examination, "exploding_scale")
    assert finding.severity == "error"
    assert finding.layers == ("norm_2",)
    assert finding.number > 100
    assert gain(finding, "loss").after < 0.1 * gain(finding, "loss").before
    assert accuracy(examination.repaired(), digits) > accuracy(model, digits)


def test_one_value_per_channel(trained, digits):
    examination = examine(networks.copy_of(trained), digits, batch_size=1, steps=12)
    finding = found(examination, "one_value_per_channel")
    assert finding.severity == "error"
    assert finding.number == 1
    assert finding.repair.name == "freeze"
    assert gain(finding, "training loss").after < 0.2 * gain(finding, "training loss").before


def test_one_value_per_channel_in_the_last_batch_alone(trained, digits):
    x, y = digits
    data = tf.data.Dataset.from_tensor_slices((x[:193], y[:193])).batch(64)
    finding = found(examine(networks.copy_of(trained), data), "one_value_per_channel")
    assert finding.severity == "warning"
    assert finding.number == 0.25


def test_small_batches(trained, digits):
    examination = examine(networks.copy_of(trained), digits, batch_size=3, steps=40)
    finding = found(examination, "small_batch")
    assert finding.severity == "warning"
    assert finding.number == pytest.approx(1 / np.sqrt(3), rel=0.2)
    assert finding.repair.name == "freeze"
    assert gain(finding, "training loss").after < 0.7 * gain(finding, "training loss").before
    assert alarms(examination) == {"small_batch"}


def test_batches_of_one_class(trained, digits):
    x, y = digits
    order = np.argsort(y, kind="stable")
    data = tf.data.Dataset.from_tensor_slices((x[order], y[order])).batch(64)
    examination = examine(networks.copy_of(trained), data)
    finding = found(examination, "unlike_batches")
    assert "Shuffle" in finding.advice


def test_training_false_that_fit_overrides(trained, digits):
    base = networks.copy_of(trained)
    x = keras.Input((64,))
    model = keras.Model(x, keras.layers.Rescaling(1.0)(base(x, training=False)))
    moving_mean = base.get_layer("norm_1").moving_mean
    before = moving_mean.numpy()
    examination = examine(model, digits, batch_size=8)
    networks.fit(model, epochs=1)
    overridden = (moving_mean.numpy() != before).any()
    names = [each.name for each in examination.findings]
    assert ("training_false_overridden" in names) == overridden, "it says what this version of Keras does"
    if overridden:
        finding = found(examination, "training_false_overridden")
        assert set(finding.layers) == {"norm_1", "norm_2"}
        assert finding.severity == "error"
        assert gain(finding, "training loss").after < 0.9 * gain(finding, "training loss").before


def test_weight_decay_on_scales(digits):
    model = networks.mlp()
    model.compile(keras.optimizers.AdamW(3e-3, weight_decay=8.0), networks.loss())
    examination = examine(model, digits)
    finding = found(examination, "weight_decay_on_scales")
    assert finding.severity == "warning"
    assert finding.number == pytest.approx(1 - (1 - 0.024) ** 1000)
    assert finding.repair.name == "exclude_from_weight_decay"
    assert gain(finding, "loss after training").after < 0.95 * gain(finding, "loss after training").before
    assert alarms(examination) == {"weight_decay_on_scales"}


def test_a_bias_before_a_batch_norm(digits):
    model = networks.mlp(bias=True)
    examination = examine(model, digits)
    finding = found(examination, "wasted_bias")
    assert finding.severity == "note"
    assert finding.layers == ("dense_1", "dense_2")
    assert finding.number == 96
    assert gain(finding, "parameters").before - gain(finding, "parameters").after == 96
    repaired = examination.repaired()
    assert repaired.count_params() == model.count_params() - 96
    x = digits[0]
    np.testing.assert_allclose(repaired.predict(x, verbose=0), model.predict(x, verbose=0), rtol=0, atol=2e-4)


def test_dropout_before_a_batch_norm(digits):
    model = networks.mlp(dropout=0.6, epochs=10)
    examination = examine(model, digits)
    finding = found(examination, "variance_shift")
    assert finding.severity == "warning"
    assert finding.layers == ("norm_2",)
    assert finding.number > 1.2
    assert finding.repair.name == "recalibrate"
    assert gain(finding, "loss").after < gain(finding, "loss").before


def test_a_mask_that_does_not_arrive():
    x, y = networks.sequences()
    healthy, broken = networks.masked(passes_on=True), networks.masked(passes_on=False)
    healthy.fit(x, y, epochs=4, verbose=0)
    assert not alarms(examine(healthy, (x, y))), "the mask arrives here"
    broken.set_weights(healthy.get_weights())
    with pytest.warns(UserWarning, match="destroy the mask"):
        examination = examine(broken, (x, y))
    finding = found(examination, "lost_mask")
    assert finding.severity == "error"
    assert finding.layers == ("norm",)
    assert "'doubled' (Doubled)" in finding.sentence
    assert finding.number == pytest.approx(np.mean(x[:, :, 0] == 0), abs=0.06)
    assert gain(finding, "share of padding").after == 0
    assert not finding.repair.in_model
    after = gain(finding, "loss").after
    assert after == pytest.approx(healthy.evaluate(x, y, verbose=0), rel=0.1)


def test_every_finding_is_planted_above():
    text = pathlib.Path(__file__).read_text(encoding="utf-8")
    names = {function.__name__ for function in FINDINGS} - {"noisy_batches"} | {"small_batch", "unlike_batches"}
    assert all(f'"{name}"' in text for name in names)
