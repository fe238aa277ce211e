"""The options of `BatchNorm` that Keras' layer does not have, or has had once: averages, groups, renormalization."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

from bn_keras import BatchNorm
from tests import reference
from tests.layers.test_batch_norm import close, randomized, step


def test_without_a_momentum_all_batches_count_alike(random):
    layer = BatchNorm(momentum=None)
    batches = [tf.constant(random.normal(5, 2, (16, 3)), tf.float32) for _ in range(7)]
    for batch in batches[:3]:
        layer(batch, training=True)
    layer(batches[0], training=True, mask=tf.zeros(16, bool))
    for batch in batches[3:]:
        layer(batch, training=True)
    assert float(layer.steps) == 7
    np.testing.assert_allclose(layer.moving_mean, np.mean([np.mean(batch, 0) for batch in batches], 0), rtol=1e-5)
    np.testing.assert_allclose(
        layer.moving_variance, np.mean([np.var(batch, 0, ddof=1) for batch in batches], 0), rtol=1e-5
    )


@pytest.mark.slow
def test_bias_correction_forgets_the_first_values(random):
    corrected, plain = BatchNorm(momentum=0.99, bias_correction=True), BatchNorm(momentum=0.99)
    average, weight = np.zeros(3), 0.0
    for _ in range(100):
        batch = tf.constant(random.normal(10, 1, (64, 3)), tf.float32)
        corrected(batch, training=True)
        plain(batch, training=True)
        average = 0.99 * average + 0.01 * np.mean(batch, 0)
        weight = 0.99 * weight + 0.01
    np.testing.assert_allclose(corrected.moving_mean, average / weight, rtol=1e-5)
    np.testing.assert_allclose(corrected.moving_mean, np.full(3, 10.0), rtol=0.01)
    assert np.max(plain.moving_mean) < 6.5, "the plain average was meant to lag"


@pytest.mark.parametrize("settings", [{"momentum": None}, {"bias_correction": True}])
def test_steps_are_saved(random, tmp_path, settings):
    model = keras.Sequential([keras.Input((3,)), BatchNorm(**settings)])
    x = random.normal(size=(8, 3))
    model(x, training=True)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert float(loaded.layers[0].steps) == 1
    for each in (model, loaded):
        each(2 * x, training=True)
    np.testing.assert_array_equal(loaded.layers[0].moving_mean, model.layers[0].moving_mean)


HAS_RENORM = "renorm" in inspect.signature(keras.layers.BatchNormalization.__init__).parameters


@pytest.mark.sample(4)
@pytest.mark.skipif(not HAS_RENORM, reason="this Keras has no renorm to compare with")
@pytest.mark.parametrize("clipping", [None, {"rmax": 1.2, "rmin": 0.8, "dmax": 0.3}, {"dmax": 1.0}])
def test_renorm_is_that_of_keras(random, implementation, clipping):
    shape = (16, 8, 8, 5)
    arguments = {"renorm": True, "renorm_clipping": clipping, "momentum": 0.9, "renorm_momentum": 0.7}
    theirs = randomized(keras.layers.BatchNormalization(**arguments), shape, random)
    ours = BatchNorm(**arguments, unbiased=False)
    ours.build(shape)
    assert [weight.name for weight in ours.weights] == [weight.name for weight in theirs.weights]
    ours.set_weights(theirs.get_weights())
    for _ in range(3):
        x, dy = (tf.constant(random.normal(2, 3, shape), tf.float32) for _ in range(2))
        for mine, yours in zip(step(ours, x, dy), step(theirs, x, dy), strict=True):
            close(mine, yours, 2e-4)
    for mine, yours in zip(ours.weights, theirs.weights, strict=True):
        close(mine, yours, 1e-5)
    close(ours(x), theirs(x), 1e-4)


def test_renorm_in_training_is_inference_when_nothing_is_clipped(random):
    x = tf.constant(random.normal(2, 3, (64, 4)), tf.float32)
    layer = randomized(BatchNorm(renorm=True), x.shape, random)
    layer.renorm_mean.assign(layer.moving_mean)
    layer.renorm_stddev.assign(tf.sqrt(layer.moving_variance + layer.epsilon))
    inference = layer(x)
    close(layer(x, training=True), inference, 1e-5)


@pytest.mark.slow
@pytest.mark.sample(7)
@pytest.mark.parametrize("examples", [8, 10, 6, 3])
@pytest.mark.parametrize(("shape", "axis"), [((5,), -1), ((4, 6), -1), ((4, 6), 1), ((3, 4, 6), [1, 3])])
@pytest.mark.parametrize("masked", [False, True])
def test_virtual_batches_are_normalized_by_themselves(random, examples, shape, axis, masked):
    shape = (examples, *shape)
    layer = randomized(BatchNorm(axis, momentum=0.0, virtual_batch_size=4), shape, random)
    gamma, beta = layer.get_weights()[:2]
    x, dy = (tf.constant(random.normal(2, 3, shape), tf.float32) for _ in range(2))
    mask = np.ones(examples, bool)
    if masked and examples > 4:
        mask[[1, -1]] = False
    weights = mask.reshape([-1] + [1] * (len(shape) - 1))
    y, dx, dgamma, dbeta = step(layer, x, dy, **({"mask": tf.constant(mask)} if masked else {}))

    parts = [slice(start, start + 4) for start in range(0, examples, 4)]
    truth = [reference.batch_norm(x[part], gamma, beta, axis, 1e-3, weights[part]) for part in parts]
    close(y, np.concatenate([each[0] for each in truth]), 5e-5)
    gradients = [reference.batch_norm_gradient(x[part], gamma, dy[part], axis, 1e-3, weights[part]) for part in parts]
    close(dx, np.concatenate([each[0] for each in gradients]), 5e-4)
    close(dgamma, sum(each[1] for each in gradients), 5e-4)
    close(dbeta, sum(each[2] for each in gradients), 5e-4)

    counts, means = (np.stack([each[i] for each in truth]) for i in (1, 2))
    variances = np.stack([each[3] * each[1] / np.maximum(each[1] - 1, 1) for each in truth])
    close(layer.moving_mean, (counts * means).sum(0) / counts.sum(0), 1e-5)
    close(layer.moving_variance, (counts * variances).sum(0) / counts.sum(0), 1e-5)


@pytest.mark.slow
def test_virtual_batches_of_an_unknown_batch_and_through_a_file(random, tmp_path):
    model = keras.Sequential([keras.Input((6, 3)), BatchNorm(virtual_batch_size=4)])
    model.compile("sgd", "mse")
    x = random.normal(size=(10, 6, 3))
    model.fit(x, x, batch_size=7, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.layers[0].virtual_batch_size == 4
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))
    whole = model.predict(x, verbose=0)
    np.testing.assert_allclose(model.predict(x[:3], verbose=0), whole[:3], atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"momentum": None, "bias_correction": True}, "the average of all batches has no bias"),
        ({"group_size": 2}, "`group_size=n` needs `synchronized=True`"),
        ({"virtual_batch_size": 1}, "`virtual_batch_size` must be None or an int ≥ 2"),
        ({"synchronized": True, "group_size": 1}, "`group_size` must be None or an int ≥ 2"),
        ({"fused": "yes"}, "`fused` must be one of"),
        ({"renorm": True, "renorm_clipping": {"max": 1}}, "invalid keys for `renorm_clipping`"),
        ({"renorm": True, "renorm_clipping": {"rmax": 0.5, "rmin": 1}}, "rmax should be ≥ rmin"),
        ({"renorm": True, "renorm_clipping": {"dmax": -1}}, "dmax should be non-negative"),
    ],
)
def test_what_is_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        BatchNorm(**arguments)


def test_virtual_batches_need_the_batch_axis():
    with pytest.raises(ValueError, match="must not hold the batch axis"):
        BatchNorm(axis=[0, 1], virtual_batch_size=4).build((2, 3))


@pytest.mark.parametrize(("shape", "axis"), [((1, 3), -1), ((1, 3, 1, 1), 1), ((1, 4, 5), [1, 2]), ((4, 5), [0, 1])])
def test_one_value_per_channel_is_an_error_where_it_is_known(random, shape, axis):
    layer, x = BatchNorm(axis), tf.constant(random.normal(size=shape), tf.float32)
    with pytest.raises(ValueError, match="more than one value per channel"):
        layer(x, training=True)
    with pytest.raises(ValueError, match="more than one value per channel"):
        tf.function(layer)(x, training=True)
    layer(x)  # inference does not mind
    layer.trainable = False
    layer(x, training=True)
    assert np.isfinite(BatchNorm(axis, renorm=True)(x, training=True)).all()


def test_one_value_per_channel_gives_the_offset_where_it_is_not_known(random):
    layer = randomized(BatchNorm(momentum=0.0), (None, 3), random)
    step = tf.function(lambda x: layer(x, training=True), input_signature=[tf.TensorSpec([None, 3])])
    x = tf.constant(random.normal(size=(1, 3)), tf.float32)
    np.testing.assert_array_equal(step(x), layer.beta[tf.newaxis])
    np.testing.assert_array_equal(layer.moving_mean, x[0])
    np.testing.assert_array_equal(layer.moving_variance, np.zeros(3))


def test_momentum_to_one_over_k_when_gradients_are_accumulated_over_k_batches(random):
    """Each update of the weights then keeps the same share of the old statistics as without accumulation."""
    whole, accumulated, naive = (BatchNorm(momentum=momentum) for momentum in (0.9, 0.9 ** (1 / 4), 0.9))
    for layer in (whole, accumulated, naive):
        layer.build((None, 3))
        layer.moving_mean.assign(np.full(3, 7.0))
    x = tf.constant(random.normal(size=(64, 3)), tf.float32)
    whole(x - tf.reduce_mean(x, 0), training=True)
    for part in tf.split(x, 4):
        for layer in (accumulated, naive):
            layer(part - tf.reduce_mean(part, 0), training=True)
    close(accumulated.moving_mean, whole.moving_mean, 1e-6)
    assert np.max(naive.moving_mean) < 0.75 * np.min(whole.moving_mean)
