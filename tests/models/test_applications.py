"""The networks of `keras.applications`: equal to those of Keras, their limits, and their ImageNet weights."""

import http.server
import inspect
import shutil
import sys
import threading
import time

import keras
import numpy as np
import pytest

from bn_keras import surgery
from bn_keras.models import applications, build, imagenet, list_presets, preset
from bn_keras.models.applications import FAMILY_LIST

# The functions of Keras take the input that is passed in a list.
pytestmark = pytest.mark.filterwarnings("ignore:The structure of `inputs`")

MEMBERS = {function: family for family in FAMILY_LIST for function in family.sizes}
# A member of each family. NASNet and Inception-ResNet-v2 have 700 layers each: they are only built.
SMALL = [
    "ResNet50", "ResNet50V2", "InceptionV3", "Xception", "MobileNet", "MobileNetV2", "MobileNetV3Small",
    "DenseNet121", "EfficientNetB0", "EfficientNetV2B0", "ConvNeXtTiny",
]  # fmt: skip


def randomize(model, random):
    """Gives a model weights as after a training: scales and offsets that are not 1 and 0, statistics of images."""
    for variable in model.variables:
        shape = tuple(variable.shape)
        if variable.name in ("gamma", "variance"):
            variable.assign(random.uniform(0.5, 1.5, shape))
        elif variable.name in ("beta", "bias", "mean"):
            variable.assign(random.normal(0, 0.1, shape))
    norms = [layer for layer in model.layers if hasattr(layer, "moving_mean")]
    momenta = [layer.momentum for layer in norms]
    for layer in norms:
        layer.momentum = 0.0
    model([images(random, model.inputs[0].shape[1], 8) / 127.5 - 1], training=True)
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.momentum = momentum
    return model


def assert_equal(outputs, expected):
    """Equal up to rounding, and not alike for all images: a norm with statistics of its own would hide the input."""
    size = np.abs(expected).max()
    assert np.ptp(expected, axis=0).max() > 0.1 * size
    np.testing.assert_allclose(outputs, expected, rtol=1e-3, atol=1e-3 * size)


@pytest.fixture
def trained(monkeypatch, random):
    """Makes the function of Keras of a name give its models weights as after a training; returns the models made."""
    made = []

    def replace(function):
        original = getattr(keras.applications, function)

        def build_trained(**arguments):
            made.append(randomize(original(**arguments), random))
            return made[-1]

        build_trained.__signature__ = inspect.signature(original)
        monkeypatch.setattr(keras.applications, function, build_trained)
        return made

    return replace


def images(random, size, count=4):
    return random.uniform(0, 255, (count, size, size, 3)).astype("float32")


def test_every_function_of_keras_with_a_norm_is_a_preset():
    functions = {name for name in dir(keras.applications) if name[0].isupper() and not name.startswith("VGG")}
    assert set(MEMBERS) == functions
    assert {name.lower() for name in functions} <= set(list_presets())
    for function, family in MEMBERS.items():
        arguments = inspect.signature(getattr(keras.applications, function)).parameters
        assert {"weights", "input_tensor", "classes", "classifier_activation"} <= set(arguments)
        assert ("alpha" in arguments) == bool(family.widths)
        assert preset(function.lower()).classes == arguments["classes"].default


@pytest.mark.sample(2)
@pytest.mark.slow
@pytest.mark.parametrize("function", SMALL)
def test_outputs_are_those_of_keras(function, trained, random):
    made, size = trained(function), MEMBERS[function].smallest
    same = "layer" if function.startswith("ConvNeXt") else "batch"
    model = build(function.lower(), norm=same, classes=3, input_shape=(size, size, 3))
    x = images(random, size) / 255
    inside = {type(layer) for layer in made[0].layers} & {keras.layers.Rescaling}
    assert bool(inside) == (function == "EfficientNetB0")  # which has no argument for it
    if inside:
        keras_normalization = next(layer for layer in made[0].layers if isinstance(layer, keras.layers.Normalization))
        standardized = (x - keras_normalization.mean.numpy()) / np.sqrt(keras_normalization.variance.numpy())
        expected, outputs = made[0]([x * 255]).numpy(), model(standardized)
    else:
        expected, outputs = made[0]([x]).numpy(), model(x)
    assert_equal(outputs, expected)
    assert model.name == function.lower()
    assert not [layer for layer in model.layers if type(layer) in surgery.convert.OUR_CLASS_OF]


@pytest.mark.slow
def test_a_training_step_moves_the_statistics_as_keras_does(trained, random):
    made = trained("ResNet50")
    model = build("resnet50", classes=3, input_shape=(64, 64, 3))
    x = images(random, 64) / 255
    before = statistics_of(model)
    model(x, training=True)
    made[0]([x], training=True)
    after, expected = statistics_of(model), statistics_of(made[0])
    assert len(after) == 2 * 53
    for old, new, theirs in zip(before, after, expected, strict=True):
        assert not np.array_equal(old, new)
        np.testing.assert_allclose(new, theirs, rtol=1e-3, atol=1e-4)


def statistics_of(model):
    return [variable.numpy() for variable in model.variables if variable.name.startswith("moving_")]


@pytest.mark.exhaustive  # tests of surgery convert other models
@pytest.mark.slow
def test_the_weights_of_a_converted_model_load_into_keras(random, tmp_path):
    model = randomize(build("resnet50", classes=3, input_shape=(32, 32, 3)), random)
    converted = surgery.to_keras(model, report=None)
    theirs = keras.applications.ResNet50(weights=None, classes=3, input_shape=(32, 32, 3), classifier_activation=None)
    x = images(random, 32) / 127.5 - 1
    expected = model(x).numpy()
    theirs.set_weights(converted.get_weights())
    assert_equal(theirs(x), expected)
    theirs.set_weights([0 * weight for weight in theirs.get_weights()])
    converted.save_weights(tmp_path / "model.weights.h5")
    theirs.load_weights(tmp_path / "model.weights.h5")
    assert_equal(theirs(x), expected)


@pytest.mark.exhaustive  # `test_presets.py` tests the same of other networks
@pytest.mark.slow
def test_the_same_seed_gives_all_norms_the_same_kernels():
    kernels = []
    for norm in (None, "batch", "layer"):
        keras.utils.set_random_seed(3)
        model = build("mobilenet", norm=norm, width=0.25, input_shape=(32, 32, 3), classes=3)
        kernels.append([variable.numpy() for variable in model.variables if variable.name == "kernel"])
    assert len(kernels[0]) == 28
    for others in kernels[1:]:
        for one, other in zip(kernels[0], others, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("resnet50", {"width": 0.5}, "`width` must be 1 for ResNet50"),
        ("mobilenet", {"width": 0.01}, "`width` must be ≥ 0.03125 for MobileNet. Received: width=0.01"),
        ("inceptionv3", {"input_shape": (32, 80, 3)}, "`input_shape` must have a height and width ≥ 75"),
        ("mobilenetv2", {"norm": "group", "width": 0.35}, r"'bn_Conv1'.*\(None, 16, 16, 16\).*\[2, 4, 8\]"),
        ("mobilenetv2", {"norm": "instance", "width": 0.35}, "'block_13_depthwise_BN'.*each value"),
        ("resnet50", {"weights": "imagenet", "input_shape": (32, 32, 1)}, "must have 3 channels"),
        ("mobilenetv2", {"weights": "imagenet", "width": 0.3}, "`width` must be one of"),
        ("resnet50", {"weights": "cifar10"}, "`weights` must be one that 'resnet50' has: weights='imagenet'"),
    ],
)
def test_what_a_network_does_not_have_is_refused(name, arguments, words):
    with pytest.raises(ValueError, match=words):
        build(name, **{"input_shape": (32, 32, 3)} | arguments)


@pytest.mark.slow
def test_the_limits_are_those_of_preprocessed_images(downloads, random):
    larger = keras.layers.Resizing(75, 75)
    assert build("inceptionv3", preprocessing=larger, input_shape=(28, 28, 3)).input_shape == (None, 28, 28, 3)
    with pytest.raises(ValueError, match="`input_shape` must have a height and width ≥ 75"):
        build("inceptionv3", preprocessing=keras.layers.Resizing(8, 8))
    with pytest.raises(ValueError, match="`preprocessing` must give images"):
        build("resnet50", preprocessing=keras.layers.Flatten())
    with pytest.raises(ConnectionError, match=r"mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_96.h5"):
        build("mobilenetv2", weights="imagenet", width=0.35, preprocessing=keras.layers.Resizing(96, 96))


@pytest.mark.parametrize("function", [function for function in MEMBERS if MEMBERS[function].preprocessing])
def test_preprocessing_is_that_of_keras(function, random):
    module = sys.modules[getattr(keras.applications, function).__module__]
    x = images(random, 8)
    expected = module.preprocess_input(x.copy())
    layer = imagenet.preprocessing_of(MEMBERS[function].preprocessing)
    np.testing.assert_allclose(layer(x), expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
    assert not layer.variables
    assert np.abs(expected - x).max() > 10


def test_preprocessing_of_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match='`mode` must be "tf", "torch" or "caffe"'):
        imagenet.preprocessing_of("jax")


def test_networks_without_a_mode_preprocess_inside(random):
    x = images(random, 8)
    for function in [function for function in MEMBERS if not MEMBERS[function].preprocessing]:
        module = sys.modules[getattr(keras.applications, function).__module__]
        np.testing.assert_array_equal(module.preprocess_input(x), x)


@pytest.fixture
def downloads(monkeypatch, tmp_path):
    """Stands in for the server: Keras finds the files of a folder in place of what it would download."""
    files = sys.modules[keras.utils.get_file.__module__]  # where keras.applications look it up
    asked = []

    def get_file(name, origin, **arguments):
        asked.append(name)
        assert origin.endswith(name)
        return str(tmp_path / "models" / name)

    monkeypatch.setattr(files, "get_file", get_file)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(imagenet, "reachable", lambda address, seconds: False)
    (tmp_path / "models").mkdir()
    return tmp_path / "models", asked


@pytest.fixture(scope="module")
def trained_mobilenet_v2(tmp_path_factory):
    """A trained MobileNetV2 for 1000 classes, and a file of it as Keras looks for. Not to be changed."""
    model = keras.applications.MobileNetV2((96, 96, 3), 0.35, weights=None, classifier_activation=None)
    randomize(model, np.random.default_rng(0))
    path = tmp_path_factory.mktemp("trained") / "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_96.h5"
    model.save(path)
    return model, path


@pytest.fixture
def mobilenet_v2(downloads, trained_mobilenet_v2):
    """The trained MobileNetV2, in the file that Keras looks for."""
    model, path = trained_mobilenet_v2
    shutil.copy(path, downloads[0])
    return model


SMALL_V2 = {"weights": "imagenet", "width": 0.35, "input_shape": (96, 96, 3)}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
def test_imagenet_weights_give_the_outputs_of_keras_on_raw_images(mobilenet_v2, downloads, random):
    model = build("mobilenetv2", **SMALL_V2)
    x = images(random, 96)
    expected = mobilenet_v2(keras.applications.mobilenet_v2.preprocess_input(x.copy())).numpy()
    assert_equal(model(x), expected)
    assert downloads[1] == ["mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_96.h5"]
    bare = build("mobilenetv2", preprocessing=False, **SMALL_V2)
    assert_equal(bare(x / 127.5 - 1), expected)
    own = build("mobilenetv2", preprocessing=keras.layers.Rescaling(2.0, offset=-1.0), **SMALL_V2)
    assert_equal(own(x / 255), expected)


@pytest.mark.slow
def test_imagenet_weights_for_other_classes_keep_all_but_the_head(mobilenet_v2, random):
    with pytest.warns(UserWarning, match=r"those of 1 layers \(predictions\)"):
        model = build("mobilenetv2", classes=5, **SMALL_V2)
    x = images(random, 96)
    assert model(x).shape == (4, 5)
    features = [keras.Model(each.inputs, each.layers[-2].output) for each in (model, mobilenet_v2)]
    expected = features[1](x / 127.5 - 1).numpy()
    assert_equal(features[0](x), expected)
    assert surgery.report(model).rows[-1].why == "the head is new: 5 classes"


@pytest.mark.sample(1)
@pytest.mark.slow
@pytest.mark.parametrize(
    "norm",
    [None, "layer"]
    + [pytest.param(norm, marks=pytest.mark.exhaustive) for norm in (("group", {"groups": 8}), "rms", "decorrelated")],
)
def test_other_norms_keep_the_imagenet_kernels_and_say_what_they_lose(norm, mobilenet_v2):
    with pytest.warns(UserWarning, match=r"those of 52 layers \(bn_Conv1, expanded_conv_depthwise_BN, "):
        model = build("mobilenetv2", norm=norm, **SMALL_V2)
    kernels = [[each.numpy() for each in one.variables if each.name == "kernel"] for one in (model, mobilenet_v2)]
    for one, other in zip(*kernels, strict=True):
        np.testing.assert_array_equal(one, other)
    layer = model.get_layer("bn_Conv1") if norm else model.get_layer("Conv1")
    for name, start in (("gamma", 1), ("beta", 0), ("bias", 0), ("moving_mean", 0)):
        if getattr(layer, name, None) is not None:
            np.testing.assert_array_equal(getattr(layer, name), start)
    assert len(surgery.report(model).of("dropped")) == 52


@pytest.mark.sample(1)
@pytest.mark.slow
@pytest.mark.parametrize("function", ["MobileNetV3Small", "EfficientNetB0"])
@pytest.mark.filterwarnings("ignore:`input_shape` is undefined or non-square")
def test_networks_that_preprocess_inside_take_raw_images_too(function, downloads, random):
    inputs = keras.Input((32, 32, 3))
    file = applications.file_of(function, MEMBERS[function], (32, 32, 3), 1)
    original = getattr(keras.applications, function)
    randomize(original(weights=None, input_tensor=inputs), random).save(downloads[0] / file)
    # EfficientNet has one more layer with weights="imagenet".
    theirs = original(weights="imagenet", classifier_activation=None, input_tensor=inputs)
    model = build(function.lower(), weights="imagenet", input_shape=(32, 32, 3))
    assert downloads[1] == [file, file]
    x = images(random, 32)
    expected = theirs([x]).numpy()
    assert_equal(model(x), expected)


@pytest.mark.slow
def test_a_head_that_is_a_convolution_is_new_too(downloads, random):
    inputs = keras.Input((32, 32, 3))
    file = downloads[0] / "mobilenet_2_5_224_tf.h5"
    keras.applications.MobileNet(weights=None, alpha=0.25, input_tensor=inputs).save(file)
    with pytest.warns(UserWarning, match="those of 1 layers"):
        model = build("mobilenet", weights="imagenet", width=0.25, classes=5, input_shape=(32, 32, 3))
    assert model(images(random, 32)).shape == (4, 5)


@pytest.mark.slow
@pytest.mark.sample(1)
@pytest.mark.parametrize("function", ["ResNet50V2", "InceptionV3", "Xception", "EfficientNetV2B0", "ConvNeXtTiny"])
def test_keras_loads_the_file_that_is_looked_for(function, downloads):
    size = MEMBERS[function].smallest
    name = applications.file_of(function, MEMBERS[function], (size, size, 3), 1)
    (downloads[0] / name).touch()
    with pytest.raises(OSError, match="open file"):
        build(function.lower(), weights="imagenet", input_shape=(size, size, 3))
    assert downloads[1] == [name]


@pytest.mark.slow
def test_without_a_network_the_error_comes_at_once_and_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(imagenet, "SERVER", "http://127.0.0.1:1/")
    start = time.monotonic()
    with pytest.raises(ConnectionError, match=r"models/resnet50_weights.*copy ~/.keras/models.*weights=None"):
        build("resnet50", weights="imagenet")
    assert time.monotonic() - start < imagenet.PROBE_SECONDS + 1


def test_a_server_that_answers_is_reachable():
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    threading.Thread(target=server.handle_request, daemon=True).start()
    try:
        assert imagenet.reachable(f"http://127.0.0.1:{server.server_port}/", 5)  # by an error, 501
    finally:
        server.server_close()
