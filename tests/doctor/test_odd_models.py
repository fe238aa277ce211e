"""Models and data at which a doctor that looks at plain networks alone would be wrong, silently or by an error."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from bn_keras import BatchNorm, DomainBatchNorm
from bn_keras.doctor import examine, repairs
from bn_keras.doctor.criterion import Criterion
from bn_keras.doctor.data import Batch, batches_of
from bn_keras.doctor.findings_weights import gamma_below, typical_of
from bn_keras.doctor.measuring import Pass, measure, output_change
from bn_keras.doctor.structure import is_masked_by
from tests.doctor import networks


@pytest.fixture
def inputs(random):
    return random.normal(1.0, 2.0, (256, 4)).astype("float32")


def of_other_data(norm, scale=1.5):
    """A batch norm whose statistics do not belong to the data, with scales and offsets of its own."""
    size = norm.moving_mean.shape[-1]
    norm.gamma.assign(np.linspace(0.5, scale, size))
    norm.beta.assign(np.linspace(-1, 1, size))
    norm.moving_mean.assign(np.full(size, 4.0))
    norm.moving_variance.assign(np.full(size, 9.0))


def names(examination, *severities):
    return {each.name for each in examination.findings if not severities or each.severity in severities}


def test_numbers_are_means_over_examples(random):
    """A last batch of one example counts as one example, as `evaluate` counts it."""
    model = keras.Sequential([keras.Input((4,)), BatchNorm(name="norm"), keras.layers.Dense(3)])
    of_other_data(model.get_layer("norm"))
    model.compile("sgd", networks.loss(), metrics=["accuracy"])
    x, y = random.normal(size=(33, 4)).astype("float32"), random.integers(0, 3, 33)
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(16)
    criterion = Criterion(model, batches_of(data, 1, 1)[0], None)
    found = measure(model, batches_of(data, 1, 9), "inference", criterion)
    loss, accuracy = model.evaluate(data, verbose=0)
    assert found.loss == pytest.approx(loss, rel=1e-5)
    assert found.accuracy == pytest.approx(accuracy, rel=1e-5)


def test_the_loss_without_compilation_takes_sample_weights():
    outputs, labels = tf.constant([[2.0, 0.0], [0.0, 3.0]]), tf.constant([0, 0])
    criterion = Criterion(None, Batch(None, labels), outputs)
    whole = criterion.loss_of(None, Batch(None, labels, tf.constant([1.0, 1.0])), outputs)
    first = criterion.loss_of(None, Batch(None, labels, tf.constant([2.0, 0.0])), outputs)
    assert whole == pytest.approx((0.126928 + 3.048587) / 2, rel=1e-4)
    assert first == pytest.approx(0.126928, rel=1e-4)


@pytest.mark.slow
def test_losses_that_layers_add_are_those_of_the_repaired_copy(inputs, random):
    """`trace_of` leaves symbolic tensors in `model.losses`, and the copy has others."""
    dense = keras.layers.Dense(3, activity_regularizer=keras.regularizers.L2(0.3), name="dense")
    model = keras.Sequential([keras.Input((4,)), BatchNorm(name="norm"), dense])
    of_other_data(model.get_layer("norm"), scale=9.0)
    model.compile("sgd", networks.loss())
    data = inputs, random.integers(0, 3, 256)
    (finding,) = [each for each in examine(model, data).findings if each.name == "stale_statistics"]
    copy = examine(model, data).repaired()
    copy.compile("sgd", networks.loss())
    gain = finding.repair.gains[0]
    assert gain.what == "loss"
    assert gain.before == pytest.approx(model.evaluate(*data, verbose=0), rel=1e-3)
    assert gain.after == pytest.approx(copy.evaluate(*data, verbose=0), rel=1e-3)


@pytest.fixture
def two_outputs(inputs):
    """A model with two outputs, of which the loss of the second weighs nothing, and data."""
    x = keras.Input((4,))
    h = BatchNorm(name="norm")(x)
    outputs = {"a": keras.layers.Dense(1, name="a")(h), "b": keras.layers.Dense(1, name="b")(h)}
    model = keras.Model(x, outputs)
    of_other_data(model.get_layer("norm"))
    optimizer = keras.optimizers.AdamW(0.01, weight_decay=1.0)
    model.compile(optimizer, {"a": "mse", "b": "mse"}, loss_weights={"a": 2.0, "b": 0.0})
    return model, batches_of((inputs, {"a": inputs[:, :1], "b": 1e3 * inputs[:, :1]}), 64, 2)


@pytest.mark.slow
def test_copies_are_compiled_with_the_weights_of_the_losses(two_outputs):
    model, batches = two_outputs
    copy = Criterion(model, batches[0], None).ready(keras.models.clone_model(model))
    copy.set_weights(model.get_weights())
    criterion = Criterion(model, batches[0], None)
    expected = model.evaluate(batches[0].x, batches[0].y, verbose=0)
    expected = expected if isinstance(expected, float) else expected[0]
    assert measure(copy, batches[:1], "inference", criterion).loss == pytest.approx(expected, rel=1e-5)
    trained = repairs.trained(model, batches, model.optimizer, exclude=False)
    assert trained.get_compile_config()["loss_weights"] == {"a": 2.0, "b": 0.0}
    np.testing.assert_array_equal(trained.get_layer("b").bias, 0), "what weighs nothing is not trained"


@pytest.mark.slow
def test_an_optimizer_without_config_does_not_keep_a_repair_from_being_tried(inputs, random):
    class Schedule(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step):
            return 0.01

    model = keras.Sequential([keras.Input((4,)), BatchNorm(name="norm"), keras.layers.Dense(3)])
    of_other_data(model.get_layer("norm"), scale=9.0)
    model.compile(keras.optimizers.SGD(Schedule()), networks.loss())
    found = examine(model, (inputs, random.integers(0, 3, 256)))
    assert [each.name for each in found.repairs()] == ["recalibrate"], str(found)


@pytest.mark.parametrize("frozen", [True, False])
def test_frozen_statistics_that_start_at_0_and_1_are_no_fault(inputs, frozen):
    """Converted networks have their statistics in γ and β."""
    model = keras.Sequential([keras.Input((4,)), BatchNorm(name="norm", frozen=frozen), keras.layers.Dense(3)])
    norm = model.get_layer("norm")
    of_other_data(norm)
    norm.moving_mean.assign(np.zeros(4))
    norm.moving_variance.assign(np.ones(4))
    assert ("never_updated" in names(examine(model, inputs), "error")) == (not frozen)


@pytest.mark.parametrize(
    ("shape", "mask", "masked"),
    [((8, 5, 3), (8, 5), True), ((8, 5), (8, 5), False), ((8, 4, 3), (8, 5), False), ((8, 5, 6, 3), (8, 5, 6), True)],
)
def test_a_mask_has_no_channels(shape, mask, masked):
    """Eight vectors of five numbers are no eight sequences of five steps."""
    assert is_masked_by(shape, mask) == masked


def tower(filters, name):
    """A network whose layers have the names of every tower's layers."""
    rows = [keras.layers.Dense(6, name="dense"), BatchNorm(name="norm"), keras.layers.ReLU()]
    rows += [keras.layers.Dense(6, name=f"dense_{filters}", use_bias=False), BatchNorm(name="last")]
    return keras.Sequential([keras.Input((4,)), *(rows if filters else [rows[1], rows[2], rows[0]])], name=name)


@pytest.mark.slow
def test_layers_of_one_name_are_told_apart(inputs, random):
    """In the second tower `dense` does not feed `norm`: its bias is needed."""
    x = keras.Input((4,))
    first, second = tower(2, "first"), tower(0, "second")
    model = keras.Model(x, keras.layers.Dense(2, name="head")(keras.layers.Concatenate()([first(x), second(x)])))
    for weight in model.weights:
        positive = weight.name in ("gamma", "moving_variance")
        weight.assign(random.uniform(0.5, 1.5, weight.shape) if positive else random.normal(size=weight.shape))
    examination = examine(model, inputs)
    (finding,) = [each for each in examination.findings if each.name == "wasted_bias"]
    assert finding.number == 6
    copy = repairs.drop_bias(model, [], {repairs.address_of(model, first.get_layer("norm")): ("dense", 0)})
    np.testing.assert_allclose(copy(inputs), model(inputs), rtol=0, atol=1e-4)
    assert [repairs.address_of(model, each.get_layer("norm")) for each in (first, second)] == [("norm", 0), ("norm", 1)]


def test_outputs_of_any_length():
    outputs = [[np.ones((2, length, 3))] for length in (4, 7)]
    after = [[np.ones((2, length, 3)) + 0.5] for length in (4, 7)]
    outputs[0][0][0] = 3.0
    spread = np.std(np.concatenate([each[0].reshape(-1, 3) for each in outputs]), axis=0)[0]
    after[0][0][0] = 3.5
    assert output_change(Pass(outputs), Pass(after)) == [pytest.approx(0.5 / spread)]


def test_outputs_of_classes():
    assert output_change(Pass([[np.array([1, 2, 3, 4])]]), Pass([[np.array([1, 9, 3, 4])]])) == [0.25]


def test_scales_that_weight_decay_has_brought_next_to_0():
    norm = BatchNorm(name="norm")
    norm.build((None, 5))
    norm.gamma.assign([1e-9, -2e-9, 3e-9, 0.8, -1.2])
    assert typical_of(np.abs(norm.gamma.numpy())) == pytest.approx(1.0), "no scale explodes"
    assert gamma_below(norm).tolist() == [True, True, True, False, False]
    norm.gamma.assign([1e-6] * 5)  # small on purpose
    assert not gamma_below(norm).any()


@pytest.mark.slow
def test_weight_decay_that_is_a_note_is_not_tried(inputs, random, monkeypatch):
    model = keras.Sequential([keras.Input((4,)), BatchNorm(name="norm"), keras.layers.Dense(3)])
    of_other_data(model.get_layer("norm"))
    model.compile(keras.optimizers.AdamW(1e-3), networks.loss())
    monkeypatch.setattr(repairs, "trained", lambda *_, **__: pytest.fail("a copy was trained"))
    found = examine(model, (inputs, random.integers(0, 3, 256)))
    assert "weight_decay_on_scales" in names(found, "note")
    assert not any("weight_decay" in fact for fact in found.facts)


def test_labels_in_a_list(inputs):
    batches = batches_of((inputs, list(range(256))), 32, 3)
    assert [batch.size for batch in batches] == [32] * 3
    np.testing.assert_array_equal(batches[1].x, inputs[batches[1].y.numpy()])


def test_json_has_no_nan(inputs):
    model = keras.Sequential([keras.Input((4,)), BatchNorm(name="norm")])
    of_other_data(model.get_layer("norm"))
    model.get_layer("norm").moving_mean.assign([np.nan, np.inf, 1.0, 2.0])
    report = examine(model, inputs).to_dict()
    assert json.loads(json.dumps(report, allow_nan=False))["layers"][0]["mean_gap"] is None
    assert list(report) == ["model", "findings", "layers", "numbers", "facts"]


@pytest.mark.slow
def test_statistics_by_domain_are_named_and_not_examined(inputs):
    x, domain = keras.Input((4,)), keras.Input((), dtype="int32", name="domain")
    h = BatchNorm(name="norm")(x)
    model = keras.Model([x, domain], DomainBatchNorm(domains=3, name="domains")(h, domain=domain))
    of_other_data(model.get_layer("norm"))
    found = examine(model, [inputs, np.arange(256) % 3])
    assert [gap.layer for gap in found.layers] == ["norm"]
    assert "statistics per domain: domains; surgery.merge_domains" in str(found)


class NoConfig(keras.Model):
    """A model that Keras cannot make again, as its class takes an argument and has no `get_config`."""

    def __init__(self, units):
        super().__init__(name="no_config")
        self.norm, self.dense = BatchNorm(name="norm"), keras.layers.Dense(units)

    def call(self, inputs, training=None):
        return self.dense(self.norm(inputs, training=training))


def test_a_gap_is_no_note_where_the_repair_cannot_be_tried(inputs):
    model = NoConfig(3)
    model(inputs[:2])
    of_other_data(model.norm)
    found = examine(model, inputs)
    assert "recalibrate could not be tried" in str(found)
    assert names(found, "warning") == {"stale_statistics"}
