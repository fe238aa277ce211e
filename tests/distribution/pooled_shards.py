"""Run by `test_mirrored.py` in a process of its own: accumulated batches and domains on the shards of `shards.py`.

Each is compared with a layer without a strategy on the concatenation of all shards.
"""

import itertools
import json

import keras
import numpy as np
import tensorflow as tf

from bn_keras import BatchNorm, DomainBatchNorm
from tests.distribution.shards import PARTS, SIZES, difference, for_each_replica, sharded
from tests.distribution.uneven_batch import mirrored


def built(strategy, make, shape, random):
    """A layer within the strategy and one without, of the same weights."""
    whole = make()
    whole.build(shape)
    weights = [random.uniform(0.5, 2, weight.shape) for weight in whole.weights if "accumulated" not in weight.name]
    weights += [np.zeros(weight.shape) for weight in whole.weights if "accumulated" in weight.name]
    with strategy.scope():
        layer = make()
        layer.build(shape)
    for each in (layer, whole):
        each.set_weights(weights)
    return layer, whole


def largest(layer, truth):
    """The largest difference of the statistics, which have to be equal on all replicas."""
    differences = []
    for weight, true in zip(layer.non_trainable_variables, truth, strict=True):
        replicas = [replica.numpy() for replica in weight.value.values]
        assert all(np.array_equal(replicas[0], each) for each in replicas), weight.name
        differences.append(difference(replicas[0], np.asarray(true)))
    return max(differences)


def accumulated(strategy, random, synchronized):
    """Two batches of all replicas are pooled, synchronized or not."""
    keras.utils.set_random_seed(0)
    arguments = {"momentum": 0.5, "dtype": "float64", "synchronized": synchronized}
    shape = (None, 4, 3)
    layer, _ = built(strategy, lambda: BatchNorm(accumulation_steps=2, **arguments), shape, random)
    whole = BatchNorm(**arguments)
    whole.build(shape)
    whole.set_weights(layer.get_weights()[: len(whole.weights)])
    step = tf.function(lambda x: strategy.run(lambda x: layer(x, training=True), (x,)), autograph=False)
    batches = [random.normal(10 * i, 2, (sum(SIZES), 4, 3)) for i in range(2)]
    for batch in batches:
        step(sharded(strategy, batch))
    whole(np.concatenate(batches), training=True)
    collectives = for_each_replica(step.get_concrete_function(sharded(strategy, batches[0])))
    sums = [np.zeros(weight.shape) for weight in layer.weights[len(whole.weights) :]]
    return {"difference": largest(layer, [*whole.non_trainable_variables, *sums]), "collectives": collectives}


def step_of(layer, x, dy, domain):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, domain=domain, training=True)
    return y, *tape.gradient(y, [x, *layer.trainable_variables], dy)


def synchronized_domains(strategy, random, per_replica):
    """A step with a domain per example, or with another domain on each replica."""
    make = lambda: DomainBatchNorm(3, momentum=0.5, dtype="float64", synchronized=True, shared_affine=False)  # noqa: E731
    layer, whole = built(strategy, make, (None, 4, 3), random)
    x, dy = (random.normal(mean, 2, (sum(SIZES), 4, 3)) for mean in (5, 0))
    domain = random.integers(0, 3, len(x))
    of_replicas = sharded(strategy, domain)
    if per_replica:
        domain = np.repeat([1, 0, 2, 1], SIZES)
        of_replicas = strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant([1, 0, 2, 1])[context.replica_id_in_sync_group]
        )
    step = tf.function(lambda *values: strategy.run(step_of, (layer, *values)))
    inputs = sharded(strategy, x), sharded(strategy, dy), of_replicas
    y, dx, *parameters = (strategy.experimental_local_results(each) for each in step(*inputs))
    ours = [np.concatenate(y), np.concatenate(dx), *(np.sum(each, axis=0) for each in parameters)]
    truth = step_of(whole, tf.constant(x), tf.constant(dy), tf.constant(domain))
    differences = [difference(a, np.asarray(b)) for a, b in zip(ours, truth, strict=True)]
    return {
        "difference": max(*differences, largest(layer, whole.non_trainable_variables)),
        "collectives": for_each_replica(step.get_concrete_function(*inputs)),
    }


def plain_domains(strategy, random):
    """The moving means of domains that are not synchronized: averages over the replicas, weighted by their counts."""
    layer, _ = built(strategy, lambda: DomainBatchNorm(2, momentum=0.0, dtype="float64"), (None, 4, 3), random)
    x, domain = random.normal(5, 2, (sum(SIZES), 4, 3)), np.array([0, 1, 1, 0, 1, 1, 1, 0, 0, 1, 0, 0, 0])
    step = tf.function(
        lambda *values: strategy.run(lambda x, d: layer(x, domain=d, training=True), values), autograph=False
    )
    inputs = sharded(strategy, x), sharded(strategy, domain)
    step(*inputs)
    means, variances = np.zeros((2, 3)), np.zeros((2, 3))
    for d in range(2):
        means[d] = x[domain == d].mean((0, 1))
        shards = [x[slice(*rows)][domain[slice(*rows)] == d] for rows in itertools.pairwise(PARTS)]
        shards = [each.reshape(-1, 3) for each in shards if len(each)]
        variances[d] = np.average([each.var(0, ddof=1) for each in shards], axis=0, weights=list(map(len, shards)))
    collectives = for_each_replica(step.get_concrete_function(*inputs))
    return {"difference": largest(layer, [means, variances]), "collectives": collectives}


if __name__ == "__main__":
    strategy, random = mirrored(len(SIZES)), np.random.default_rng(0)
    result = {
        "accumulated": accumulated(strategy, random, False) | {"expected": 1},
        "accumulated, synchronized": accumulated(strategy, random, True) | {"expected": 1},
        "domains, synchronized": synchronized_domains(strategy, random, False) | {"expected": 2},
        "domain by replica, synchronized": synchronized_domains(strategy, random, True) | {"expected": 2},
        "domains": plain_domains(strategy, random) | {"expected": 1},
    }
    print("RESULT " + json.dumps(result))
