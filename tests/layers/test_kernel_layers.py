"""`WeightNorm` and `WeightStandardization` around every linear layer of Keras."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from bn_keras import WeightNorm, WeightStandardization
from tests import reference
from tests.surgery.models import randomize

layers = keras.layers
# A layer, the shape of an example, and by kernel the axes of the fan-in.
LINEAR = {
    "dense": (layers.Dense(4, activation="tanh"), (3,), {"kernel": (0,)}),
    "einsum": (layers.EinsumDense("abc,cde->abde", (None, 2, 4), bias_axes="de"), (5, 3), {"kernel": (0,)}),
    "einsum_of_batches": (layers.EinsumDense("...bc,bcd->...bd", (2, 4)), (2, 3), {"kernel": (1,)}),
    "conv1d": (layers.Conv1D(4, 3, padding="causal"), (9, 3), {"kernel": (0, 1)}),
    "conv2d": (layers.Conv2D(6, 3, groups=2, use_bias=False), (7, 7, 4), {"kernel": (0, 1, 2)}),
    "conv3d": (layers.Conv3D(4, 2), (4, 4, 4, 3), {"kernel": (0, 1, 2, 3)}),
    "conv1d_transposed": (layers.Conv1DTranspose(4, 3), (5, 3), {"kernel": (0, 2)}),
    "conv2d_transposed": (layers.Conv2DTranspose(4, 3), (5, 5, 3), {"kernel": (0, 1, 3)}),
    "conv3d_transposed": (layers.Conv3DTranspose(4, 2), (3, 3, 3, 3), {"kernel": (0, 1, 2, 4)}),
    "depthwise1d": (layers.DepthwiseConv1D(3, depth_multiplier=2), (7, 3), {"kernel": (0,)}),
    "depthwise2d": (layers.DepthwiseConv2D(3), (7, 7, 3), {"kernel": (0, 1)}),
    "separable1d": (layers.SeparableConv1D(4, 3), (7, 3), {"depthwise_kernel": (0,), "pointwise_kernel": (0, 1)}),
    "separable2d": (
        layers.SeparableConv2D(4, 3),
        (7, 7, 3),
        {"depthwise_kernel": (0, 1), "pointwise_kernel": (0, 1, 2)},
    ),
}


def copy_of(layer):
    return type(layer).from_config(layer.get_config())


def plain_with(layer, shape, kernels):
    """A layer like the one in a wrapper, with other kernels and the same bias."""
    plain = copy_of(layer)
    plain.build((None, *shape))
    for variable in plain.variables:
        variable.assign(kernels.get(variable.name, getattr(layer, variable.name)))
    return plain


def broadcast(values, kernel, axes):
    return np.reshape(values, [1 if i in axes else size for i, size in enumerate(kernel.shape)])


@pytest.mark.parametrize("name", LINEAR)
def test_weight_norm_calls_the_layer_with_the_kernel_of_the_equation(random, name):
    layer, shape, fan_in = LINEAR[name]
    wrapper = WeightNorm(copy_of(layer), epsilon=0.1)
    x = tf.constant(random.normal(size=(2, *shape)), tf.float32)
    first = wrapper(x)
    np.testing.assert_allclose(first, plain_with(wrapper.layer, shape, {})(x), rtol=1e-4, atol=1e-5)
    randomize(wrapper, random)
    kernels = {}
    for kernel, axes in fan_in.items():
        v, g = getattr(wrapper.layer, kernel).numpy(), getattr(wrapper, kernel.replace("kernel", "g")).numpy()
        kernels[kernel] = reference.weight_norm(np.float64(v), broadcast(g, v, axes), axes, 0.1)
    np.testing.assert_allclose(wrapper(x), plain_with(wrapper.layer, shape, kernels)(x), rtol=1e-4, atol=1e-4)
    assert np.abs(wrapper(x) - first).max() > 0.1
    assert wrapper.compute_output_shape(x.shape) == wrapper.layer.compute_output_shape(x.shape)


@pytest.mark.parametrize("name", LINEAR)
def test_weight_standardization_calls_the_layer_with_the_kernel_of_the_equation(random, name):
    layer, shape, fan_in = LINEAR[name]
    wrapper = WeightStandardization(copy_of(layer), epsilon=0.1, scaled=True, use_gain=True)
    x = tf.constant(random.normal(size=(2, *shape)), tf.float32)
    wrapper(x)
    randomize(wrapper, random)
    kernels = {}
    for kernel, axes in fan_in.items():
        v, gain = getattr(wrapper.layer, kernel).numpy(), getattr(wrapper, kernel.replace("kernel", "gain")).numpy()
        kernels[kernel] = reference.weight_standardization(np.float64(v), broadcast(gain, v, axes), axes, 0.1, True)
    np.testing.assert_allclose(wrapper(x), plain_with(wrapper.layer, shape, kernels)(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("make", [WeightNorm, WeightStandardization])
def test_gradients_reach_v_and_the_kernel_itself_stays(random, make):
    wrapper = make(layers.Dense(3))
    x = tf.constant(random.normal(size=(4, 5)), tf.float32)
    wrapper(x)
    before = wrapper.layer.kernel.numpy()
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(wrapper(x) ** 2)
    gradients = tape.gradient(loss, [each.value for each in wrapper.trainable_variables])
    assert all(np.abs(each).max() > 0.01 for each in gradients)
    dv = gradients[[each.name for each in wrapper.trainable_variables].index("kernel")]
    along = np.abs(tf.reduce_sum(dv * before, 0)).max()  # the norm of v changes nothing, but for ε
    assert along < 1e-3 * np.linalg.norm(dv) * np.linalg.norm(before)
    np.testing.assert_array_equal(wrapper.layer.kernel, before)


def test_a_trained_layer_computes_what_it_did(random):
    layer = layers.Conv2D(4, 3)
    x = tf.constant(random.normal(size=(2, 7, 7, 3)), tf.float32)
    layer(x)
    randomize(layer, random)
    before = layer(x)
    np.testing.assert_allclose(WeightNorm(layer)(x), before, rtol=1e-4, atol=1e-5)


def test_a_scope_around_it_still_counts(random):
    """`stateless_call` of a model gives every variable a value, the bias and v too."""
    model = keras.Sequential([keras.Input((3,)), WeightNorm(layers.Dense(2))])
    x = tf.constant(random.normal(size=(4, 3)), tf.float32)
    values = [random.uniform(0.5, 2, each.shape).astype("float32") for each in model.trainable_variables]
    found, _ = model.stateless_call(values, [], x)
    for variable, value in zip(model.trainable_variables, values, strict=True):
        variable.assign(value)
    np.testing.assert_allclose(found, model(x), rtol=1e-5)


def test_a_regularizer_sees_v_and_the_wrapper_has_that_of_activities(random):
    x = tf.constant(random.normal(size=(4, 3)), tf.float32)
    wrapper = WeightNorm(layers.Dense(2, kernel_regularizer=keras.regularizers.L2(1.0)), activity_regularizer="l2")
    y = wrapper(x)
    wrapper.g.assign([5.0, 7.0])
    penalty, activity = float(tf.reduce_sum(wrapper.layer.kernel**2)), 0.01 * float(tf.reduce_sum(y**2)) / 4
    np.testing.assert_allclose(sum(wrapper.losses), penalty + activity, rtol=1e-5)


def test_masks_pass_where_the_layer_passes_them():
    model = keras.Sequential([keras.Input((3,)), layers.Embedding(5, 4, mask_zero=True), WeightNorm(layers.Dense(2))])
    tokens = tf.constant([[1, 2, 0]])
    np.testing.assert_array_equal(model(tokens)._keras_mask, [[True, True, False]])


def lora():
    layer = layers.Dense(3)
    layer.build((None, 4))
    layer.enable_lora(2)
    return layer


def quantized():
    layer = layers.Dense(4)
    layer.build((None, 4))
    layer.quantize("int8")
    return layer


@pytest.mark.parametrize("make", [WeightNorm, WeightStandardization])
@pytest.mark.parametrize(
    ("layer", "error", "words"),
    [
        (lambda: 3, TypeError, "`layer` must be one of Dense.*Received: layer=3"),
        (lambda: layers.LSTM(3), TypeError, "`layer` must be one of Dense.*Wrap each linear layer"),
        (lambda: layers.Dense(3, activity_regularizer="l2"), ValueError, "Pass it to the wrapper"),
        (lora, ValueError, "has LoRA weights.*surgery.fold"),
        (quantized, ValueError, "is quantized.*surgery.fold"),
    ],
)
def test_what_is_refused(make, layer, error, words):
    with pytest.raises(error, match=words):
        make(layer())


def test_what_is_refused_when_it_is_built_or_called():
    with pytest.raises(ValueError, match="an output channel of zeros: zeros have no direction"):
        WeightNorm(layers.Dense(3, kernel_initializer="zeros")).build((None, 4))
    with pytest.raises(ValueError, match=r"the kernel of 'one' of shape \(1, 3\): each output has one weight"):
        WeightStandardization(layers.Dense(3, name="one")).build((None, 1))
    with pytest.raises(ValueError, match="`dtype` must be that of the wrapped layer.*float64"):
        WeightNorm(layers.Dense(3, dtype="float64"), dtype="float16")
    wrapper = WeightNorm(layers.Dense(4))
    wrapper.build((None, 4))
    wrapper.layer.enable_lora(2)
    with pytest.raises(ValueError, match="has LoRA weights"):
        wrapper(tf.ones((2, 4)))


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("within", [lambda wrapper: wrapper, lambda wrapper: keras.Sequential([wrapper])])
def test_v_is_read_as_it_is_stored(random, policy, within):
    """Its mean is 1000 deviations, which half precision would lose."""
    wrapper = WeightStandardization(layers.Dense(4, dtype=policy))
    wrapper.build((None, 64))
    wrapper.layer.kernel.assign(1 + 1e-3 * random.normal(size=(64, 4)))
    x = tf.cast(random.normal(size=(8, 64)), wrapper.compute_dtype)
    kernel = reference.weight_standardization(np.float64(wrapper.layer.kernel.numpy()), 1.0, (0,), 1e-6, False)
    found, expected = np.float64(within(wrapper)(x)), np.float64(x) @ kernel
    np.testing.assert_allclose(found, expected, atol=0.02 * np.abs(expected).max())
