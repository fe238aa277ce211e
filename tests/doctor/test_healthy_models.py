"""Healthy models of every kind: no finding is an error or a warning."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from bn_keras import BatchNorm, GroupNorm, LayerNorm, SyncBatchNorm, surgery
from bn_keras.doctor import examine
from bn_keras.models import build
from tests.doctor import networks

pytestmark = pytest.mark.slow


def healthy(model, data, notes=(), **options):
    examination = examine(model, data, **options)
    assert [each.name for each in examination.findings] == [*notes], str(examination)
    assert not examination.repairs() or notes
    return examination


def test_a_trained_network(trained, digits):
    examination = healthy(trained, digits)
    assert [gap.layer for gap in examination.layers] == ["norm_1", "norm_2"]
    assert all(gap.by_batch for gap in examination.layers)
    assert examination.numbers["accuracy"] > 0.9


def test_on_inputs_alone(trained, digits):
    healthy(trained, digits[0])


def test_on_data_that_it_was_not_trained_on(trained):
    x, y = networks.digits()
    model = networks.copy_of(trained)
    networks.fit(model, epochs=2)
    healthy(model, (x[-300:], y[-300:]))


def test_keras_layers(digits):
    examination = healthy(networks.mlp(norm=keras.layers.BatchNormalization), digits)
    assert examination.layers[0].kind == "BatchNormalization"


def test_shipped_weights():
    from bn_keras.experiments.data import load

    train = load("digits").train
    model = build("mlp_sigmoid", weights="digits")
    healthy(model, (train.inputs[:256], train.labels[:256]))


@pytest.mark.parametrize("norm", [GroupNorm, LayerNorm, keras.layers.LayerNormalization])
def test_networks_without_batch_norm(norm, digits):
    options = {"groups": 8} if norm is GroupNorm else {}
    rows = [keras.layers.Dense(48), norm(**options), keras.layers.ReLU(), keras.layers.Dense(10)]
    examination = healthy(keras.Sequential([keras.Input((64,)), *rows]), digits)
    assert "no batch norm" in str(examination)


def test_a_new_network_is_a_note(digits):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((64,)), *networks.layers_of_mlp()])
    healthy(model, digits[0], notes=["never_updated"])
    examination = healthy(model, digits, notes=["never_updated"])
    assert examination.findings[0].severity == "note"
    assert examination.findings[0].repair is None


def test_a_frozen_backbone(trained, digits):
    x, y = digits
    base = networks.copy_of(trained)
    base.trainable = False
    inputs = keras.Input((64,))
    model = keras.Model(inputs, keras.layers.Dense(10, name="head")(base(inputs, training=False)))
    networks.fit(model, epochs=2)
    examination = healthy(model, (x + 0.5, y))  # other data: what the statistics are frozen against
    assert not any(gap.by_batch for gap in examination.layers)
    assert any(gap.exceeds_noise for gap in examination.layers)


def test_frozen_statistics_do_well_with_small_batches(trained, digits):
    with pytest.warns(UserWarning, match="is compiled"):
        model = surgery.freeze(networks.copy_of(trained), report=None)
    healthy(model, digits, batch_size=3, steps=16)


def test_bfloat16(digits):
    model = networks.mlp(dtype="mixed_bfloat16")
    healthy(model, digits)


def test_a_subclassed_network(digits):
    keras.utils.set_random_seed(1)
    healthy(networks.fit(networks.Subclassed()), digits)


def test_dropout_behind_the_last_batch_norm(digits):
    keras.utils.set_random_seed(1)
    row = networks.layers_of_mlp()
    row.insert(-1, keras.layers.Dropout(0.5, seed=1))
    healthy(networks.fit(keras.Sequential([keras.Input((64,)), *row])), digits)


def test_two_inputs_and_two_outputs(digits):
    x, y = digits
    keras.utils.set_random_seed(1)
    left, right = keras.Input((32,), name="left"), keras.Input((32,), name="right")
    h = keras.layers.Concatenate()([left, right])
    for layer in networks.layers_of_mlp(norm=SyncBatchNorm)[:-1]:
        h = layer(h)
    outputs = {"digit": keras.layers.Dense(10, name="digit")(h), "size": keras.layers.Dense(1, name="size")(h)}
    model = keras.Model({"left": left, "right": right}, outputs)
    model.compile("adam", {"digit": networks.loss(), "size": "mse"})
    data = tf.data.Dataset.from_tensor_slices(
        ({"left": x[:, :32], "right": x[:, 32:]}, {"digit": y, "size": y[:, None] / 10.0})
    )
    model.fit(data.shuffle(512, seed=0).batch(32), epochs=20, verbose=0)
    examination = healthy(model, data.shuffle(512, seed=0, reshuffle_each_iteration=False).batch(32))
    assert "accuracy" not in examination.numbers
    model.get_layer("norm_2").moving_mean.assign_add(2 * np.ones(48, "float32"))
    names = {each.name for each in examine(model, data.shuffle(512, seed=0).batch(32)).findings}
    assert names == {"stale_statistics", "worse_in_inference"}


def test_weight_decay_that_leaves_the_scales_alone(digits):
    model = networks.mlp()
    optimizer = surgery.exclude_from_weight_decay(keras.optimizers.AdamW(3e-3, weight_decay=8.0), model)
    model.compile(optimizer, networks.loss())
    healthy(model, digits)


def test_a_convolution_with_batches_of_many_values(digits):
    x, y = digits
    keras.utils.set_random_seed(1)
    row = [keras.layers.Conv2D(12, 3, use_bias=False), BatchNorm(momentum=0.9), keras.layers.ReLU()]
    row += [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(10)]
    model = keras.Sequential([keras.Input((8, 8, 1)), *row])
    model.compile(keras.optimizers.Adam(0.01), networks.loss())
    images = x.reshape(-1, 8, 8, 1)
    model.fit(images, y, epochs=4, verbose=0)
    healthy(model, (images, y))
