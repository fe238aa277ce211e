"""Run by `test_mirrored.py` in a process of its own: shards of 7, 1, 0 and 5 samples on 4 replicas.

Every case is run on the shards and, without a strategy, on what they are together: the concatenation of all for a
synchronized layer, of each group for one with a `group_size`, each by itself for one that is not synchronized. The
moving statistics are then the averages over these, weighted by their counts.
"""

import json

import keras
import numpy as np
import tensorflow as tf

from bn_keras import BatchNorm, SyncBatchNorm
from tests.distribution.collectives import collectives
from tests.distribution.uneven_batch import mirrored

SIZES = (7, 1, 0, 5)
PARTS = np.cumsum((0, *SIZES))


def sharded(strategy, values):
    """The rows of each replica, as what `strategy.run` takes."""
    return strategy.experimental_distribute_values_from_function(
        lambda context: tf.constant(values[slice(*PARTS[context.replica_id_in_sync_group :][:2])])
    )


def gradients_of_a_step(layer, x, dy, mask):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, training=True, mask=mask)
    return y, *tape.gradient(y, [x, *layer.trainable_variables], dy)


def case(strategy, random, shape, offset=2.0, masked=False, fill=None, together=4, expected=2, **arguments):
    """The largest difference between shards and the `together` neighbours, and the collectives of the step.

    With a `fill`, the shards have it in their masked elements, of which the loss takes none, and the truth has zeros.
    """
    keras.utils.set_random_seed(0)
    x, dy = (random.normal(mean, 3, (sum(SIZES), *shape)).astype(np.float32) for mean in (offset, 0))
    mask = random.uniform(size=len(x)) > 0.3 if masked else np.ones(len(x), bool)
    x_with_fill = x
    if fill is not None:
        x, dy, x_with_fill = x.copy(), dy.copy(), x.copy()
        x[~mask] = dy[~mask] = 0
        x_with_fill[~mask] = fill
    whole = BatchNorm(momentum=0.5, **arguments)
    whole.build(x.shape)
    weights = [random.uniform(0.5, 2, weight.shape) for weight in whole.weights]
    synchronized = {"synchronized": together > 1, "group_size": together if 1 < together < len(SIZES) else None}
    with strategy.scope():
        layer = BatchNorm(momentum=0.5, **synchronized, **arguments)
        layer.build(x.shape)
        layer.set_weights(weights)

    @tf.function
    def step(x, dy, mask):
        return strategy.run(gradients_of_a_step, (layer, x, dy, mask if masked else None))

    inputs = [sharded(strategy, values) for values in (x_with_fill, dy, mask)]
    y, dx, *parameters = (strategy.experimental_local_results(each) for each in step(*inputs))
    ours = [np.concatenate(y), np.concatenate(dx), *(np.sum(each, axis=0) for each in parameters)]
    truth, statistics = in_one_place(whole, weights, x, dy, mask if masked else None, together)
    if fill is not None:  # an output at a masked element is that of its value
        ours[0], truth[0] = ours[0][mask], truth[0][mask]
    differences = [difference(a, b) for a, b in zip(ours, truth, strict=True)]
    for weight, true in zip(layer.non_trainable_variables, statistics, strict=True):
        replicas = [replica.numpy() for replica in weight.value.values]
        assert all(np.array_equal(replicas[0], each) for each in replicas), weight.name
        if together == 1 and "renorm" in arguments and "mean" not in weight.name:
            continue  # a deviation is averaged as the root of the average variance
        differences.append(difference(replicas[0], true))
    return {
        "difference": float(max(differences)),
        "collectives": for_each_replica(step.get_concrete_function(*inputs)),
        "expected": expected,
    }


def in_one_place(layer, weights, x, dy, mask, together):
    """Output and gradients, and the statistics, of a layer without a strategy."""
    results, statistics, counts = [], [], []
    for first in range(0, len(SIZES), together):
        rows = slice(PARTS[first], PARTS[first + together])
        if rows.start == rows.stop:
            continue
        layer.set_weights(weights)
        mask_rows = None if mask is None else tf.constant(mask[rows])
        results.append(gradients_of_a_step(layer, tf.constant(x[rows]), tf.constant(dy[rows]), mask_rows))
        statistics.append([weight.numpy() for weight in layer.non_trainable_variables])
        counts.append(rows.stop - rows.start if mask is None else mask[rows].sum())
    y, dx, *parameters = zip(*results, strict=True)
    outputs = [np.concatenate(y), np.concatenate(dx), *(np.sum(each, axis=0) for each in parameters)]
    return outputs, [np.average(each, axis=0, weights=counts) for each in zip(*statistics, strict=True)]


def difference(a, b):
    return np.abs(a - b).max() / max(1, np.abs(b).max())


def for_each_replica(function):
    return collectives(function) / len(SIZES)


def collectives_in_inference(strategy):
    with strategy.scope():
        layer = SyncBatchNorm()
        layer.build((None, 3))

    @tf.function
    def infer(x):
        return strategy.run(lambda x: layer(x), (x,))

    return for_each_replica(infer.get_concrete_function(sharded(strategy, np.ones((13, 3), np.float32))))


def penalty_gradient(layer, x):
    """The gradient of the squared gradient of a loss of third order."""
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            loss = tf.reduce_sum(layer(x, training=True) ** 3)
        penalty = tf.reduce_sum(inner.gradient(loss, x) ** 2)
    return outer.gradient(penalty, x)


def second_derivatives(strategy, random):
    """The largest relative difference of a gradient penalty's gradient between shards and whole, in float64."""
    x = random.normal(2, 3, (sum(SIZES), 3))
    with strategy.scope():
        layer = SyncBatchNorm(dtype="float64")
        layer.build(x.shape)
    step = tf.function(lambda x: strategy.run(penalty_gradient, (layer, x)))
    ours = np.concatenate(strategy.experimental_local_results(step(sharded(strategy, x))))
    truth = penalty_gradient(BatchNorm(dtype="float64"), tf.constant(x)).numpy()
    return float(np.abs(ours - truth).max() / np.abs(truth).max())


def keras_with_a_mask(strategy, random):
    """The collectives of a step of Keras' synchronized layer, and whether it synchronizes what has a mask."""
    with strategy.scope():
        layer = keras.layers.BatchNormalization(synchronized=True, momentum=0.0)
        layer.build((None, 3))

    @tf.function
    def step(x, mask):
        return strategy.run(gradients_of_a_step, (layer, x, x, mask))

    x = sharded(strategy, random.normal(size=(sum(SIZES), 3)).astype(np.float32))
    mask = sharded(strategy, np.ones(sum(SIZES), bool))
    count = for_each_replica(step.get_concrete_function(x, None))
    step(x, mask)
    first, second, *_ = (replica.numpy() for replica in layer.moving_mean.value.values)
    return {"collectives": count, "synchronized": np.allclose(first, second)}


def variance_at_a_large_offset(strategy, random):
    """The relative error of the variance for a mean of 10⁴ deviations; Keras' layer beside ours."""
    x = random.normal(1e4, 1, (13, 200, 8)).astype(np.float32)
    truth = x.astype(np.float64).var((0, 1))
    errors = {}
    for name, make in (("ours", SyncBatchNorm), ("keras", keras.layers.BatchNormalization)):
        with strategy.scope():
            layer = make(momentum=0.0, synchronized=True, **({"unbiased": False} if name == "ours" else {}))
            layer.build(x.shape)
        step = tf.function(lambda x, layer=layer: strategy.run(lambda x: layer(x, training=True), (x,)))
        step(sharded(strategy, x))
        errors[name] = float(np.abs(layer.moving_variance.value.values[0].numpy() / truth - 1).max())
    return errors


if __name__ == "__main__":
    strategy, random = mirrored(len(SIZES)), np.random.default_rng(0)
    result = {
        "vectors": case(strategy, random, (3,)),
        "images": case(strategy, random, (4, 5, 3)),
        "channels first": case(strategy, random, (3, 4, 5), axis=1),
        "two axes": case(strategy, random, (3, 4, 5), axis=[1, 3]),
        "large": case(strategy, random, (16, 16, 40)),
        "mask": case(strategy, random, (3,), masked=True),
        "mask of images": case(strategy, random, (4, 5, 3), masked=True),
        "mask, NaN": case(strategy, random, (4, 3), masked=True, fill=np.nan),
        "mask, huge": case(strategy, random, (4, 3), masked=True, fill=np.finfo(np.float32).min),
        "mask, NaN, renorm": case(strategy, random, (4, 3), masked=True, fill=np.nan, renorm=True),
        "groups of 2, mask, NaN": case(strategy, random, (4, 3), together=2, masked=True, fill=np.nan),
        "plain, mask, NaN": case(strategy, random, (4, 3), together=1, expected=1, masked=True, fill=np.nan),
        "renorm": case(strategy, random, (3,), renorm=True),
        "biased": case(strategy, random, (3,), unbiased=False),
        "without scale and offset": case(strategy, random, (3,), center=False, scale=False),
        "groups of 2": case(strategy, random, (4, 3), together=2),
        "groups of 2, mask": case(strategy, random, (4, 3), together=2, masked=True),
        "groups of 2, two axes": case(strategy, random, (3, 4, 5), together=2, axis=[1, 3]),
        "plain": case(strategy, random, (4, 3), together=1, expected=1),
        "plain, mask": case(strategy, random, (4, 3), together=1, expected=1, masked=True),
        "plain, two axes": case(strategy, random, (3, 4, 5), together=1, expected=1, axis=[1, 3]),
        "plain, fused": case(strategy, random, (16, 16, 8), together=1, expected=1, fused=True),
        "plain, virtual": case(strategy, random, (4, 3), together=1, expected=1, virtual_batch_size=2),
        "plain, renorm": case(strategy, random, (40, 3), together=1, expected=1, renorm=True, unbiased=False),
        "plain, average of all": case(strategy, random, (4, 3), together=1, expected=1, bias_correction=True),
    }
    result = {
        "cases": result,
        "collectives in inference": collectives_in_inference(strategy),
        "second derivatives": second_derivatives(strategy, random),
        "keras": keras_with_a_mask(strategy, random),
        "variance": variance_at_a_large_offset(strategy, random),
    }
    print("RESULT " + json.dumps(result))
