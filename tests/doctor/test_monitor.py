"""The callback writes the gaps of a training to TensorBoard and CSV."""

import csv
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from bn_keras import BatchNorm
from bn_keras.doctor import NormalizationMonitor
from bn_keras.doctor.monitor import is_chief


@pytest.fixture
def model():
    rows = [BatchNorm(momentum=0.7, name="norm"), keras.layers.Dense(1, name="dense")]
    model = keras.Sequential([keras.Input((4,)), *rows])
    model.compile("sgd", "mse")
    return model


@pytest.fixture
def inputs(random):
    return random.normal(3, 2, (128, 4)).astype("float32")


@pytest.mark.slow
def test_every_epoch(model, inputs, tmp_path):
    path, logs = tmp_path / "gaps.csv", tmp_path / "logs"
    monitor = NormalizationMonitor(inputs, filename=path, log_dir=logs)
    model.fit(inputs, inputs[:, :1], epochs=3, callbacks=[monitor], verbose=0)
    with open(path, encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["epoch"], row["step"]) for row in rows] == [("1", "4"), ("2", "8"), ("3", "12")]
    assert {row["layer"] for row in rows} == {"norm"}
    gaps = [float(row["mean_gap"]) for row in rows]
    norm = model.get_layer("norm")
    deviation = np.sqrt(inputs.var(axis=0) + norm.epsilon)
    truth = np.sqrt(np.mean(((norm.moving_mean.numpy() - inputs.mean(axis=0)) / deviation) ** 2))
    assert gaps[-1] == pytest.approx(truth, rel=1e-3)
    assert gaps[0] > gaps[1] > gaps[2]
    tags = {
        value.tag
        for name in logs.iterdir()
        for event in tf.compat.v1.train.summary_iterator(str(name))
        for value in event.summary.value
    }
    assert tags == {"norm_gap/norm", "norm_variance_ratio/norm"}


@pytest.mark.slow
def test_every_two_steps(model, inputs):
    monitor = NormalizationMonitor(inputs, every_steps=2)
    model.fit(inputs, inputs[:, :1], epochs=2, callbacks=[monitor], verbose=0)
    assert len(monitor.history["norm"]) == 4


@pytest.mark.slow
def test_it_does_not_change_the_training(model, inputs):
    weights = model.get_weights()
    model.fit(inputs, inputs[:, :1], epochs=2, shuffle=False, verbose=0)
    alone = model.get_weights()
    model.set_weights(weights)
    model.fit(inputs, inputs[:, :1], epochs=2, shuffle=False, callbacks=[NormalizationMonitor(inputs)], verbose=0)
    for one, other in zip(alone, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_is_refused(inputs):
    with pytest.raises(ValueError, match="every_steps"):
        NormalizationMonitor(inputs, every_steps=0)
    plain = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    plain.compile("sgd", "mse")
    with pytest.raises(ValueError, match="no batch norm"):
        plain.fit(inputs, inputs[:, :1], callbacks=[NormalizationMonitor(inputs)], verbose=0)


@pytest.mark.parametrize(
    ("jobs", "task", "chief"),
    [
        (["worker"], ("worker", 0), True),
        (["worker"], ("worker", 1), False),
        (["chief", "worker"], ("chief", 0), True),
        (["chief", "worker"], ("worker", 0), False),
        ([], (None, None), True),
    ],
)
def test_the_chief_alone_writes(jobs, task, chief):
    spec = types.SimpleNamespace(jobs=jobs)
    resolver = types.SimpleNamespace(task_type=task[0], task_id=task[1], cluster_spec=lambda: spec)
    assert is_chief(types.SimpleNamespace(cluster_resolver=resolver)) == chief
    assert is_chief(tf.distribute.get_strategy())


@pytest.mark.slow
def test_under_replicas(inputs):
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with strategy.scope():
        model = keras.Sequential([keras.Input((4,)), BatchNorm(momentum=0.7, name="norm"), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
    monitor = NormalizationMonitor(inputs)
    model.fit(inputs, inputs[:, :1], epochs=1, callbacks=[monitor], verbose=0)
    assert len(monitor.history["norm"]) == 1


@pytest.mark.slow
@pytest.mark.parametrize(("every", "expected"), [(None, [(3, 4), (4, 8)]), (3, [(2, 3), (3, 7)])])
def test_several_steps_per_call_and_epochs_done_before(model, inputs, tmp_path, every, expected):
    """Four batches in calls of three steps: each epoch has a call of three and one of a single step."""
    model.compile("sgd", "mse", steps_per_execution=3)
    path = tmp_path / "gaps.csv"
    monitor = NormalizationMonitor(inputs, filename=path, every_steps=every)
    model.fit(inputs, inputs[:, :1], initial_epoch=2, epochs=4, callbacks=[monitor], verbose=0)
    assert monitor.step == 8, "steps, not calls"
    with open(path, encoding="utf-8") as file:
        rows = [(int(row["epoch"]), int(row["step"])) for row in csv.DictReader(file)]
    assert rows == expected
