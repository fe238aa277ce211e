"""Run by `test_multi_worker.py`, once for each worker, with its place in TF_CONFIG.

Arguments: the sizes of the workers' shards, by commas, and a folder for the chief's files.
"""

import hashlib
import json
import os
import pathlib
import sys

import keras
import numpy as np
import tensorflow as tf

from tests.conformance.branches import examples, model_of_branches, weights_by_case
from tests.conformance.cases import DISTINCT
from tests.conformance.steps import outcome
from tests.distribution.collectives import collectives
from tests.distribution.fit_every_case import save

STEPS = 3


def step_of_a_layer(layer, x, dy):
    """The output, the gradients and the statistics after a training step; gradients of weights are summed."""
    y, dx, *others = outcome(layer, x, dy, training=True)
    count = len(layer.trainable_variables)
    context = tf.distribute.get_replica_context()
    gradients = [context.all_reduce(tf.distribute.ReduceOp.SUM, each) for each in others[:count]]
    return y, dx, *gradients, *others[count:]


def built(case, scope):
    keras.utils.set_random_seed(0)
    with scope:
        layer = case.make()
        layer.build((None, *case.shape[1:]))
    random = np.random.default_rng(1)
    layer.set_weights([random.uniform(0.5, 2, weight.shape) for weight in layer.weights])
    return layer


def difference_from_the_whole(strategy, case, shard, size):
    """The largest one between a layer on the shards and the same layer, without a strategy, on all of them."""
    random = np.random.default_rng(0)
    x, dy = (tf.constant(random.normal(mean, 2, (size, *case.shape[1:])), tf.float32) for mean in (3, 0))
    layer = built(case, strategy.scope())
    step = tf.function(lambda x, dy: strategy.run(step_of_a_layer, (layer, x, dy)))
    ours = step(x[shard], dy[shard])
    y, dx, *others = outcome(built(case, tf.name_scope("whole")), x, dy, training=True)
    truth = [y[shard], dx[shard], *others]
    return max(float(tf.reduce_max(tf.abs(a - b)) / max(1, np.abs(b).max())) for a, b in zip(ours, truth, strict=True))


def collectives_of(strategy, case, training):
    """Those of a step of one layer, forward and backward."""
    layer = built(case, strategy.scope())
    step = tf.function(lambda x, dy: strategy.run(outcome, (layer, x, dy, training)))
    spec = tf.TensorSpec(case.shape)
    return collectives(step.get_concrete_function(spec, spec))


def new_model(scope):
    keras.utils.set_random_seed(0)
    with scope:
        model = model_of_branches()
        model.optimizer = keras.optimizers.SGD(1e-3)
        model.optimizer.build(model.trainable_variables)
    return model


def train(run, model, inputs, targets, size):
    """A few steps on a shard of a batch of `size`."""

    def step(inputs, targets):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(model(inputs, training=True) - targets)) / size
        model.optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)

    compiled = tf.function(lambda *batch: run(step, batch))
    for _ in range(STEPS):
        compiled(inputs, targets)


def values(weights):
    """The weights of each case in one row."""
    found = weights_by_case(weights)
    return {name: np.concatenate([[0], *(each.numpy().ravel() for each in of)]) for name, of in found.items()}


def digests(weights):
    return {name: hashlib.sha256(row.tobytes()).hexdigest() for name, row in values(weights).items()}


def largest_difference(model, whole):
    """Of each case's weights, from those of a model that was trained on the whole batch."""
    ours, truth = values(model.weights), values(whole.weights)
    return {name: float(np.abs(ours[name] - truth[name]).max() / np.abs(truth[name]).max()) for name in ours}


def main(sizes, folder):
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})  # it takes a third of the time
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    index = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
    shard, size = slice(sum(sizes[:index]), sum(sizes[: index + 1])), sum(sizes)
    synchronized = [case for case in DISTINCT if case.synchronized]
    result = {
        "difference": {case.name: difference_from_the_whole(strategy, case, shard, size) for case in synchronized},
        "in training": {case.name: collectives_of(strategy, case, True) for case in DISTINCT},
        "in inference": {case.name: collectives_of(strategy, case, False) for case in DISTINCT},
    }
    inputs, targets = examples(size)
    model = new_model(strategy.scope())
    train(strategy.run, model, {name: x[shard] for name, x in inputs.items()}, targets[shard], size)
    result |= {
        "finite": {name: bool(np.isfinite(row).all()) for name, row in values(model.weights).items()},
        "trainable weights": digests(model.trainable_weights),
        "statistics": digests(model.non_trainable_weights),
    }
    if index == 0:
        save(model, folder, inputs)
        whole = new_model(tf.name_scope("whole"))
        train(lambda step, batch: step(*batch), whole, inputs, targets, size)
        result["from the whole"] = largest_difference(model, whole)
    return result


if __name__ == "__main__":
    print("RESULT " + json.dumps(main([int(size) for size in sys.argv[1].split(",")], pathlib.Path(sys.argv[2]))))
