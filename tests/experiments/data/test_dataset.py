"""The digits, and what every data set knows about itself."""

import keras
import numpy as np
import pytest

from bn_keras.experiments import DataError, load
from tests.experiments.data.folders import write_folder


def test_digits_are_real_and_the_split_is_fixed():
    digits = load("digits")
    assert digits.input_shape == (8, 8, 1)
    assert digits.train.inputs.dtype == np.uint8
    assert (len(digits.train.labels), len(digits.test.labels)) == (1437, 360)
    assert np.bincount(digits.test.labels).min() >= 34, "stratified"
    np.testing.assert_array_equal(load("digits").test.inputs, digits.test.inputs)


def test_moments_are_those_of_the_training_images():
    digits = load("digits")
    mean, deviation = digits.moments()
    np.testing.assert_allclose(mean, [digits.train.inputs.mean()], rtol=1e-5)
    np.testing.assert_allclose(deviation, [digits.train.inputs.std()], rtol=1e-4)


@pytest.mark.slow
def test_moments_of_a_stream_are_those_in_memory(tmp_path):
    root = write_folder(tmp_path, {"cat": 60, "dog": 60})
    held, streamed = load(f"folder:{root}"), load(f"folder:{root}", memory_limit=0)
    for ours, theirs in zip(streamed.moments(), held.moments(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_the_preprocessing_standardizes_and_travels_in_a_model_file(tmp_path):
    data = load(f"folder:{write_folder(tmp_path / 'images', {'cat': 10, 'dog': 10})}")
    model = keras.Sequential([keras.Input(data.input_shape, dtype="uint8"), data.preprocessing()])
    outputs = model(data.train.inputs).numpy()
    mean, deviation = data.moments()
    np.testing.assert_allclose(outputs, (data.train.inputs - mean) / deviation, atol=1e-5)
    np.testing.assert_allclose(outputs.mean((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(outputs.std((0, 1, 2)), 1, atol=1e-4)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again(data.train.inputs), outputs)


def test_the_summary_says_where_the_data_are_and_why(tmp_path):
    root = write_folder(tmp_path, {"cat": 5, "dog": 5})
    size = 10 * 6 * 5 * 3
    held, streamed = (load(f"folder:{root}", memory_limit=limit) for limit in (size, size - 1))
    assert held.train.inputs is not None
    assert streamed.train.inputs is None
    assert held.summary == (
        f"folder:{root}: 8 training and 2 test examples, each an image of 6×5×3 in 2 classes; "
        "0.0 MiB, held in memory, within the limit of 0.0 MiB."
    )
    assert "streamed, because it exceeds the limit" in streamed.summary


@pytest.mark.slow
def test_digits_are_resized_on_request():
    assert load("digits", image_size=(4, 6)).input_shape == (4, 6, 1)


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("foldr:x", {}, "Unknown data set 'foldr:x'. Expected 'digits', 'folder:PATH', 'text:PATH'"),
        ("folder:", {}, "Unknown data set 'folder:'"),
        ("digits", {"image_size": 0}, "`image_size` must be an int in .* or a pair .* Received: 0"),
        ("digits", {"image_size": (1, 2, 3)}, "Received: \\(1, 2, 3\\)"),
        ("digits", {"image_size": "8"}, "Received: '8'"),
        ("digits", {"memory_limit": -1}, "`memory_limit` must be a number of bytes ≥ 0 for 'digits'. Received: -1"),
        ("digits", {"memory_limit": 10}, "'digits' is not streamed: images of 8×8×1 take .* more than `memory_limit`"),
        ("text:x", {"image_size": 8}, "`image_size` is for images, and 'text:x' is text. Received: 8"),
    ],
)
def test_names_and_sizes_out_of_range_are_refused(name, arguments, words):
    with pytest.raises(DataError, match=words):
        load(name, **arguments)
