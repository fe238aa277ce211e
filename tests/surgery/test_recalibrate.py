"""Recalibrated statistics are those of the data to float32's last digits, and the given model is as it was."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from bn_keras import BatchNorm, DecorrelatedBatchNorm, SyncBatchNorm
from bn_keras.surgery.batches import Batches
from bn_keras.surgery.recalibrate import recalibrate, step_of
from bn_keras.surgery.tree import layers_of
from tests import reference
from tests.processes import script_result
from tests.surgery.models import (
    BUILDS,
    block,
    first_axis,
    functional,
    inputs_of,
    outputs_of,
    own_class,
    randomize,
    sequential,
    shared,
)
from tests.surgery.recalibrate_truth import algorithm_2, difference, examples, parts, population, row

KERAS_BATCH_NORM = keras.layers.BatchNormalization
SIZES = [64, 64, 37, 1, 34]
X = examples(sum(SIZES))
ALL = pytest.mark.parametrize("norm", [BatchNorm, SyncBatchNorm, KERAS_BATCH_NORM])


def silent(model, data, **arguments):
    return recalibrate(model, data, report=None, **arguments)


def reported(model, data, **arguments):
    reports = []
    return recalibrate(model, data, report=reports.append, **arguments), *reports


def norms(model):
    return [layer for layer in layers_of(model) if isinstance(layer, (KERAS_BATCH_NORM, BatchNorm))]


def bits(model):
    return [weight.numpy().tobytes() for weight in model.weights]


def in_a_row(*layers, shape=(5,)):
    return keras.Sequential([keras.Input(shape), *layers])


@pytest.mark.slow
@pytest.mark.sample(2)
@ALL
@pytest.mark.parametrize("sizes", [SIZES, [1] * 200], ids=["uneven", "single"])
def test_sequential_is_the_population_whatever_the_batches(norm, sizes):
    model = randomize(row(norm), np.random.default_rng(0))
    assert difference(silent(model, parts(X, sizes), sequential=True), population(model, [X])) < 2e-6


@ALL
def test_one_pass_normalizes_batch_by_batch(norm):
    model, batches = randomize(row(norm), np.random.default_rng(0)), parts(X, [100, 63, 37])
    new, truth = silent(model, batches), population(model, batches)
    assert difference(new, truth) < 2e-6
    assert difference(new, population(model, [X])) > 0.01, "the second layer was meant to differ"


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [[50] * 4, SIZES], ids=["even", "uneven"])
def test_algorithm_2(sizes):
    model, batches = randomize(row(BatchNorm), np.random.default_rng(0)), parts(X, sizes)
    assert difference(silent(model, batches, method="algorithm2"), algorithm_2(model, batches)) < 2e-6


@pytest.mark.slow
def test_virtual_batches_are_batches():
    model = randomize(row(BatchNorm, virtual_batch_size=8), np.random.default_rng(0))
    truth = algorithm_2(model, parts(X, [8] * 25))
    assert difference(silent(model, parts(X, [64, 64, 72]), method="algorithm2"), truth) < 2e-6


def test_a_mean_of_many_deviations():
    x = (X - X.mean(0)) / X.std(0) + 1000
    model = in_a_row(BatchNorm(name="norm"))
    truth = {"norm": (x.mean(0, dtype=np.float64), x.var(0, dtype=np.float64))}
    assert difference(silent(model, parts(x, SIZES)), truth) < 5e-5  # of which the float32 mean itself has 3e-5
    assert np.abs(silent(model, x).layers[0].moving_variance / truth["norm"][1] - 1).max() < 1e-6


def test_masked_elements_do_not_count(random):
    x = random.normal(3, 2, (40, 7, 5)).astype("float32")
    x[random.uniform(size=(40, 7)) < 0.4] = 0
    new = silent(in_a_row(keras.layers.Masking(), BatchNorm(), shape=(7, 5)), x)
    kept = x[x.any(-1)]
    np.testing.assert_allclose(new.layers[1].moving_mean, kept.mean(0), rtol=1e-6)
    np.testing.assert_allclose(new.layers[1].moving_variance, kept.var(0), rtol=1e-6)


@pytest.mark.slow
def test_all_calls_of_a_shared_layer_count(random):
    """And batches of several inputs."""
    x = {"a": random.normal(size=(50, 3)).astype("float32"), "b": random.normal(2, 3, (50, 3)).astype("float32")}
    batches = [({name: each[rows] for name, each in x.items()}, 0) for rows in (slice(0, 20), slice(20, 50))]
    new = silent(shared(BatchNorm), batches)
    both = np.concatenate([x["a"], x["b"]])
    np.testing.assert_allclose(new.get_layer("first").moving_mean, both.mean(0), rtol=0, atol=1e-6)
    np.testing.assert_allclose(new.get_layer("first").moving_variance, both.var(0), rtol=1e-6)
    assert reported(shared(KERAS_BATCH_NORM), x, sequential=True)[1].rows[0].count == 100


@pytest.mark.slow
def test_averaged_weights_get_statistics_of_their_own(random):
    """`SwapEMAWeights` swaps what gradients train, and leaves the statistics of the weights before."""
    x = random.normal(1, 2, (64, 3)).astype("float32")
    model = in_a_row(keras.layers.Dense(4), BatchNorm(momentum=0.0), keras.layers.Dense(1), shape=(3,))
    model.compile(keras.optimizers.SGD(0.5, use_ema=True, ema_momentum=0.9), "mse")
    model.fit(x, random.normal(size=(64, 1)), batch_size=64, epochs=8, verbose=0)
    swap = keras.callbacks.SwapEMAWeights()
    swap.set_model(model)
    swap.on_test_begin()
    features, norm = keras.ops.convert_to_numpy(model.layers[0](x)), model.layers[1]
    assert np.abs(norm.moving_mean.numpy() - features.mean(0)).max() > 0.01, "Keras was meant to leave the statistics"
    (new,) = norms(silent(model, x))
    np.testing.assert_allclose(new.moving_mean, features.mean(0), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(new.moving_variance, features.var(0), rtol=1e-5)


@pytest.mark.slow
def test_real_and_generated_batches_are_one_population(random):
    """In training a discriminator normalizes each by itself: the moving variance has nothing of their distance."""
    real, generated = (random.normal(mean, 1, (200, 2)).astype("float32") for mean in (3, -3))
    model = in_a_row(BatchNorm(momentum=0.9), shape=(2,))
    for _ in range(100):
        model(real, training=True), model(generated, training=True)
    assert np.max(model.layers[0].moving_variance) < 2
    data = np.concatenate([real, generated])
    (new,) = norms(silent(model, [real, generated]))
    np.testing.assert_allclose(new.moving_mean, data.mean(0), atol=1e-5)
    np.testing.assert_allclose(new.moving_variance, data.var(0), rtol=1e-5)


def test_axes_are_the_layers_own(random):
    x = random.normal(1, 2, (30, 3, 4, 4)).astype("float32")
    first = silent(first_axis(KERAS_BATCH_NORM), x).layers[1]
    np.testing.assert_allclose(first.moving_variance, x.var((0, 2, 3)), rtol=1e-6)
    two = silent(in_a_row(BatchNorm(axis=[1, 3]), shape=x.shape[1:]), x).layers[0]
    np.testing.assert_allclose(two.moving_mean, x.mean((0, 2)), rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.sample(4)
@pytest.mark.parametrize("build", BUILDS, ids=lambda build: build.__name__)
def test_every_build(build, random):
    """New statistics for every layer; all else is kept, and the given model."""
    model = randomize(build(KERAS_BATCH_NORM), random)
    before = bits(model)
    new = silent(model, inputs_of(model, random), sequential=True)
    assert bits(model) == before
    assert [type(layer) for layer in norms(new)] == [type(layer) for layer in norms(model)]
    for old, weight in zip(model.weights, new.weights, strict=True):
        assert weight.path == old.path
        assert np.array_equal(old, weight) != weight.name.startswith("moving"), weight.path


@pytest.mark.slow
@pytest.mark.parametrize("build", [functional, block], ids=lambda build: build.__name__)
def test_old_statistics_have_no_part(build, random):
    model = randomize(build(BatchNorm), random)
    x = inputs_of(model, random)
    new = silent(model, x, sequential=True)
    for layer in norms(model):
        layer.moving_mean.assign(layer.moving_mean + 1)
        layer.moving_variance.assign(layer.moving_variance * 3)
    assert bits(silent(model, x, sequential=True)) == bits(new)


@pytest.mark.parametrize("build", [sequential, own_class, first_axis], ids=lambda build: build.__name__)
def test_inference_is_what_training_on_all_data_at_once_is(build, random):
    model = randomize(build(BatchNorm), random)
    x = inputs_of(model, random)
    new = silent(model, x, sequential=True)
    for inference, training in zip(outputs_of(new, x), outputs_of(new, x, training=True), strict=True):
        np.testing.assert_allclose(inference, training, rtol=0, atol=2e-5)


@pytest.mark.slow
def test_half_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    new = silent(row(BatchNorm), X, sequential=True)
    assert difference(new, population(new, [X])) < 0.03
    assert new.get_layer("first").moving_mean.dtype == "float32"


def test_renorm_and_steps_follow():
    layer = in_a_row(BatchNorm(renorm=True, momentum=None, epsilon=0.5))
    new = silent(layer, parts(X, SIZES)).layers[0]
    deviation = np.sqrt(X.var(0, dtype=np.float64) + 0.5)
    np.testing.assert_allclose(new.renorm_mean, new.moving_mean, rtol=0)
    np.testing.assert_allclose(new.renorm_stddev, deviation, rtol=1e-6)
    np.testing.assert_allclose(new.moving_stddev, deviation, rtol=1e-6)
    assert float(new.steps) == len(SIZES)


def whitening_of(sigma, iterations):
    return reference.newton(sigma, iterations)[-1] / np.sqrt(np.trace(sigma, axis1=1, axis2=2))[:, None, None]


@pytest.mark.parametrize("method", ["population", "algorithm2"])
def test_whitening(method, random):
    x = (random.normal(size=(200, 6)) @ random.normal(size=(6, 6)) + 3).astype("float32")
    model = in_a_row(DecorrelatedBatchNorm(groups=2, iterations=7, epsilon=0.1), shape=(6,))
    new = silent(model, parts(x, SIZES), method=method).layers[0]
    batches = [x] if method == "population" else [each for each in parts(x, SIZES) if len(each) > 1]
    covariances = [np.cov(each.T.astype(np.float64), bias=method == "population") for each in batches]
    covariance = np.average(covariances, axis=0, weights=[len(each) for each in batches])
    sigma = np.stack([covariance[:3, :3], covariance[3:, 3:]]) + 0.1 * np.eye(3)
    np.testing.assert_allclose(new.moving_whitening, whitening_of(sigma, 7), rtol=0, atol=1e-6)
    np.testing.assert_allclose(new.moving_mean, x.mean(0, dtype=np.float64), rtol=0, atol=1e-6)


class Sequence(keras.utils.PyDataset):
    @property
    def num_batches(self):
        return len(SIZES)

    def __getitem__(self, i):
        return parts(X, SIZES)[i], np.zeros(SIZES[i])


KINDS = {
    "array": lambda: X,
    "tensor": lambda: tf.constant(X),
    "dict of arrays": lambda: {"given": X},
    "dataset": lambda: tf.data.Dataset.from_tensor_slices((X, X, X)).batch(64),
    "PyDataset": Sequence,
    "list of tuples": lambda: [(each,) for each in parts(X, SIZES)],
    "generator": lambda: (each for each in parts(X, SIZES)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_data(kind):
    x = keras.Input((5,), name="given")
    model = keras.Model({"given": x} if kind == "dict of arrays" else x, BatchNorm(name="norm")(x))
    new, report = reported(model, KINDS[kind]())
    assert difference(new, {"norm": (X.mean(0, dtype=np.float64), X.var(0, dtype=np.float64))}) < 2e-6
    assert report.samples == report.rows[0].count == len(X)


def test_steps_are_the_batches_taken():
    data = iter(parts(X, SIZES))
    new, report = reported(in_a_row(BatchNorm(name="norm")), data, steps=2)
    assert difference(new, {"norm": (X[:128].mean(0), X[:128].var(0))}) < 2e-6
    assert (report.batches, report.samples) == (2, 128)
    assert len(next(data)) == 37, "no more was meant to be drawn than asked for"
    endless = tf.data.Dataset.from_tensors(X).repeat()
    assert reported(in_a_row(BatchNorm()), endless, steps=3)[1].samples == 3 * len(X)


def failing(error):
    yield from parts(X, SIZES)[:2]
    raise error


@pytest.mark.slow
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_the_model_is_as_it_was_whatever_happens(error):
    model = randomize(row(BatchNorm), np.random.default_rng(0))
    before = bits(model)
    with pytest.raises(error):
        silent(model, failing(error()))
    silent(model, X, sequential=True)
    assert bits(model) == before


def frozen_row():
    model = row(BatchNorm)
    model.get_layer("first").trainable = False
    return randomize(model, np.random.default_rng(0))


@pytest.mark.slow
def test_frozen_layers_keep_their_statistics():
    """And run as in inference, so that what comes next is measured on what it will get."""
    model = frozen_row()
    new, report = reported(model, parts(X, SIZES))
    first, old = new.get_layer("first"), model.get_layer("first")
    assert bits(first) == bits(old)
    inputs = model.layers[3](model.layers[2](old(model.layers[0](X)))).numpy().astype(np.float64)
    assert difference(new, {"second": (inputs.mean(0), inputs.var(0))}) < 2e-6
    assert [row.outcome == "kept" for row in report.rows] == [True, False]
    assert "kept: frozen" in str(report).splitlines()[2]
    model.get_layer("first").trainable, model.get_layer("first").frozen = True, True
    assert bits(silent(model, parts(X, SIZES))) == bits(new)


def branches(norm):
    """Two side by side, and one after both."""
    x = keras.Input((5,))
    a, b = norm(name="a")(x), keras.layers.Dense(5)(norm(name="b")(keras.layers.Dense(5)(x)))
    return keras.Model(x, norm(name="last")(a * b))


@pytest.mark.slow
def test_the_report(capsys):
    model = branches(BatchNorm)
    model.get_layer("a").moving_mean.assign(X.mean(0) + 2 * X.std(0))
    model.get_layer("a").moving_variance.assign(X.var(0) * 4)
    new, report = reported(model, parts(X, SIZES), sequential=True)
    assert (report.batches, report.samples, report.passes, report.method) == (5, 200, 2, "population")
    rows = {row.layer: row for row in report.rows}
    assert (rows["a"].count, rows["a"].outcome) == (200, "recalibrated")
    assert rows["a"].drift == pytest.approx(2, rel=1e-2)
    assert rows["a"].ratio == pytest.approx(0.25, rel=1e-2)
    silent(model, X)
    assert not capsys.readouterr().out
    assert recalibrate(model, parts(X, SIZES), sequential=True) is not model
    assert capsys.readouterr().out == f"{report}\n"
    assert "200 samples in 5 batches, 2 passes" in str(report)
    again = reported(new, parts(X, SIZES), sequential=True)[1]
    assert max(row.drift for row in again.rows) < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("norm", [BatchNorm, DecorrelatedBatchNorm])
def test_layers_side_by_side_are_measured_in_one_pass(norm):
    assert reported(branches(norm), X, sequential=True)[1].passes == 2


def test_batches_of_any_size_take_one_trace():
    model = in_a_row(keras.layers.Dense(3))
    step, traces = step_of(model, [], tf.distribute.get_strategy())
    for x in Batches(parts(X, SIZES), None, tf.distribute.get_strategy(), again=False):
        step(x)
    assert len(traces) == 1


class Derived(BatchNorm):
    pass


class Unused(keras.layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.norm = BatchNorm(name="unused")

    def build(self, input_shape):
        self.norm.build(input_shape)

    def call(self, x):
        return x


class Looping(Unused):
    def call(self, x):
        # Not by tf.map_fn: after an error within it, TensorFlow enters no strategy any more in this process.
        return tf.while_loop(lambda i, _: i < 2, lambda i, y: (i + 1, self.norm(y)), [0, x])[1]


def all_frozen():
    model = row(BatchNorm)
    model.trainable = False
    return model


ONE = np.array([[1.0, 2, 3, 4, 5]], np.float32)
PLAIN = {"model": lambda: row(BatchNorm), "data": lambda: X}
REFUSED = [
    ({"data": lambda: parts(X, SIZES), "steps": 6}, "Expected steps=6 batches. Received: 5"),
    ({"data": lambda: X, "steps": 0}, "`steps` must be an int ≥ 1. Received: steps=0"),
    ({"data": lambda: X, "steps": 2.0}, "`steps` must be an int ≥ 1. Received: steps=2.0"),
    ({"data": list}, "at least one batch of data. Received: none"),
    ({"data": lambda: X[:0]}, "at least one batch of data. Received: none"),
    ({"data": lambda: [X[:0]]}, "'first' has channels without an element"),
    ({"data": lambda: (each for each in [X]), "sequential": True}, r"an iterator \(generator\).*gone through once"),
    ({"data": lambda: itertools.cycle([X]), "sequential": True, "steps": 2}, r"an iterator \(cycle\)"),
    ({"data": lambda: tf.data.Dataset.from_tensors(X).repeat()}, "no end. Say how many"),
    ({"data": lambda: {"a": X, "b": X[:3]}}, r"same length. Received: lengths \[3, 200\]"),
    ({"data": lambda: X * np.nan}, "'first' got NaN or infinity"),
    ({"data": lambda: X * 1e30}, "'first' got NaN or infinity"),
    ({"data": lambda: [ONE, ONE], "method": "algorithm2"}, "'first' has channels.*no two in one batch"),
    ({"method": "exact"}, r"`method` must be one of \('population', 'algorithm2'\). Received: method='exact'"),
    ({"model": lambda: in_a_row(keras.layers.Dense(2))}, "has no batch norm"),
    ({"model": all_frozen}, "has no batch norm whose statistics can change. 'first' is kept: frozen"),
    ({"model": lambda: keras.Sequential([BatchNorm()])}, "has no weights yet. Build it first"),
    ({"model": lambda: in_a_row(Derived(name="odd"))}, "'odd' is kept: its class, Derived, derives from batch norm"),
    ({"model": lambda: in_a_row(Unused())}, "'unused' has channels without an element"),
    ({"model": lambda: in_a_row(Looping())}, "'unused' is called within a loop.*number of steps"),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSED)
def test_what_cannot_be_done_is_said(arguments, message):
    model, data, *_ = (PLAIN | arguments)["model"](), (PLAIN | arguments)["data"]()
    with pytest.raises(ValueError, match=message):
        silent(model, data, **{name: value for name, value in arguments.items() if name not in PLAIN})


@pytest.mark.parametrize("data", [(X, X), None, 3, "digits"])
def test_data_of_another_type(data):
    with pytest.raises(TypeError, match="Expected batches of the model's inputs. Received: data="):
        silent(row(BatchNorm), data)


def test_a_model_of_another_type():
    with pytest.raises(TypeError, match="Expected a Keras model"):
        silent(BatchNorm(), X)


@pytest.mark.slow
def test_two_replicas():
    """Each replica's shard is a batch, or a part of one if the layer is synchronized; one shard is empty."""
    result = script_result("tests.surgery.recalibrate_replicas")
    for name, found in result["differences"].items():
        assert found < 1e-5, name
    assert result["same"]
    assert result["report"] == [6, 21, 21]
