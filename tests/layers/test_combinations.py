"""Every combination of options that is not refused, against the reference; and every pair that is."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from bn_keras import BatchNorm
from bn_keras.layers.combinations import NEEDED, OPTIONS, REFUSED, combinations
from tests import reference
from tests.exhaustive import marked
from tests.layers.test_batch_norm import close, randomized, step

ARGUMENTS = {
    "momentum=None": {"momentum": None},
    "bias_correction=True": {"bias_correction": True},
    "renorm=True": {"renorm": True, "renorm_clipping": {"rmax": 1.5, "rmin": 0.7, "dmax": 0.5}},
    "virtual_batch_size=n": {"virtual_batch_size": 4},
    "synchronized=True": {"synchronized": True},
    "group_size=n": {"group_size": 2},
    "fused=True": {"fused": True},
    "accumulation_steps=n": {"accumulation_steps": 4},
}


def arguments_of(names):
    return {key: value for name in names for key, value in ARGUMENTS[name].items()}


@pytest.mark.parametrize("pair", REFUSED, ids=" with ".join)
def test_refused_pairs_are_an_error_with_the_reason(pair):
    needed = [NEEDED[name] for name in pair if name in NEEDED]
    with pytest.raises(ValueError, match="cannot be combined with") as error:
        BatchNorm(**arguments_of([*pair, *needed]))
    names = [name for name in OPTIONS if name in {*pair, *needed}]
    assert any(REFUSED.get(each, "nothing") in str(error.value) for each in itertools.combinations(names, 2))


def test_every_set_of_options_is_either_refused_or_tested():
    tested = set(combinations())
    for size in range(len(OPTIONS) + 1):
        for names in itertools.combinations(OPTIONS, size):
            if names in tested:
                BatchNorm(**arguments_of(names))
            else:
                with pytest.raises(ValueError, match="cannot be combined|needs"):
                    BatchNorm(**arguments_of(names))


# The axes and the estimate of the variance are of two different lines: each once with each set of options.
@pytest.mark.sample(18)
@pytest.mark.parametrize(
    ("axis", "unbiased"),
    marked([(-1, True), (-1, False), ([1, 2], True), ([1, 2], False)], lambda axis, unbiased: unbiased == (axis == -1)),
)
@pytest.mark.parametrize(
    ("names", "masked"),
    [
        (names, masked)
        for names in combinations()
        for masked in (False, True)
        if not masked or "fused=True" not in names
    ],
    ids=lambda each: each if isinstance(each, bool) else " ".join(each) or "none",
)
def test_combinations_are_the_equations(random, names, masked, axis, unbiased):
    shape, arguments = (10, 5, 3), {"momentum": 0.9, "unbiased": unbiased, **arguments_of(names)}
    layer = randomized(BatchNorm(axis, **arguments), shape, random)
    if layer.steps is not None:
        layer.steps.assign(3.0)
    if layer.accumulation_steps:
        layer.accumulated_batches.assign(3.0)
    x, dy = (tf.constant(random.normal(1, 2, shape), tf.float32) for _ in range(2))
    mask = np.isin(np.arange(10), [1, 6, 7], invert=True) if masked else None
    before = {weight.name: weight.numpy().astype(np.float64) for weight in layer.weights}
    true_y, true_dx, after = truth(x, dy, mask, before, axis, arguments)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, training=True, mask=None if mask is None else tf.constant(mask))
    close(y, true_y, 5e-5)
    close(tape.gradient(y, x, dy), true_dx, 5e-4)
    for name, value in after.items():
        close(getattr(layer, name), value, 2e-5)


def truth(x, dy, mask, before, axis, arguments):
    """The output, the gradient of the input and the statistics, of the float64 reference."""
    size = arguments.get("virtual_batch_size", len(x))
    weights = np.ones(x.shape) if mask is None else np.broadcast_to(mask[:, None, None], x.shape)
    renorm, outputs, gradients, moments = arguments.get("renorm"), [], [], []
    for part in (slice(start, start + size) for start in range(0, len(x), size)):
        gamma, beta = before["gamma"], before["beta"]
        _, count, mean, variance = reference.batch_norm(x[part], gamma, beta, axis, 1e-3, weights[part])
        if renorm:
            gamma, beta = renormalized(before, mean, variance, arguments["renorm_clipping"])
        outputs.append(reference.batch_norm(x[part], gamma, beta, axis, 1e-3, weights[part])[0])
        gradients.append(reference.batch_norm_gradient(x[part], gamma, dy[part], axis, 1e-3, weights[part])[0])
        moments.append(
            (count, mean, variance * count / np.maximum(count - 1, 1) if arguments["unbiased"] else variance)
        )
    counts, means, variances = map(np.stack, zip(*moments, strict=True))
    if "accumulation_steps" in arguments:
        counts, means, variances = pooled(before, count, mean, variance, arguments["unbiased"])
    mean, variance = (np.sum(counts * each, 0) / np.sum(counts, 0) for each in (means, variances))
    return np.concatenate(outputs), np.concatenate(gradients), averages(before, mean, variance, arguments)


def pooled(before, count, mean, variance, unbiased):
    """The moments of the batch and of those before it, from their sums of x and x²."""
    counts = np.stack([before["accumulated_count"], count])
    means = np.stack([before["accumulated_mean"], mean])
    squares = np.stack([before["accumulated_squares"], count * variance]) + counts * means**2
    whole, mean = counts.sum(0), (counts * means).sum(0) / counts.sum(0)
    squares = squares.sum(0) - whole * mean**2
    return whole[None], mean[None], (squares / (np.maximum(whole - 1, 1) if unbiased else whole))[None]


def renormalized(before, mean, variance, clipping):
    """γ and β with r and d in them."""
    r = np.clip(np.sqrt(variance + 1e-3) / before["renorm_stddev"], clipping["rmin"], clipping["rmax"])
    d = np.clip((mean - before["renorm_mean"]) / before["renorm_stddev"], -clipping["dmax"], clipping["dmax"])
    return before["gamma"] * r, before["gamma"] * d + before["beta"]


def averages(before, mean, variance, arguments):
    momentum = arguments["momentum"]
    if momentum is None:
        momentum = 3 / 4
    elif arguments.get("bias_correction"):
        momentum *= (1 - momentum**3) / (1 - momentum**4)

    def moved(name, value, momentum=momentum):
        return momentum * before[name] + (1 - momentum) * value

    sums = ("accumulated_count", "accumulated_mean", "accumulated_squares", "accumulated_batches")
    anew = {name: np.zeros_like(before[name]) for name in sums if name in before}
    if not arguments.get("renorm"):
        moving = {"moving_mean": moved("moving_mean", mean), "moving_variance": moved("moving_variance", variance)}
        return moving | anew
    stddev = np.sqrt(variance + 1e-3)
    return anew | {
        "moving_mean": moved("moving_mean", mean),
        "moving_stddev": moved("moving_stddev", stddev),
        "moving_variance": moved("moving_stddev", stddev) ** 2 - 1e-3,
        "renorm_mean": moved("renorm_mean", mean, 0.99),
        "renorm_stddev": moved("renorm_stddev", stddev, 0.99),
    }


@pytest.mark.sample(6)
@pytest.mark.parametrize("names", list(combinations()), ids=" ".join)
def test_relu_is_that_of_a_layer_after_it(random, names):
    check_activation("relu", (10, 5, 3), arguments_of(names), random)


@pytest.mark.sample(3)
@pytest.mark.parametrize("activation", ["relu", "tanh", None])
def test_activations_in_every_implementation(random, implementation, activation):
    check_activation(activation, (8, 6, 6, 4), {}, random)


def check_activation(activation, shape, arguments, random):
    within = randomized(BatchNorm(activation=activation, **arguments), shape, random)
    alone = BatchNorm(**arguments)
    alone.build(shape)
    alone.set_weights(within.get_weights())
    after = keras.layers.Activation(activation)
    x, dy = (tf.constant(random.normal(0.5, 2, shape), tf.float32) for _ in range(2))
    one, other = step(within, x, dy), step(keras.Sequential([alone, after]), x, dy)
    for ours, true in zip(one, other, strict=True):
        close(ours, true, 1e-5)
    for ours, true in zip(within.weights, alone.weights, strict=True):
        close(ours, true, 1e-5)
    close(within(x), after(alone(x)), 1e-6)
    assert BatchNorm.from_config(within.get_config()).activation is keras.activations.get(activation)
