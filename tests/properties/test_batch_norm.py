"""`BatchNorm` against the reference: random shapes, axes, masks, offsets, scales and settings, for each dtype."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from bn_keras import BatchNorm
from tests import reference
from tests.properties import strategies
from tests.properties.batch_norm_truth import training_step
from tests.properties.counts import check_count
from tests.properties.running import built, eagerly, step
from tests.properties.sizes import sizes_of_inference
from tests.properties.tolerances import check

pytestmark = pytest.mark.slow

COMPILED_SHAPES = [((5, 3), -1), ((4, 1, 6), 1), ((3, 2, 4, 2), [-1, 1]), ((2, 3, 2, 1, 4), 4)]

every_dtype = pytest.mark.parametrize("dtype", strategies.DTYPES)
momenta = st.sampled_from([0.0, 0.5, 0.99, 1.0])


def training_cases(*arguments, **settings):
    """Those with more than one value per channel: one is refused."""
    return strategies.cases(*arguments, **settings).filter(lambda case: any(case.shape[i] > 1 for i in case.others))


def training_agrees(case, name="BatchNorm", mask=None, fused=None, kind=None, **options):
    """One training step of a layer with these options, and every number that it leaves."""
    options = {"momentum": 0.5, "unbiased": True, "virtual_batch_size": None} | options
    layer = BatchNorm(case.axis, epsilon=case.epsilon, dtype=case.dtype, fused=fused, **options)
    weights = built(layer, case)
    x, dy = strategies.input_and_gradient(case, case.axes)
    ours = step(layer, x, dy, training=True, mask=None if mask is None else tf.constant(mask))
    ours |= {"moving mean": layer.moving_mean, "moving variance": layer.moving_variance}
    if mask is not None:
        mask = mask.reshape(mask.shape + (1,) * (x.ndim - mask.ndim))
    truths = training_step(x.astype(np.float64), dy.astype(np.float64), weights, case, mask, options)
    check(name, case, ours, truths, kind)


@pytest.mark.sample(2)
@every_dtype
@settings(max_examples=90)
@given(data=st.data(), momentum=momenta, unbiased=st.booleans(), fused=st.sampled_from([None, False]))
def test_training(dtype, data, **options):
    case = data.draw(training_cases(dtype))
    with eagerly():
        training_agrees(case, **options)


@pytest.mark.sample(2)
@every_dtype
@settings(max_examples=100)
@given(data=st.data(), momentum=momenta, unbiased=st.booleans())
def test_training_with_a_mask(dtype, data, **options):
    case = data.draw(training_cases(dtype))
    mask = data.draw(strategies.masks(case.shape))
    with eagerly():
        training_agrees(case, "BatchNorm, mask", mask, **options)


@pytest.mark.sample(2)
@every_dtype
@settings(max_examples=40)
@given(data=st.data(), virtual_batch_size=st.integers(2, 7), momentum=momenta, unbiased=st.booleans())
def test_training_a_few_examples_at_a_time(dtype, data, **options):
    case = data.draw(training_cases(dtype, axes=strategies.axes_without_batch))
    mask = data.draw(st.none() | strategies.masks(case.shape))
    with eagerly():
        training_agrees(case, "BatchNorm, virtual batches", mask, **options)


@pytest.mark.sample(2)
@every_dtype
@settings(max_examples=40)
@given(data=st.data(), shape_and_axis=st.sampled_from(COMPILED_SHAPES), masked=st.booleans())
def test_compiled_training(dtype, data, shape_and_axis, masked):
    """A trace for each of the shapes, with and without a mask of one size."""
    case = data.draw(training_cases(dtype)).with_shape(*shape_and_axis, epsilon=1e-3)
    mask = case.random().uniform(size=case.shape[:-1]) < 0.7 if masked else None
    training_agrees(case, "BatchNorm, compiled", mask)


@pytest.mark.sample(2)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
@settings(max_examples=30)
@given(data=st.data(), momentum=momenta, unbiased=st.booleans())
def test_training_with_the_fused_kernel(dtype, data, **options):
    """What the layer takes the kernel for: 65,536 elements, channel axes side by side, no float64."""
    shapes, axes = strategies.large_shapes(), strategies.neighbouring_axes
    case = data.draw(training_cases(dtype, shapes, axes))
    with eagerly():
        training_agrees(case, kind="fused", **options)


@pytest.mark.sample(2)
@every_dtype
@settings(max_examples=12)
@given(data=st.data())
def test_training_on_large_inputs(dtype, data):
    case = data.draw(training_cases(dtype, strategies.large_shapes()))
    with eagerly():
        training_agrees(case, kind="large", fused=False)


@pytest.mark.sample(2)
@every_dtype
@settings(max_examples=60)
@given(data=st.data())
def test_inference(dtype, data):
    case = data.draw(strategies.cases(dtype))
    layer = BatchNorm(case.axis, epsilon=case.epsilon, dtype=dtype)
    built(layer, case)
    deviation = case.scale * case.random().uniform(0.5, 2, layer.moving_variance.shape)
    layer.moving_mean.assign(case.offset * deviation)
    layer.moving_variance.assign(deviation**2)
    weights = [each.astype(np.float64) for each in layer.get_weights()]
    x = strategies.input_and_gradient(case, case.axes)[0]
    with eagerly():
        y = layer(tf.convert_to_tensor(x))
    x, axes = x.astype(np.float64), list(case.axes)
    truth = reference.batch_norm_inference(x, *weights, axes, case.epsilon)
    size = sizes_of_inference(x, *(reference.per_channel(each, x.ndim, axes) for each in weights), case.epsilon)
    check("BatchNorm", case, {"inference": y}, {"inference": (truth, size)})


@pytest.mark.exhaustive  # the default leaves half of the dtypes out
def test_there_were_enough_cases(request):
    """After all others of this file."""
    check_count(request, ("BatchNorm",), at_least=1_240)
