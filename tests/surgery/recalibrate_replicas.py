"""Run by `test_recalibrate.py` in a process of its own: 21 samples in batches of 4 on 2 replicas.

The last batch holds one sample, so that one replica gets none.
"""

import json

import keras
import numpy as np
import tensorflow as tf

from bn_keras import BatchNorm, DecorrelatedBatchNorm, SyncBatchNorm
from bn_keras.surgery.recalibrate import recalibrate
from tests.distribution.uneven_batch import mirrored
from tests.surgery.recalibrate_truth import algorithm_2, difference, examples, parts, population, row

X = examples(21)
BATCHES = parts(X, [4] * 5 + [1])
SHARDS = parts(X, [2] * 10 + [1])


def dataset():
    return tf.data.Dataset.from_tensor_slices(X).batch(4)


def differences(strategy, name, norm, batches):
    """From the truth, of the ways to measure a model; `batches` is what a batch norm of it takes for one."""
    model, data = row(norm), dataset()

    def of(truth, data=data, **arguments):
        with strategy.scope():
            return difference(recalibrate(model, data, report=None, **arguments), truth)

    return {
        f"{name}: one pass": of(population(model, batches), data=strategy.experimental_distribute_dataset(data)),
        f"{name}: sequential": of(population(model, [X]), sequential=True),
        f"{name}: algorithm 2": of(algorithm_2(model, batches), data=BATCHES, method="algorithm2"),
    }


def decorrelated(strategy):
    model = keras.Sequential([keras.Input((5,)), DecorrelatedBatchNorm(epsilon=0.5)])
    alone = recalibrate(model, X, report=None)
    with strategy.scope():
        over_replicas = recalibrate(model, dataset(), report=None)
    pairs = zip(alone.weights[2:], over_replicas.weights[2:], strict=True)
    return max(float(np.abs(b.numpy() / a.numpy() - 1).max()) for a, b in pairs)


def of_a_strategy(strategy):
    """Whether the new model is the same on all replicas, and what the report says."""
    reports = []
    with strategy.scope():
        new = recalibrate(row(BatchNorm), dataset(), report=reports.append)
    replicas = [[each.numpy() for each in weight.value.values] for weight in new.weights]
    same = all(len(each) == 2 and np.array_equal(*each) for each in replicas)
    return {"same": same, "report": [reports[0].batches, reports[0].samples, reports[0].rows[0].count]}


if __name__ == "__main__":
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})  # it takes a third of the time
    strategy, found = mirrored(2), {}
    keras.utils.set_random_seed(0)
    found |= differences(strategy, "plain", BatchNorm, SHARDS)
    found |= differences(strategy, "synchronized", SyncBatchNorm, BATCHES)
    found["decorrelated"] = decorrelated(strategy)
    print("RESULT " + json.dumps({"differences": found, **of_a_strategy(strategy)}))
