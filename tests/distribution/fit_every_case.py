"""Run by `test_every_case.py`: `fit` on replicas, an uneven last batch, files, and what came of it.

Arguments: the replicas, the samples, the batch, and a folder for the files.
"""

import json
import pathlib
import sys

import keras
import numpy as np
import tensorflow as tf

from tests.conformance.branches import examples, model_of_branches, weights_by_case
from tests.conformance.cases import DISTINCT
from tests.distribution.uneven_batch import mirrored


def on_replicas(weight):
    return [each.numpy() for each in weight.value.values]


def by_case(weights, holds):
    """Whether something holds for all weights of each case."""
    return {name: all(map(holds, found)) for name, found in weights_by_case(weights).items()}


def is_finite(weight):
    return bool(all(np.isfinite(each).all() for each in on_replicas(weight)))


def is_equal(weight):
    first, *others = on_replicas(weight)
    return all(np.array_equal(first, each) for each in others)


def save(model, folder, inputs):
    """The model in both formats, and the inputs for whom loads it."""
    model.save(folder / "model.keras")
    model.export(folder / "model", verbose=False)
    np.savez(folder / "model" / "inputs.npz", **inputs)


if __name__ == "__main__":
    # A third of the time is Grappler's, on a graph of this many branches.
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    replicas, samples, batch = map(int, sys.argv[1:4])
    folder = pathlib.Path(sys.argv[4])
    strategy, (inputs, targets) = mirrored(replicas), examples(samples)
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = model_of_branches()
        model.compile(keras.optimizers.SGD(1e-3), "mse")
    losses = model.fit(inputs, targets, batch_size=batch, epochs=2, verbose=0).history["loss"]
    losses.append(model.evaluate(inputs, targets, batch_size=batch, verbose=0))
    predicted = model.predict(inputs, batch_size=batch, verbose=0)
    save(model, folder, inputs)
    np.save(folder / "predicted.npy", predicted)
    result = {
        "losses": losses,
        "finite": by_case(model.weights, is_finite),
        "trainable weights": by_case(model.trainable_weights, is_equal),
        "statistics": by_case(model.non_trainable_weights, is_equal),
        "predictions": {case.name: bool(np.isfinite(predicted[:, i]).all()) for i, case in enumerate(DISTINCT)},
    }
    print("RESULT " + json.dumps(result))
