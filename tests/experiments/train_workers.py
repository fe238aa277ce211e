"""Run by `test_workers.py`, once for each worker: a small training run that goes on after a lost worker.

Arguments: the folder of the run, and perhaps --resume.
"""

import json
import pathlib
import sys

import keras
import numpy as np
import tensorflow as tf

from bn_keras import SyncBatchNorm
from bn_keras.experiments.cluster import make_strategy
from bn_keras.experiments.rendezvous import ClusterError
from bn_keras.experiments.workers import (
    LostWorkerError,
    check_same,
    digest,
    folder_to_write,
    losses_explained,
    rank,
    restart,
    workers,
)
from bn_keras.models import build

STEPS, SAVE_EVERY, BATCH = 50, 10, 32
SHAPE = (4, 4, 1)


def examples():
    random = np.random.default_rng(0)
    images = random.normal(3, 2, (STEPS, BATCH, *SHAPE)).astype(np.float32)
    return images, (images.mean((2, 3, 4)) > 3).astype(np.int32)


def training(strategy):
    """The model, its optimizer, and a compiled step that returns the loss of the whole batch."""
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = build("mlp_sigmoid", norm=SyncBatchNorm, classes=2, input_shape=SHAPE)
        optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
        optimizer.build(model.trainable_variables)

    def replica_step(images, labels):
        with tf.GradientTape() as tape:
            logits = model(images, training=True)
            losses = keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
            loss = tf.reduce_sum(losses) / BATCH
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        return loss

    @tf.function
    def step(images, labels):
        return strategy.reduce("sum", strategy.run(replica_step, (images, labels)), axis=None)

    return model, optimizer, step


def train(strategy, out, resume=False, done=lambda step: None):
    """The losses of all steps."""
    images, labels = examples()
    saved = pathlib.Path(out) / "checkpoint.npz"
    losses, values = [], []
    if resume and saved.exists():
        with np.load(saved) as arrays:
            losses, values = list(arrays["losses"]), [arrays[name] for name in arrays if name != "losses"]
    check_same(strategy, {"batch": BATCH, "data": digest(images, labels), "checkpoint": len(losses)})
    model, optimizer, step = training(strategy)
    variables = [*model.variables, *optimizer.variables]
    for variable, value in zip(variables if values else [], values, strict=True):
        variable.assign(value)
    folder = folder_to_write(strategy, out)
    size = BATCH // workers(strategy)
    shard = slice(rank(strategy) * size, (rank(strategy) + 1) * size)
    for index in range(len(losses), STEPS):
        losses.append(float(step(images[index, shard], labels[index, shard])))
        if (index + 1) % SAVE_EVERY == 0:
            np.savez(folder / "new.npz", *[variable.numpy() for variable in variables], losses=losses)
            (folder / "new.npz").replace(folder / "checkpoint.npz")
        done(index + 1)
    return losses, folder


def error_of_different_facts(strategy):
    try:
        check_same(strategy, {"steps": STEPS, "seed": rank(strategy) * "é", f"only on {rank(strategy)}": 1})
    except ClusterError as error:
        return str(error)


def main(out, *options):
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})  # it takes a third of the time
    strategy = make_strategy("multiworker", join_timeout=60)
    different = error_of_different_facts(strategy)
    try:
        with losses_explained(strategy):
            losses, folder = train(strategy, out, "--resume" in options, lambda step: print("STEP", step, flush=True))
    except LostWorkerError as error:
        print("LOST", error)
        restart(limit=1)
        raise
    return {"losses": losses, "folder": str(folder), "rank": rank(strategy), "different": different}


if __name__ == "__main__":
    print("RESULT " + json.dumps(main(*sys.argv[1:])))
