"""`accumulation_steps`: the moving statistics of k small batches are those of one batch of all of them."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from bn_keras import BatchNorm, surgery
from tests.layers.test_batch_norm import close, randomized

SIZES = (5, 2, 9)


def pair(random, shape=(None, 4), **arguments):
    """A layer that accumulates and one that does not, with the same statistics and no batch so far."""
    whole = randomized(BatchNorm(**arguments), shape, random)
    layer = BatchNorm(accumulation_steps=len(SIZES), **arguments)
    layer.build(shape)
    sums = layer.weights[len(whole.weights) :]
    layer.set_weights([*whole.get_weights(), *(np.zeros(weight.shape) for weight in sums)])
    return layer, whole


def statistics(layer, names=("moving_mean", "moving_variance")):
    return {name: getattr(layer, name).numpy() for name in names}


def same(layer, whole, tolerance=1e-13):
    for weight in whole.non_trainable_weights:
        close(getattr(layer, weight.name), weight, tolerance)
    assert not any(np.any(each) for name, each in layer.statistics.items() if name.startswith("accumulated"))


@pytest.mark.slow
@pytest.mark.sample(4)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    "arguments",
    [{}, {"unbiased": False}, {"momentum": None}, {"bias_correction": True}, {"renorm": True}, {"synchronized": True}],
    ids=str,
)
def test_k_batches_are_one_large_batch(random, arguments, masked):
    layer, whole = pair(random, dtype="float64", **{"momentum": 0.8} | arguments)
    x = random.normal(1e3, 2, (sum(SIZES), 4))
    mask = random.uniform(size=len(x)) > 0.3 if masked else None
    before = statistics(layer)
    ends = np.cumsum(SIZES)
    for start, end in zip(ends - SIZES, ends, strict=True):
        np.testing.assert_array_equal(layer.moving_mean, before["moving_mean"])
        layer(x[start:end], training=True, mask=None if mask is None else mask[start:end])
        layer(x[start:end])  # inference counts for nothing
    whole(x, training=True, mask=mask)
    same(layer, whole)


@pytest.mark.slow
def test_each_batch_is_normalized_by_its_own_moments(random):
    layer, whole = pair(random)
    for size in SIZES:
        x = tf.constant(random.normal(3, 2, (size, 4)), tf.float32)
        np.testing.assert_array_equal(layer(x, training=True), whole(x, training=True))


@pytest.mark.slow
def test_an_empty_batch_is_one_of_the_k(random):
    layer, whole = pair(random, dtype="float64")
    x = random.normal(3, 2, (10, 4))
    layer(x[:4], training=True)
    layer(np.full((3, 4), np.nan), training=True, mask=np.zeros(3, bool))
    layer(x[4:], training=True)
    whole(x, training=True)
    same(layer, whole)
    before = statistics(layer)
    for _ in SIZES:
        layer(x[:0], training=True)
    for name, value in before.items():
        np.testing.assert_array_equal(getattr(layer, name), value)


@pytest.mark.slow
def test_sums_are_float32_in_mixed_precision_and_under_xla(random):
    layer, whole = pair(random, momentum=0.5)
    half = BatchNorm.from_config(layer.get_config() | {"dtype": "mixed_float16"})
    half.build((None, 4))
    half.set_weights(layer.get_weights())
    x = random.normal(100, 1, (sum(SIZES), 4)).astype(np.float16)
    step = tf.function(lambda x: half(x, training=True), jit_compile=True)
    for part in np.split(x, np.cumsum(SIZES)[:-1]):
        step(tf.constant(part))
    whole(x.astype(np.float32), training=True)
    same(half, whole, 1e-5)
    assert {weight.dtype for weight in half.non_trainable_weights} == {"float32"}


def fitted(steps, norm, x, y, epochs=1):
    """A model of fixed weights before the norm, whose optimizer updates once in `steps` batches of 2."""
    model = keras.Sequential([keras.Input((4,)), norm, keras.layers.Dense(1, kernel_initializer="ones")])
    model.compile(keras.optimizers.Adam(0.1, gradient_accumulation_steps=steps), "mse")
    model.fit(x, y, batch_size=len(x) // (steps or 1), epochs=epochs, shuffle=False, verbose=0)
    return model


@pytest.mark.slow
def test_with_an_optimizer_that_accumulates(random):
    """Statistics move with the weights: once per update, and by the whole batch."""
    x, y = random.normal(5, 2, (8, 4)).astype(np.float32), np.zeros((8, 1))
    model = fitted(4, BatchNorm(momentum=0.7, accumulation_steps=4), x, y, epochs=3)
    whole = fitted(None, BatchNorm(momentum=0.7), x, y, epochs=3)
    assert int(model.optimizer.iterations) == 3  # updates
    close(model.layers[0].moving_mean, whole.layers[0].moving_mean, 1e-6)
    close(model.layers[0].moving_variance, whole.layers[0].moving_variance, 1e-6)
    naive = fitted(4, BatchNorm(momentum=0.7), x, y, epochs=3).layers[0]
    assert np.abs(naive.moving_variance - whole.layers[0].moving_variance).max() > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["keras", "checkpoint"])
def test_a_file_between_two_updates(random, tmp_path, kind):
    layer, whole = pair(random)
    model = keras.Sequential([keras.Input((4,)), layer])
    parts = np.split(random.normal(3, 2, (sum(SIZES), 4)).astype(np.float32), np.cumsum(SIZES)[:-1])
    model(parts[0], training=True)
    if kind == "keras":
        model.save(tmp_path / "model.keras")
        loaded = keras.models.load_model(tmp_path / "model.keras")
    else:
        path = tf.train.Checkpoint(model=model).save(tmp_path / "checkpoint")
        loaded = keras.Sequential([keras.Input((4,)), BatchNorm.from_config(layer.get_config())])
        tf.train.Checkpoint(model=loaded).restore(path).assert_existing_objects_matched().expect_partial()
    for part in parts[1:]:
        loaded(part, training=True)
    whole(np.concatenate(parts), training=True)
    same(loaded.layers[0], whole, 1e-6)


def test_nothing_is_in_the_graph_without_the_option():
    """No op and no weight: the graph is that of a layer before there was the option."""
    counts = {}
    for steps in (None, 4):
        layer = BatchNorm(accumulation_steps=steps)
        layer.build((None, 4))
        call, x = tf.function(layer), tf.zeros([8, 4])
        training = call.get_concrete_function(x, training=True).graph.get_operations()
        counts[steps] = sum(op.type == "AssignVariableOp" for op in training)
        assert len(call.get_concrete_function(x).captured_inputs) == 4  # inference
    assert counts == {None: 2, 4: 6}


def model_between_two_updates(random):
    layer, _ = pair(random)
    model = keras.Sequential([keras.Input((4,)), layer, keras.layers.Dense(2)])
    model(random.normal(3, 2, (8, 4)).astype(np.float32), training=True)
    return model, layer


def test_conversions_keep_the_argument_and_the_sums(random):
    model, layer = model_between_two_updates(random)
    back = surgery.to_local(surgery.to_sync(model, report=None), report=None).layers[0]
    assert back.accumulation_steps == 3
    for ours, true in zip(back.get_weights(), layer.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, true)


def test_keras_layer_drops_it_with_a_row(random):
    model, layer = model_between_two_updates(random)
    converted = surgery.to_keras(model, report=None)
    assert type(converted.layers[0]) is keras.layers.BatchNormalization
    rows = surgery.report(converted).rows
    assert [row.outcome for row in rows] == ["converted", "dropped"]
    assert "accumulated_count" in rows[1].why
    np.testing.assert_array_equal(converted.layers[0].moving_mean, layer.moving_mean)


def test_recalibration_starts_anew(random):
    model, _ = model_between_two_updates(random)
    x = random.normal(7, 2, (40, 4)).astype(np.float32)
    layer = surgery.recalibrate(model, x, report=None).layers[0]
    close(layer.moving_mean, x.mean(0), 1e-6)
    assert layer.accumulation_steps == 3
    assert not any(np.any(each) for name, each in layer.statistics.items() if name.startswith("accumulated"))


def test_fold_needs_none_of_it(random):
    model, _ = model_between_two_updates(random)
    folded = surgery.fold(model, strict=True, report=None)
    assert [type(layer) for layer in folded.layers] == [keras.layers.Dense]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"accumulation_steps": 1}, "`accumulation_steps` must be None or an int ≥ 2"),
        ({"accumulation_steps": 2.0}, "`accumulation_steps` must be None or an int ≥ 2"),
        ({"accumulation_steps": 2, "virtual_batch_size": 4}, "one averages the variances of parts of a batch"),
        ({"accumulation_steps": 2, "group_size": 2, "synchronized": True}, "averages the variances of groups"),
    ],
)
def test_what_is_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        BatchNorm(**arguments)
