"""Every network with some norms and every norm in some networks: it builds, trains a step, and its file loads with
equal outputs. Every pair that is refused is refused.

The networks of bn_keras run as a whole, narrow and on small inputs. Of each family of `keras.applications` the
smallest member runs up to its fourth norm, as whole networks would take an hour; ResNet-50 is built and called as a
whole too. `test_applications.py` compares whole networks with those of Keras.
"""

import collections
import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from bn_keras.models import build, list_presets, preset
from bn_keras.models.applications import FAMILY_LIST
from bn_keras.models.norms import KINDS
from bn_keras.models.transplant import REPLACEABLE, transplanted
from bn_keras.surgery.tree import layers_of

OWN = [name for name in list_presets() if not preset(name).pretrained]
# What makes a network small; by default an eighth of the width and images of 16 pixels.
SMALL = {
    "bn_inception": {"width": 0.125, "input_shape": (32, 32, 3), "classes": 10},
    "bn_inception_slim": {"width": 0.125, "input_shape": (32, 32, 3), "classes": 10},
    "linear_deep": {"depth": 4, "units": 16},
    "mlp_relu_deep": {"depth": 4, "units": 16},
    "mlp_sigmoid": {},
    "transformer_small": {"depth": 2, "units": 32, "input_shape": (8,)},
}
DEFAULT = {"width": 0.125, "input_shape": (16, 16, 3)}
# Built and called, but neither trained nor saved: their blocks are those of another network.
REPETITIONS = ("bn_inception", "resnet56", "resnet110", "resnet50")
# Batch norm by other arguments: built and called in the families of Keras, trained and saved in networks of ours.
KINDS_OF_BATCH_NORM = ("sync", "ghost", "renorm")
# What takes longest is trained and saved with these norms, and built and called with the others.
SLOW, NORMS_OF_SLOW = ("bn_inception_slim", "ConvNeXtTiny", "Xception"), (None, "batch")
FAMILIES = [
    "ResNet50", "ResNet50V2", "InceptionV3", "InceptionResNetV2", "Xception", "MobileNet", "MobileNetV2",
    "MobileNetV3Small", "DenseNet121", "NASNetMobile", "EfficientNetB0", "EfficientNetV2B0", "ConvNeXtTiny",
]  # fmt: skip
OURS = tuple(layer for layer, _ in KINDS.values())
FAMILY_OF = {function: family for family in FAMILY_LIST for function in family.sizes}

# The pairs that are refused, and the words of the error.
LONE, POSITIONS = "each value would be normalized alone", "normalizes over the positions"
REFUSED = {
    ("bn_inception", "instance"): LONE,
    ("bn_inception_slim", "instance"): LONE,
    ("linear_deep", "instance"): LONE,
    ("mlp_relu_deep", "instance"): LONE,
    ("mlp_sigmoid", "instance"): LONE,
    ("transformer_small", "group"): POSITIONS,
    ("transformer_small", "instance"): POSITIONS,
    ("vgg_small", "instance"): LONE,
    ("NASNetMobile", "group"): "'reduction_bn_1_stem_1'.* `groups` must divide .* 11.*Choose another norm",
}


# A quarter of the pairs: each network takes two or three norms, and the next network others.
STEP = 4


NORMS = [None, *KINDS]  # norms of outputs; `test_kernel_norms.py` has those of kernels


def pairs(names):
    """Networks with norms: every fourth that a network takes, one that trains where few do, and all it refuses."""
    for row, name in enumerate(names):
        taken = [norm for norm in NORMS if (name, norm) not in REFUSED]
        chosen = {*taken[row % STEP :: STEP], *(["batch"] if name in SLOW else [])}
        yield from ((name, norm) for norm in NORMS if norm in chosen or (name, norm) in REFUSED)


@pytest.mark.slow
@pytest.mark.sample(5)
@pytest.mark.parametrize(("name", "norm"), list(pairs(OWN)))
def test_a_network_takes_the_norm(name, norm, random, tmp_path):
    make = functools.partial(build, name, norm=with_groups(norm, 4), **SMALL.get(name, DEFAULT))
    build_train_and_load(name, norm, make, random, tmp_path, called_alone=name in SLOW and norm not in NORMS_OF_SLOW)


@pytest.mark.sample(5)
@pytest.mark.slow
@pytest.mark.parametrize(("function", "norm"), list(pairs(FAMILIES)))
def test_a_network_of_keras_takes_the_norm_in_its_first_layers(function, norm, random, tmp_path):
    make = functools.partial(transplanted, first_layers(function), with_groups(norm, 8), classes=5)
    slow = function in SLOW and norm not in NORMS_OF_SLOW
    build_train_and_load(function, norm, make, random, tmp_path, called_alone=slow or norm in KINDS_OF_BATCH_NORM)


@pytest.mark.sample(1)
@pytest.mark.slow
@pytest.mark.parametrize("norm", [None, "batch", "group"])  # here with the 32 groups of the default
def test_the_whole_resnet50_takes_the_norm(norm, random, tmp_path):
    make = functools.partial(build, "resnet50", norm=norm, classes=5, input_shape=(64, 64, 3))
    build_train_and_load("resnet50", norm, make, random, tmp_path)


def test_the_pairs_are_enough():
    """Each network with two norms that it takes, each norm in three networks, and all pairs that are refused."""
    both = [*pairs(OWN), *pairs(FAMILIES)]
    taken = [pair for pair in both if pair not in REFUSED]
    networks, of_each_norm = (collections.Counter(column) for column in zip(*taken, strict=True))
    assert set(networks) == {*OWN, *FAMILIES}
    assert set(of_each_norm) == set(NORMS)
    assert min(networks.values()) >= 2
    assert min(of_each_norm.values()) >= 3
    assert set(REFUSED) <= set(both)


def with_groups(norm, groups):
    """Narrow networks have too few channels for 32 groups."""
    return (norm, {"groups": groups}) if norm == "group" else norm


@functools.lru_cache(maxsize=1)  # holds the whole network; the tests of one network follow one another
def first_layers(function):
    """A network of Keras up to the layer after its fourth norm, with a head."""
    size = FAMILY_OF[function].smallest
    width = {"alpha": min(FAMILY_OF[function].widths)} if FAMILY_OF[function].widths else {}
    model = getattr(keras.applications, function)(weights=None, include_top=False, input_shape=(size, size, 3), **width)
    fourth = [i for i, layer in enumerate(model.layers) if isinstance(layer, REPLACEABLE)][3]
    pooled = keras.layers.GlobalAveragePooling2D()(model.layers[fourth + 1].output)
    return keras.Model(model.inputs[0], keras.layers.Dense(5, name="head")(pooled), name=function)


def build_train_and_load(name, norm, make, random, tmp_path, called_alone=False):
    """The network has this norm alone, trains for a step, and its file gives the same finite outputs."""
    if (name, norm) in REFUSED:
        with pytest.raises(ValueError, match=REFUSED[name, norm]):
            make()
        return
    model = make()
    found = {type(layer) for layer in layers_of(model) if isinstance(layer, (*REPLACEABLE, *OURS))}
    assert found == ({KINDS[norm][0]} if norm else set())
    inputs = example_for(model, random)
    called_alone |= name in REPETITIONS
    if not called_alone:
        train(model, inputs)
    outputs = model(inputs).numpy()
    assert np.isfinite(outputs).all()
    if not called_alone:
        model.save(tmp_path / "model.keras")
        loaded = keras.models.load_model(tmp_path / "model.keras")
        np.testing.assert_allclose(loaded(inputs), outputs, rtol=1e-5, atol=1e-6 * np.abs(outputs).max())


def train(model, inputs):
    """One step of gradient descent, with finite gradients."""
    with tf.GradientTape() as tape:
        loss = keras.ops.mean(keras.ops.square(model(inputs, training=True) - 1))
    gradients = tape.gradient(loss, [variable.value for variable in model.trainable_variables])
    sizes = [float(tf.norm(tf.convert_to_tensor(gradient))) for gradient in gradients]
    assert np.isfinite(sizes).all()
    assert max(sizes) > 0
    keras.optimizers.SGD(0.01).apply(gradients, model.trainable_variables)


def example_for(model, random):
    """A batch of made-up pixels or tokens, small enough that XLA compiles the norms of few networks."""
    shape, dtype = model.input.shape, model.input.dtype
    if "int" in dtype:
        return random.integers(0, 10, (3, *shape[1:])).astype(dtype)
    return random.uniform(size=(3, *shape[1:])).astype(dtype)
