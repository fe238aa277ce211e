"""Validation examples are held out of the training examples, the same ones every time."""

import numpy as np
import pytest

from bn_keras.experiments import DataError, load
from tests.experiments.data.folders import write_folder


@pytest.fixture(scope="module")
def digits():
    return load("digits")


def rows(split):
    """Each example as bytes, in order; no two digits are the same picture."""
    return [(image.tobytes(), int(label)) for image, label in zip(split.inputs, split.labels, strict=True)]


def test_the_splits_are_disjoint_and_nothing_is_lost(digits):
    data = digits.with_validation(300)
    kept, held = rows(data.train), rows(data.validation)
    assert (len(kept), len(held)) == (1137, 300)
    assert sorted(kept + held) == sorted(rows(digits.train))
    assert not set(held) & set(kept)
    assert rows(data.test) == rows(digits.test), "the test examples stay as they are"
    assert digits.validation is None, "the data themselves are not changed"


def test_each_class_gives_its_share(digits):
    held = np.bincount(digits.with_validation(300).validation.labels, minlength=10)
    share = np.bincount(digits.train.labels, minlength=10) * 300 / 1437
    assert np.abs(held - share).max() < 1


def test_the_examples_are_the_same_every_time(digits):
    assert rows(digits.with_validation(300).validation) == rows(load("digits").with_validation(300).validation)


def test_the_same_number_again_changes_nothing_and_another_one_is_refused(digits):
    data = digits.with_validation(300)
    assert data.with_validation(300) is data
    with pytest.raises(DataError, match="'digits' has 300 validation examples already"):
        data.with_validation(200)


def test_moments_are_those_of_the_examples_that_are_left(digits):
    digits.moments()
    data = digits.with_validation(700)
    mean, deviation = data.moments()
    np.testing.assert_allclose(mean, [data.train.inputs.mean()], rtol=1e-5)
    np.testing.assert_allclose(deviation, [data.train.inputs.std()], rtol=1e-4)
    assert mean != digits.moments()[0]


def test_a_text_gives_its_last_sequences(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("to be or not to be, that is the question: " * 40)
    text = load(f"text:{path}")
    data = text.with_validation(5)
    np.testing.assert_array_equal(data.train.inputs, text.train.inputs[:-5])
    np.testing.assert_array_equal(data.validation.inputs, text.train.inputs[-5:])
    np.testing.assert_array_equal(data.validation.labels, text.train.labels[-5:])


def test_streams_are_refused(tmp_path):
    root = write_folder(tmp_path, {"cat": 10, "dog": 10})
    with pytest.raises(DataError, match="is streamed, and validation examples are held out of data in memory only"):
        load(f"folder:{root}", memory_limit=0).with_validation(4)


@pytest.mark.parametrize("examples", [0, 9, 1428, 1437, 10_000])
def test_sizes_that_leave_a_split_without_a_class_are_refused(digits, examples):
    with pytest.raises(DataError, match=f"must be between 10 and 1,427 .* 1,437 training .* Received: {examples:,}"):
        digits.with_validation(examples)


@pytest.mark.parametrize("examples", [10, 1427])
def test_the_smallest_and_the_largest_size_have_every_class_on_both_sides(digits, examples):
    data = digits.with_validation(examples)
    assert data.validation.examples == examples
    assert set(data.train.labels) == set(data.validation.labels) == set(range(10))
