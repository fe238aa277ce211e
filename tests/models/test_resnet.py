"""Residual networks: their parameters, stages, shortcuts and gates."""

import keras
import numpy as np
import pytest

from bn_keras.models import build
from bn_keras.models.blocks import Gate
from bn_keras.models.resnet import PaddedShortcut
from tests.processes import result_of


def trainable(model):
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


def gates_of(model):
    return [layer for layer in model.layers if isinstance(layer, Gate)]


# The paper rounds them to 0.27 M, 0.85 M and 1.7 M.
@pytest.mark.slow
@pytest.mark.sample(1)
@pytest.mark.parametrize(("depth", "count"), [(20, 269_722), (56, 853_018), (110, 1_727_962)])
def test_the_parameters_are_those_of_the_paper(depth, count):
    model = build(f"resnet{depth}")
    assert trainable(model) == count
    kernels = [layer for layer in model.layers if hasattr(layer, "kernel")]
    assert len(kernels) == depth


@pytest.mark.slow
def test_the_stages_have_the_shapes_of_the_paper():
    model = build("resnet20")
    shapes = [model.get_layer(f"block_{i}_relu").output.shape[1:] for i in range(1, 10)]
    assert shapes == [(32, 32, 16)] * 3 + [(16, 16, 32)] * 3 + [(8, 8, 64)] * 3


@pytest.mark.slow
def test_shortcuts_have_no_weights_and_skips_take_them_away():
    with_skips, without = build("resnet20"), build("resnet20", skips=False)
    assert with_skips.count_params() == without.count_params()
    assert sum(isinstance(layer, keras.layers.Add) for layer in with_skips.layers) == 9
    assert not any(isinstance(layer, (keras.layers.Add, PaddedShortcut)) for layer in without.layers)


@pytest.mark.slow
def test_there_is_a_gate_a_block_without_norm_alone():
    assert len(gates_of(build("resnet20", norm=None))) == 9
    assert not gates_of(build("resnet20", norm="batch"))
    assert not gates_of(build("resnet20", norm=None, skips=False))


@pytest.mark.slow
def test_without_norm_the_network_starts_as_its_shortcuts(random):
    model = build("resnet20", norm=None)
    images = random.normal(size=(2, 32, 32, 3)).astype("float32")
    stem = keras.Model(model.input, model.get_layer("stem_relu").output)(images).numpy()
    last = keras.Model(model.input, model.get_layer("block_9_relu").output)(images).numpy()
    expected = np.zeros((2, 8, 8, 64), "float32")
    expected[..., :16] = stem[:, ::4, ::4]
    np.testing.assert_array_equal(last, expected)


@pytest.mark.sample(1)
@pytest.mark.slow
@pytest.mark.parametrize("norm", [None, "batch"])
def test_a_few_steps_lower_the_loss(norm, random):
    model = build("resnet20", norm=norm, width=0.5, input_shape=(8, 8, 3), classes=3)
    images, labels = random.normal(size=(16, 8, 8, 3)), random.integers(3, size=16)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9), loss)
    losses = model.fit(images, labels, batch_size=16, epochs=12, verbose=0).history["loss"]
    assert losses[-1] < 0.8 * losses[0]
    assert all(abs(float(gate.gate)) > 0 for gate in gates_of(model))


def test_skips_must_be_a_flag():
    with pytest.raises(TypeError, match=r"`skips` must be True or False. Received: skips=1"):
        build("resnet20", skips=1)


@pytest.mark.slow
def test_a_saved_network_loads_where_the_models_are_imported(tmp_path, random):
    model = build("resnet20", norm=None, width=0.25)
    for gate in gates_of(model):
        gate.gate.assign(0.5)
    images = random.normal(size=(2, 32, 32, 3)).astype("float32")
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "images.npy", images)
    program = (
        "import sys, json, keras, numpy, bn_keras.models; model = keras.saving.load_model(sys.argv[1]); "
        "print('RESULT', json.dumps(model(numpy.load(sys.argv[2])).numpy().tolist()))"
    )
    logits = result_of("-c", program, tmp_path / "model.keras", tmp_path / "images.npy")
    np.testing.assert_allclose(logits, model(images), rtol=1e-5, atol=1e-6)
