"""The stages of image networks: which tensors they are, and that a detector trains on them."""

import keras
import numpy as np
import pytest

from bn_keras.models import build
from bn_keras.models.features import features


def same(output, model, layer):
    """Whether an output is that of a layer of a model: compared by what both give."""
    images = np.random.default_rng(0).normal(size=(1, *model.input.shape[1:])).astype("float32")
    expected = keras.Model(model.input, model.get_layer(layer).output)(images)
    return np.array_equal(features(model)(images)[output], expected)


def shapes(model):
    return {name: output.shape[1:] for name, output in features(model).output.items()}


def pyramid(backbone, filters=8):
    """A feature pyramid on the last three stages: 1×1 convolutions, added from the smallest size to the largest."""
    names = list(backbone.output)[-3:]
    sides = [keras.layers.Conv2D(filters, 1)(backbone.output[name]) for name in names]
    levels = [sides[-1]]
    for side in sides[-2::-1]:
        larger = keras.layers.UpSampling2D(2)(levels[0])
        levels.insert(0, keras.layers.Conv2D(filters, 3, padding="same")(keras.layers.Add()([side, larger])))
    return keras.Model(backbone.input, levels)


@pytest.mark.slow
@pytest.mark.sample(1)
@pytest.mark.parametrize(
    "backbone",
    [
        lambda: build("resnet20", width=0.25),
        lambda: keras.applications.ResNet50(weights=None, include_top=False, input_shape=(64, 64, 3)),
    ],
)
def test_a_feature_pyramid_takes_a_training_step(backbone, random):
    model = backbone()
    detector = pyramid(features(model))
    size = model.input.shape[1]
    images = random.normal(size=(2, size, size, 3))
    targets = [np.ones((2, *level.shape[1:])) for level in detector.outputs]
    kernel = next(weight for weight in model.trainable_weights if "kernel" in weight.name)
    before = kernel.numpy()
    detector.compile("sgd", ["mse"] * 3, run_eagerly=True)
    assert np.isfinite(detector.train_on_batch(images, targets)).all()
    assert not np.array_equal(kernel.numpy(), before)


@pytest.mark.slow
def test_the_stages_of_resnet50_are_the_ends_of_its_blocks():
    model = keras.applications.ResNet50(weights=None, input_shape=(64, 64, 3))
    ends = {
        2: "conv1_relu",
        4: "conv2_block3_out",
        8: "conv3_block4_out",
        16: "conv4_block6_out",
        32: "conv5_block3_out",
    }
    assert list(features(model).output) == [f"stride_{stride}" for stride in ends]
    for stride, layer in ends.items():
        assert same(f"stride_{stride}", model, layer)


@pytest.mark.exhaustive  # NASNet has 700 layers
@pytest.mark.slow
def test_cells_of_two_tensors_give_their_last_concatenation():
    model = keras.applications.NASNetMobile(weights=None, input_shape=(64, 64, 3))
    assert list(features(model).output) == [f"stride_{2**i}" for i in range(1, 6)]
    assert same("stride_8", model, "normal_concat_3")
    assert same("stride_16", model, "normal_concat_8")


@pytest.mark.slow
def test_squeeze_and_excitation_is_no_stage():
    model = keras.applications.MobileNetV3Small(weights=None, input_shape=(64, 64, 3))
    assert {name: shape[:2] for name, shape in shapes(model).items()} == {
        f"stride_{2**i}": (64 // 2**i, 64 // 2**i) for i in range(1, 6)
    }


@pytest.mark.slow
def test_convolutions_without_padding_keep_the_strides_of_the_layers():
    model = keras.applications.InceptionV3(weights=None, include_top=False, input_shape=(139, 139, 3))
    assert [shape[0] for shape in shapes(model).values()] == [67, 31, 15, 7, 3]
    assert list(shapes(model)) == [f"stride_{2**i}" for i in range(1, 6)]


def test_a_stride_is_the_product_of_the_strides_of_the_layers():
    images = x = keras.Input((30, 20, 3))
    for strides in (3, 1, 5):
        x = keras.layers.Conv2D(2, 3, strides=strides, padding="same")(x)
    model = keras.Model(images, keras.layers.UpSampling2D(2)(x))
    assert shapes(model) == {"stride_3": (10, 7, 2), "stride_7.5": (4, 4, 2), "stride_15": (2, 2, 2)}


@pytest.mark.slow
def test_a_stride_counts_where_the_image_is_one_pixel_high():
    expected = {1: (1, 16, 4), 2: (1, 8, 8), 4: (1, 4, 16)}
    found = shapes(build("resnet20", width=0.25, input_shape=(1, 16, 3)))
    assert found == {f"stride_{stride}": shape for stride, shape in expected.items()}
    assert list(shapes(build("resnet20", width=0.25, input_shape=(2, 2, 3)))) == ["stride_1", "stride_2", "stride_4"]


def test_a_layer_that_is_called_twice_is_no_stage():
    images = keras.Input((8, 8, 2))
    twice = keras.layers.Conv2D(2, 3, padding="same")
    down = keras.layers.MaxPooling2D(2)(twice(twice(images)))
    assert shapes(keras.Model(images, keras.layers.Conv2D(4, 1)(down))) == {"stride_2": (4, 4, 4)}


@pytest.mark.slow
def test_preprocessing_is_no_stage_and_is_kept(random):
    preprocessing = keras.Sequential([keras.layers.Rescaling(2.0), keras.layers.Rescaling(1.0, offset=-1.0)])
    model = build("resnet20", width=0.25, preprocessing=preprocessing)
    plain = build("resnet20", width=0.25)
    plain.set_weights(model.get_weights())
    images = random.normal(size=(1, 32, 32, 3)).astype("float32")
    expected, found = features(plain)(2 * images - 1), features(model)(images)
    assert list(found) == ["stride_1", "stride_2", "stride_4"]
    for name in found:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-5)


def nested():
    images = keras.Input((32, 32, 3))
    return keras.Model(images, keras.layers.Dense(2)(build("resnet20")(images)))


def sized(*shape):
    images = keras.Input(shape)
    return keras.Model(images, keras.layers.Conv2D(2, 3)(images))


@pytest.mark.parametrize(
    ("model", "error", "words"),
    [
        (lambda: 3, TypeError, "must be a functional keras model. Received: 3"),
        (lambda: keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(2, 3)]), TypeError, "functional"),
        (lambda: build("transformer_small"), ValueError, "must take images .*'transformer_small'"),
        (lambda: sized(None, None, 3), ValueError, "of a fixed size.*Build the model with a fixed input_shape"),
        (lambda: build("mlp_sigmoid"), ValueError, "must be a network of convolutions. Received: 'mlp_sigmoid'"),
        (nested, ValueError, r"holds the model 'resnet20'.*Call features\(model.get_layer\('resnet20'\)\)"),
    ],
)
def test_models_without_stages_are_refused(model, error, words):
    with pytest.raises(error, match=words):
        features(model())
