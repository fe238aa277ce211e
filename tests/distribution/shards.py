"""Run by `test_mirrored.py` in a process of its own: shards of 7, 1, 0 and 5 samples on 4 replicas.

Every case is run on the shards and, without a strategy, on their concatenation.
"""

import collections
import json

import keras
import numpy as np
import tensorflow as tf

from bn_keras import BatchNorm, SyncBatchNorm
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


def case(strategy, random, shape, offset=2.0, masked=False, **arguments):
    """The largest difference between shards and whole, and the collectives of the training step."""
    keras.utils.set_random_seed(0)
    x, dy = (random.normal(mean, 3, (sum(SIZES), *shape)).astype(np.float32) for mean in (offset, 0))
    mask = random.uniform(size=len(x)) > 0.3 if masked else np.ones(len(x), bool)
    whole = BatchNorm(momentum=0.5, **arguments)
    whole.build(x.shape)
    weights = [random.uniform(0.5, 2, weight.shape) for weight in whole.weights]
    whole.set_weights(weights)
    with strategy.scope():
        layer = SyncBatchNorm(momentum=0.5, **arguments)
        layer.build(x.shape)
        layer.set_weights(weights)

    @tf.function
    def step(x, dy, mask):
        return strategy.run(gradients_of_a_step, (layer, x, dy, mask if masked else None))

    inputs = [sharded(strategy, values) for values in (x, dy, mask)]
    y, dx, *parameters = (strategy.experimental_local_results(each) for each in step(*inputs))
    truth = gradients_of_a_step(whole, tf.constant(x), tf.constant(dy), tf.constant(mask) if masked else None)
    ours = [np.concatenate(y), np.concatenate(dx), *(np.sum(each, axis=0) for each in parameters)]
    differences = [np.abs(a - b).max() / max(1, np.abs(b).max()) for a, b in zip(ours, truth, strict=True)]
    for weight, true in zip(layer.non_trainable_variables, whole.non_trainable_variables, strict=True):
        replicas = [replica.numpy() for replica in weight.value.values]
        assert all(np.array_equal(replicas[0], each) for each in replicas), weight.name
        differences.append(np.abs(replicas[0] - true.numpy()).max() / max(1, np.abs(true.numpy()).max()))
    return {"difference": float(max(differences)), "collectives": collectives(step.get_concrete_function(*inputs))}


def collectives(function):
    """The collective ops in a graph, for each replica."""
    definition = function.graph.as_graph_def()
    nodes = list(definition.node) + [node for each in definition.library.function for node in each.node_def]
    return sum(collections.Counter(node.op for node in nodes if "Collective" in node.op).values()) / len(SIZES)


def collectives_in_inference(strategy):
    with strategy.scope():
        layer = SyncBatchNorm()
        layer.build((None, 3))

    @tf.function
    def infer(x):
        return strategy.run(lambda x: layer(x), (x,))

    return collectives(infer.get_concrete_function(sharded(strategy, np.ones((13, 3), np.float32))))


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
        "renorm": case(strategy, random, (3,), renorm=True),
        "biased": case(strategy, random, (3,), unbiased=False),
        "without scale and offset": case(strategy, random, (3,), center=False, scale=False),
    }
    result = {
        "cases": result,
        "collectives in inference": collectives_in_inference(strategy),
        "variance": variance_at_a_large_offset(strategy, random),
    }
    print("RESULT " + json.dumps(result))
