"""BN-Inception: its parameters and the shapes of its blocks, against figure 5 and the public networks."""

import keras
import numpy as np
import pytest

from bn_keras import BatchNorm, export, surgery
from bn_keras.experiments import Data, train, training_recipe
from bn_keras.experiments.data.arrays import ArraySplit
from bn_keras.models import build

# Height, width and channels behind each block.
FIGURE_5 = {
    "stem_1_max": (56, 56, 64),
    "stem_3_max": (28, 28, 192),
    "block_3a": (28, 28, 256),
    "block_3b": (28, 28, 320),
    "block_3c": (14, 14, 576),
    "block_4a": (14, 14, 576),
    "block_4b": (14, 14, 576),
    "block_4c": (14, 14, 608),
    "block_4d": (14, 14, 608),
    "block_4e": (7, 7, 1056),
    "block_5a": (7, 7, 1024),
    "block_5b": (7, 7, 1024),
}
SLIM = FIGURE_5 | {"block_4c": (14, 14, 576), "block_4d": (14, 14, 576), "block_4e": (7, 7, 1024)}


def sizes(model):
    """The number of trainable parameters and of moving statistics."""
    return [sum(int(np.prod(w.shape)) for w in ws) for ws in (model.trainable_weights, model.non_trainable_weights)]


@pytest.mark.slow
@pytest.mark.sample(1)
@pytest.mark.parametrize(
    ("name", "shapes", "counts"),
    [("bn_inception", FIGURE_5, [11_285_224, 20_032]), ("bn_inception_slim", SLIM, [11_188_288, 19_904])],
)
def test_the_blocks_have_the_published_shapes_and_parameters(name, shapes, counts):
    model = build(name)
    assert {stage: model.get_layer(stage).output.shape[1:] for stage in shapes} == shapes
    assert sizes(model) == counts


@pytest.mark.slow
def test_ten_classes_and_no_norm_have_the_published_parameters():
    assert sizes(build("bn_inception", classes=10))[0] == 10_270_474
    convolution_biases = 20_032 // 2
    assert build("bn_inception", norm=None).count_params() == 11_285_224 - 20_032 + convolution_biases


@pytest.mark.slow
def test_the_pools_of_the_blocks_are_those_of_figure_5():
    pools = {}
    for layer in build("bn_inception", width=0.1).layers:
        if isinstance(layer, (keras.layers.MaxPooling2D, keras.layers.AveragePooling2D)):
            pools[layer.name] = layer.strides[0]
    stem = {"stem_1_max": 2, "stem_3_max": 2}
    maxima = {"block_3c_max": 2, "block_4e_max": 2, "block_5b_max": 1}
    averages = {f"block_{row}_avg": 1 for row in ("3a", "3b", "4a", "4b", "4c", "4d", "5a")}
    assert pools == stem | maxima | averages


@pytest.mark.slow
def test_the_last_convolution_of_a_branch_has_the_stride():
    layers = build("bn_inception", width=0.1).layers
    strided = [each.name for each in layers if isinstance(each, keras.layers.Conv2D) and each.strides == (2, 2)]
    branches = [f"block_{row}_{branch}_conv" for row in ("3c", "4e") for branch in ("3x3", "double_3x3_2")]
    assert strided == ["stem_1_conv", *branches]


@pytest.mark.slow
def test_the_first_convolution_of_the_slim_variant_is_separable():
    stem = build("bn_inception_slim", width=0.1).get_layer("stem_1_conv")
    assert isinstance(stem, keras.layers.SeparableConv2D)
    assert stem.depth_multiplier == 8


@pytest.mark.sample(1)
@pytest.mark.slow
@pytest.mark.parametrize("name", ["bn_inception", "bn_inception_slim"])
@pytest.mark.parametrize("shape", [(28, 28, 1), (33, 17, 3)])
def test_small_images_give_logits(name, shape, random):
    model = build(name, classes=7, input_shape=shape, width=0.1)
    logits = model(random.normal(size=(2, *shape)), training=True)
    assert logits.shape == (2, 7)
    assert np.isfinite(logits).all()


@pytest.mark.slow
@pytest.mark.exhaustive  # other networks train, fold and export too
def test_it_trains_at_224_pixels_folds_and_exports(tmp_path, forked_exports):
    random = np.random.default_rng(0)
    split = ArraySplit(random.integers(0, 256, (8, 224, 224, 3), np.uint8), np.arange(8, dtype=np.int32))
    recipe = training_recipe("bn_inception", "noise", steps=6, evaluate_every=3, batch_size=4, learning_rate=0.02)
    data = Data("noise", 10, (224, 224, 3), split, ArraySplit(split.inputs[:2], split.labels[:2]))
    results = train(recipe, tmp_path / "run", data=data)
    losses = [row["loss"] for row in results["evaluations"][1:]]
    assert losses[1] < losses[0]
    model = keras.saving.load_model(tmp_path / "run" / "model.keras")
    folded = surgery.fold(model)
    assert not any(isinstance(layer, BatchNorm) for layer in folded.layers)
    images = split.inputs[:2].astype("float32")
    np.testing.assert_allclose(folded(images), model(images), rtol=1e-3, atol=1e-3)
    export.export(model, tmp_path / "exported", fold=True, examples=images)
