"""`DomainBatchNorm` against the float64 reference, domain by domain."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from bn_keras import BatchNorm, DomainBatchNorm
from tests import reference
from tests.layers.test_batch_norm import close, randomized, step

SHAPES_AND_AXES = [((9, 3), -1), ((9, 4, 3), -1), ((9, 3, 2, 4), 1), ((9, 3, 2, 4), [1, 3])]
DOMAINS = np.array([2, 0, 0, 2, 0, 2, 0, 0, 2])  # none of domain 1


def rows(values, domain, shared):
    return values if shared else values[domain]


@pytest.mark.slow
@pytest.mark.sample(6)
@pytest.mark.parametrize("shared", [True, False], ids=["shared", "apart"])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("shape", "axis"), SHAPES_AND_AXES)
def test_a_mixed_batch_is_the_equations_of_each_domain(random, shape, axis, masked, shared):
    layer = DomainBatchNorm(3, axis, momentum=0.7, epsilon=1e-2, shared_affine=shared, dtype="float64")
    gamma, beta, mean, variance = randomized(layer, shape, random).get_weights()
    x, dy = (tf.constant(random.normal(2, 3, shape)) for _ in range(2))
    mask = np.arange(9) != 4 if masked else np.ones(9, bool)
    y, dx, dgamma, dbeta = step(layer, x, dy, domain=tf.constant(DOMAINS), **({"mask": mask} if masked else {}))
    gradients = np.zeros((2, *gamma.shape))
    for d in range(3):
        of = d == DOMAINS
        if d == 1:
            assert not of.any()
            close(layer.moving_mean[d], mean[d], 1e-12)
            close(layer.moving_variance[d], variance[d], 1e-12)
            continue
        weights = mask[of].reshape([-1] + [1] * (len(shape) - 1))
        own = [rows(each, d, shared) for each in (gamma, beta)]
        truth, count, batch_mean, batch_variance = reference.batch_norm(x[of], *own, axis, 1e-2, weights)
        close(y[of], truth, 1e-10)
        true_dx, *others = reference.batch_norm_gradient(x[of], own[0], dy[of], axis, 1e-2, weights)
        close(dx[of], true_dx, 1e-9)
        gradients[(slice(None), *([] if shared else [d]))] += np.stack(others)
        close(layer.moving_mean[d], 0.7 * mean[d] + 0.3 * batch_mean, 1e-10)
        close(layer.moving_variance[d], 0.7 * variance[d] + 0.3 * batch_variance * count / (count - 1), 1e-10)
    close(dgamma, gradients[0], 1e-9)
    close(dbeta, gradients[1], 1e-9)
    inference = layer(x, domain=tf.constant(DOMAINS))
    for d in (0, 2):
        statistics = layer.moving_mean[d], layer.moving_variance[d]
        own = [rows(each, d, shared) for each in (gamma, beta)]
        truth = reference.batch_norm_inference(x[d == DOMAINS], *own, *statistics, axis, 1e-2)
        close(inference[d == DOMAINS], truth, 1e-10)


def test_a_large_offset_of_one_domain(random):
    """Sums in float64: a mean of 10⁴ deviations costs no domain its variance."""
    layer = DomainBatchNorm(momentum=0.0)
    x = random.normal(size=(64, 8, 3)) + np.where(np.arange(64) % 2, 1e4, 0)[:, None, None]
    layer(tf.constant(x, tf.float32), domain=tf.range(64) % 2, training=True)
    for d in range(2):
        close(layer.moving_variance[d], x.astype(np.float32)[d::2].astype(float).reshape(-1, 3).var(0, ddof=1), 1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [int, np.int64, tf.constant, lambda d: tf.fill([9], d)])
@pytest.mark.parametrize("momentum", [0.7, None])
def test_a_batch_of_one_domain_is_batch_norm(random, kind, momentum):
    shape = (9, 4, 3)
    layer = randomized(DomainBatchNorm(3, momentum=momentum, shared_affine=False), shape, random)
    before = [weight.numpy() for weight in layer.weights]
    alone = BatchNorm(momentum=momentum)
    alone.build(shape)
    alone.set_weights([each[1] for each in before])
    x, dy = (tf.constant(random.normal(2, 3, shape), tf.float32) for _ in range(2))
    ours, true = step(layer, x, dy, domain=kind(1)), step(alone, x, dy)
    for one, other in zip(ours[:2], true[:2], strict=True):
        close(one, other, 1e-5)
    for one, other in zip(ours[2:], true[2:], strict=True):
        close(one[1], other, 1e-5)
    for weight, old, other in zip(layer.weights, before, alone.weights, strict=True):
        close(weight[1], other, 1e-6)
        np.testing.assert_array_equal(np.delete(weight.numpy(), 1, 0), np.delete(old, 1, 0))
    close(layer(x, domain=kind(1)), alone(x), 1e-5)


def test_one_example_of_a_domain_gives_the_offset_and_keeps_its_statistics(random):
    layer = randomized(DomainBatchNorm(2, shared_affine=False), (5, 3), random)
    before = layer.get_weights()
    y = layer(tf.constant(random.normal(size=(5, 3)), tf.float32), domain=tf.constant([0, 0, 1, 0, 0]), training=True)
    close(y[2], layer.beta[1], 1e-6)
    for name, old in zip(("moving_mean", "moving_variance"), before[2:], strict=True):
        np.testing.assert_array_equal(getattr(layer, name)[1], old[1])
        assert np.all(getattr(layer, name)[0] != old[0])


def test_nan_in_one_domain_does_not_reach_another(random):
    x = random.normal(size=(8, 3)).astype(np.float32)
    layer, clean = (DomainBatchNorm(momentum=0.5) for _ in range(2))
    domain = tf.constant([0, 1] * 4)
    expected = clean(x, domain=domain, training=True)
    x[0] = np.nan
    y = layer(x, domain=domain, training=True)
    np.testing.assert_array_equal(y[1::2], expected[1::2])
    np.testing.assert_array_equal(layer.moving_variance[1], clean.moving_variance[1])


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_the_activation_is_that_of_a_layer_after_it(random, activation, training):
    layer, plain = DomainBatchNorm(2, activation=activation), DomainBatchNorm(2)
    x, domain = tf.constant(random.normal(1, 2, (8, 3)), tf.float32), tf.constant([0, 1] * 4)
    expected = keras.activations.get(activation)(plain(x, domain=domain, training=training))
    np.testing.assert_allclose(layer(x, domain=domain, training=training), expected, rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("training", [True, False])
def test_an_unknown_domain_is_an_error_or_nan(random, training):
    layer = randomized(DomainBatchNorm(2, activation="relu"), (4, 3), random)
    x, domain = tf.constant(random.normal(size=(4, 3)), tf.float32), tf.constant([0, 2, 0, -1])
    for wrong in (domain, tf.constant(2), 2, np.int64(-1)):
        with pytest.raises(ValueError, match=r"`domain` must be .*\[0, 1\]"):
            layer(x, domain=wrong, training=training)
    call = lambda x, domain: layer(x, domain=domain, training=training)  # noqa: E731
    if training:
        for wrong in (domain, tf.constant([0, 2, 0, 1]), tf.constant([0, 1, -1, 0])):
            with pytest.raises(tf.errors.InvalidArgumentError, match=r"in \[0, 1\]"):
                tf.function(call)(x, wrong)
    before = layer.moving_mean[1].numpy()
    y = tf.function(call, jit_compile=training)(x, domain)
    np.testing.assert_array_equal(np.isnan(y).all(1), [False, True, False, True])
    assert np.isfinite(y[::2]).all()
    assert np.isnan(tf.function(call, jit_compile=training)(x, tf.constant(2))).all()
    np.testing.assert_array_equal(layer.moving_mean[1], before)
    assert np.isfinite(layer.moving_mean).all()


@pytest.mark.parametrize(
    ("domain", "error", "words"),
    [
        (None, ValueError, "no domain for the layer 'norm'"),
        (True, TypeError, "of type bool"),
        (0.5, TypeError, "of type float"),
        (np.zeros(4, np.float32), TypeError, "keras.ops.cast"),
        (np.zeros((4, 1), int), ValueError, "reshape"),
        (np.zeros(3, int), ValueError, r"a domain of shape \(3,\)"),
    ],
)
def test_what_is_no_domain(domain, error, words):
    layer = DomainBatchNorm(2, name="norm")
    with pytest.raises(error, match=words):
        layer(tf.zeros([4, 3]), domain=domain)
    if domain is None:
        with pytest.raises(error, match=words):
            layer(keras.Input((3,)))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"domains": 1}, "`domains` must be an int ≥ 2"),
        ({"domains": "two"}, "`domains` must be an int ≥ 2"),
        ({"momentum": None, "bias_correction": True}, "no bias to correct"),
        ({"renorm": True}, "renorm"),
    ],
)
def test_what_is_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        DomainBatchNorm(**arguments)


def test_the_batch_is_no_channel():
    with pytest.raises(ValueError, match="must not hold the batch axis"):
        DomainBatchNorm(axis=[0, 1]).build((4, 3))


def test_steps_are_counted_per_domain(random):
    layer = DomainBatchNorm(2, momentum=None)
    batches = [random.normal(5, 2, (4, 3)).astype(np.float32) for _ in range(3)]
    for batch, domain in zip(batches, (0, 1, 0), strict=True):
        layer(batch, domain=domain, training=True)
    layer(batches[1], domain=tf.constant([1, 1, 1, 0]), training=True)
    assert layer.steps.numpy().tolist() == [2, 2]
    close(layer.moving_mean[0], np.mean([batches[0].mean(0), batches[2].mean(0)], 0), 1e-6)
    close(layer.moving_mean[1], np.mean([batches[1].mean(0), batches[1][:3].mean(0)], 0), 1e-6)


def functional(masked=False):
    """A model whose domain is an input, and that takes all of a sequence but its zeros if `masked`."""
    inputs, domain = keras.Input((4, 3), name="x"), keras.Input((), dtype="int32", name="domain")
    x = keras.layers.Masking()(inputs) if masked else inputs
    return keras.Model([inputs, domain], DomainBatchNorm(2, momentum=0.5, name="norm")(x, domain=domain))


def test_the_mask_of_a_layer_before_arrives_beside_a_domain(random):
    """Keras passes it as `inputs_mask`, because the domain is a tensor too."""
    x = random.normal(5, 1, (8, 4, 3)).astype(np.float32)
    x[:, 2] = 0
    domain = np.arange(8) % 2
    model = functional(masked=True)
    model([x, domain], training=True)
    for d in range(2):
        close(model.get_layer("norm").moving_mean[d], 0.5 * np.delete(x, 2, 1)[d::2].mean((0, 1)), 1e-6)


@pytest.mark.slow
def test_fit_save_and_export_with_the_domain_as_an_input(random, tmp_path):
    model = functional()
    x, domain = random.normal(3, 2, (12, 4, 3)).astype(np.float32), np.arange(12) % 2
    model.compile("sgd", "mse")
    model.fit([x, domain], x, batch_size=5, verbose=0)
    expected = model.predict([x, domain], verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict([x, domain], verbose=0), expected)
    model.export(tmp_path / "exported", verbose=False)
    served = tf.saved_model.load(tmp_path / "exported").signatures["serving_default"]
    (found,) = served(x=tf.constant(x), domain=tf.constant(domain, tf.int32)).values()
    close(found, expected, 1e-6)


def test_a_fixed_domain_is_kept_in_a_file(random, tmp_path):
    inputs = keras.Input((3,))
    model = keras.Model(inputs, DomainBatchNorm(2, name="norm")(inputs, domain=1))
    model.set_weights([random.uniform(0.5, 2, weight.shape) for weight in model.weights])
    model.save(tmp_path / "model.keras")
    x = random.normal(size=(4, 3)).astype(np.float32)
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "model.keras")(x), model(x))


def in_a_graph(training=None, **options):
    """The layer as a function of inputs and domains whose numbers the graph does not know."""
    layer = DomainBatchNorm(2)
    layer.build((None, 3))
    signature = tf.TensorSpec([None, 3], tf.float32), tf.TensorSpec([None], tf.int32)
    return tf.function(lambda x, d: layer(x, domain=d, training=training), input_signature=signature, **options)


@pytest.mark.parametrize("training", [True, False])
def test_a_graph_refuses_another_number_of_domains(training):
    call = in_a_graph(training)
    for examples, domains in [(1, 3), (3, 1), (2, 3)]:
        with pytest.raises(tf.errors.InvalidArgumentError, match="one domain for each example"):
            call(tf.zeros([examples, 3]), tf.zeros([domains], tf.int32))
    assert call(tf.zeros([2, 3]), tf.zeros([2], tf.int32)).shape == (2, 3)


def test_a_compiled_graph_refuses_another_number_of_domains():
    with pytest.raises(tf.errors.InvalidArgumentError):
        in_a_graph(jit_compile=True)(tf.zeros([1, 3]), tf.zeros([3], tf.int32))
