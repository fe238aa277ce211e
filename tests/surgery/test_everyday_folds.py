"""Folding, recalibration and weight decay in the cases where they were silently wrong."""

import keras
import numpy as np
import pytest

from bn_keras import BatchNorm, surgery
from bn_keras.surgery.reports import report
from tests.surgery.everyday import (
    CHANGES,
    KERAS_BATCH_NORM,
    assert_copy,
    assert_outputs,
    assert_saved,
    kinds_inside,
    outputs_of,
    randomize,
)

layers = keras.layers


def kept(model):
    return [row.layer for row in report(model).of("kept")]


@pytest.mark.slow
@pytest.mark.parametrize("policy", [None, "float32", "float64", "mixed_bfloat16"])
def test_a_fold_at_the_end_is_saved_cloned_and_folded_again(policy, random, tmp_path):
    dtype = policy and keras.DTypePolicy(policy)
    x = keras.Input((3,), dtype="float64" if policy == "float64" else "float32")
    y = KERAS_BATCH_NORM(dtype=dtype, name="norm")(layers.Dense(4, dtype=dtype, name="linear")(x))
    model = randomize(keras.Model(x, y, name="ends_in_norm"), random)
    x = random.normal(size=(5, 3)).astype(x.dtype)
    folded = surgery.fold(model)
    tolerance = 0.05 if policy == "mixed_bfloat16" else 1e-5
    assert_outputs(outputs_of(folded, x), outputs_of(model, x), tolerance)
    assert not kinds_inside(folded)["BatchNormalization"]
    assert folded.output_names == model.output_names == ["norm"]
    assert folded.outputs[0].dtype == model.outputs[0].dtype
    assert_saved(folded, x, tmp_path)
    clone = keras.models.clone_model(folded)
    clone.set_weights(folded.get_weights())
    for copy in (clone, surgery.fold(folded), surgery.from_keras(folded)):
        assert_outputs(outputs_of(copy, x), outputs_of(folded, x), 1e-6)


CHANNELS_FIRST = {
    "Conv1D": ((3, 4), lambda bias: layers.Conv1D(4, 3, padding="same", use_bias=bias, data_format="channels_first")),
    "Conv2D": (
        (3, 5, 4),
        lambda bias: layers.Conv2D(4, 3, padding="same", use_bias=bias, data_format="channels_first"),
    ),
    "Conv3D": (
        (3, 5, 2, 4),
        lambda bias: layers.Conv3D(4, 3, padding="same", use_bias=bias, data_format="channels_first"),
    ),
    "DepthwiseConv2D": (
        (4, 5, 4),
        lambda bias: layers.DepthwiseConv2D(3, padding="same", use_bias=bias, data_format="channels_first"),
    ),
    "SeparableConv2D": (
        (3, 5, 4),
        lambda bias: layers.SeparableConv2D(4, 3, padding="same", use_bias=bias, data_format="channels_first"),
    ),
    "Conv2DTranspose": (
        (3, 5, 4),
        lambda bias: layers.Conv2DTranspose(4, 3, padding="same", use_bias=bias, data_format="channels_first"),
    ),
}


@pytest.mark.slow
@pytest.mark.sample(4)
@pytest.mark.parametrize("bias", [False, True], ids=["bias_free", "with_bias"])
@pytest.mark.parametrize("name", CHANNELS_FIRST)
def test_a_channels_first_convolution_as_wide_as_it_has_filters(name, bias, random, tmp_path):
    """Keras adds the bias along the width there, so the offset of the batch norm has no place in it."""
    shape, make = CHANNELS_FIRST[name]
    x = keras.Input(shape)
    model = keras.Model(x, layers.ReLU()(KERAS_BATCH_NORM(axis=1, name="norm")(make(bias)(x))), name="channels_first")
    randomize(model, random)
    x = random.normal(size=(2, *shape)).astype("float32")
    folded = surgery.fold(model)
    assert_outputs(outputs_of(folded, x), outputs_of(model, x))
    assert len(report(folded).rows) == 1
    assert_saved(folded, x, tmp_path)


def inner_called(**arguments):
    x = keras.Input((4, 4, 3))
    y = layers.Conv2D(4, 3, name="conv")(x)
    inner = keras.Model(x, keras.ops.relu(KERAS_BATCH_NORM(name="norm")(y)), name="inner")
    x = keras.Input((4, 4, 3))
    return keras.Model(x, layers.Dense(2)(layers.Flatten()(inner(x, **arguments))), name="outer")


def row_called(**arguments):
    inner = keras.Sequential([layers.Conv2D(4, 3), KERAS_BATCH_NORM(name="norm"), layers.ReLU()], name="inner")
    x = keras.Input((4, 4, 3))
    return keras.Model(x, layers.Dense(2)(layers.Flatten()(inner(x, **arguments))), name="outer")


@pytest.mark.parametrize("build", [inner_called, row_called])
def test_a_model_that_is_called_in_training_keeps_its_batch_norm(build, random):
    """`predict` overrides the argument of the inner call; `model(x)` does not."""
    model = randomize(build(training=True), random)
    x = random.normal(2, 3, (6, 4, 4, 3)).astype("float32")
    statistics = model.get_weights()
    expected = outputs_of(model, x, training=None)
    model.set_weights(statistics)  # which the call has moved
    folded = surgery.fold(model)
    assert_outputs(outputs_of(folded, x, training=None), expected)
    assert kept(folded) == ["norm"]
    assert "training" in report(folded).of("kept")[0].why


@pytest.mark.slow
def test_a_batch_norm_that_is_called_by_the_name_of_its_argument(random, tmp_path):
    x = keras.Input((3,))
    y = layers.ReLU()(KERAS_BATCH_NORM(name="first")(inputs=layers.Dense(4)(x)))
    model = randomize(
        keras.Model(x, KERAS_BATCH_NORM(name="last")(inputs=layers.Dense(2)(inputs=y)), name="by_name"), random
    )
    x = random.normal(size=(5, 3)).astype("float32")
    for change in CHANGES:
        copy = CHANGES[change](model)
        assert_copy(model, copy, x, folded=change == "fold")
        assert_saved(copy, x, tmp_path)
    assert not kinds_inside(surgery.fold(model))["BatchNormalization"]
    recalibrated = surgery.recalibrate(surgery.from_keras(model), x)
    np.testing.assert_allclose(recalibrated.get_layer("first").moving_mean, mean_before(model, "first", x), rtol=1e-4)


def mean_before(model, name, x):
    """The mean of what comes to a layer, in inference."""
    source = keras.Model(model.input, model.get_layer(name).input)
    return outputs_of(source, x)[0].mean(0)


def quantized(random):
    x = keras.Input((8,))
    dense = layers.Dense(8, name="linear")
    y = layers.Dense(8, name="out")(keras.ops.relu(KERAS_BATCH_NORM(name="norm")(dense(x))))
    model = randomize(keras.Model(x, KERAS_BATCH_NORM(name="last")(y), name="float8"), random)
    dense.quantize("float8")
    x = random.normal(size=(4, 8)).astype("float32")
    model(x, training=True)  # sets the scales of the quantized layer
    return model, x


@pytest.mark.slow
def test_a_float8_dense_layer_keeps_its_meaning(random):
    """A batch norm after it stays, as a kernel that is scaled is quantized to other values."""
    model, x = quantized(random)
    for change in CHANGES:
        copy = CHANGES[change](model)
        assert_copy(model, copy, x, folded=change == "fold")
        assert copy.get_layer("linear").quantization_mode == "float8"
    folded = surgery.fold(model)
    rows = {row.layer: row.outcome for row in report(folded).rows}
    assert rows["norm"] in ("kept", "mapped")
    assert rows["last"] == "folded"


def two_norms(norm):
    row = [layers.Dense(6, name="linear"), norm(name="first"), layers.ReLU(), layers.Dense(4), norm(name="deeper")]
    return keras.Sequential([keras.Input((3,)), *row, layers.Dense(2)])


@pytest.mark.slow
@pytest.mark.parametrize("norm", [KERAS_BATCH_NORM, BatchNorm], ids=["theirs", "ours"])
def test_recalibration_in_one_pass_over_batches_of_one(norm, random):
    """A batch of one has no variance, so the deeper norm sees a constant: right or refused, and right in two passes."""
    model = randomize(two_norms(norm), random)
    x = random.normal(size=(64, 3)).astype("float32")
    batches = [x[i : i + 1] for i in range(len(x))]
    expected = surgery.recalibrate(model, x, sequential=True)
    try:
        copy, refusal = surgery.recalibrate(model, batches), None
    except ValueError as error:
        copy, refusal = None, str(error)
    if refusal is None:
        assert_statistics(copy, expected)
    else:
        assert "deeper" in refusal
        assert "sequential=True" in refusal
    assert_statistics(surgery.recalibrate(model, batches, sequential=True), expected)


def assert_statistics(found, expected):
    for name in ("first", "deeper"):
        one, other = found.get_layer(name), expected.get_layer(name)
        np.testing.assert_allclose(one.moving_mean, other.moving_mean, rtol=1e-3, atol=1e-5, err_msg=name)
        np.testing.assert_allclose(one.moving_variance, other.moving_variance, rtol=1e-3, err_msg=name)


def small(norm, name):
    row = [layers.Dense(3, name=f"{name}_dense"), norm(name=f"{name}_norm"), layers.Dense(2, name=f"{name}_out")]
    return keras.Sequential([keras.Input((3,)), *row], name=name)


def decayed(optimizer, variables, random):
    """The variables that decay moves, by layer and name: a step without a gradient moves nothing else."""
    for variable in variables:
        variable.assign(random.uniform(0.5, 1.5, variable.shape))
    before = [variable.numpy() for variable in variables]
    optimizer.build(variables)
    optimizer.apply([keras.ops.zeros(variable.shape) for variable in variables], variables)
    return {named(each) for each, was in zip(variables, before, strict=True) if np.any(each.numpy() != was)}


def named(variable):
    return "/".join(variable.path.split("/")[-2:])


def adam():
    return keras.optimizers.AdamW(0.1, weight_decay=0.5)


def test_a_second_exclusion_keeps_the_first(random):
    generator, critic, optimizer = small(BatchNorm, "generator"), small(KERAS_BATCH_NORM, "critic"), adam()
    for model in (generator, critic):
        surgery.exclude_from_weight_decay(optimizer, model)
    surgery.exclude_from_weight_decay(optimizer, critic, biases=True)
    variables = generator.trainable_variables + critic.trainable_variables
    spared = {named(each) for each in variables} - decayed(optimizer, variables, random)
    assert spared == {
        "generator_norm/gamma", "generator_norm/beta", "critic_norm/gamma", "critic_norm/beta",
        "critic_dense/bias", "critic_out/bias",
    }  # fmt: skip


def test_an_exclusion_keeps_earlier_names_and_variables(random):
    model, optimizer = small(BatchNorm, "net"), adam()
    optimizer.exclude_from_weight_decay(var_list=[model.get_layer("net_dense").bias], var_names=["net_out/kernel"])
    surgery.exclude_from_weight_decay(optimizer, model)
    assert decayed(optimizer, model.trainable_variables, random) == {"net_dense/kernel", "net_out/bias"}
