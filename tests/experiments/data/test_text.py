"""Text as tokens: every label is the next character."""

import numpy as np
import pytest

from bn_keras.experiments import DataError, load

TEXT = "Möwen fliegen über das Meer.\n" * 100


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


def decoded(data, tokens):
    return "".join(data.class_names[token] for token in np.ravel(tokens))


def test_the_labels_are_the_next_characters(file):
    data = load(f"text:{file}")
    assert data.class_names == tuple(sorted(set(TEXT)))
    assert (data.classes, data.input_shape) == (len(set(TEXT)), (64,))
    cut = len(TEXT) * 9 // 10
    for split, text in ((data.train, TEXT[:cut]), (data.test, TEXT[cut:])):
        length = 64 * split.examples
        assert length < len(text) <= length + 64
        assert decoded(data, split.inputs) == text[:length]
        assert decoded(data, split.labels) == text[1 : length + 1]
        assert split.inputs.dtype == split.labels.dtype == np.int32


def test_batches_are_tokens_and_their_length_is_an_argument(file):
    data = load(f"text:{file}", length=10)
    inputs, labels = next(iter(data.train.batches(4, seed=0)))
    assert inputs.shape == labels.shape == (4, 10)
    assert decoded(data, inputs[0, 1:]) == decoded(data, labels[0, :-1])


def test_text_has_no_moments_and_needs_no_preprocessing(file):
    data = load(f"text:{file}")
    assert data.preprocessing() is None
    with pytest.raises(DataError, match="Tokens have no mean and standard deviation"):
        data.moments()


@pytest.mark.parametrize(
    ("contents", "arguments", "words"),
    [
        (None, {}, "text.txt' does not exist. Check the path after 'text:'"),
        (b"fine" * 99 + b"\xff", {}, "is not UTF-8: byte 396 cannot be decoded. Convert it"),
        (b"short", {}, "is too short: its test part needs more than 64 characters.*Received: 1"),
        (b"enough" * 500, {"length": 0}, "`length` must be a number of tokens ≥ 1. Received: length=0"),
        (b"enough" * 500, {"memory_limit": 100}, "text is not streamed. Raise `memory_limit`"),
    ],
)
def test_text_that_cannot_be_used_is_refused(tmp_path, contents, arguments, words):
    path = tmp_path / "text.txt"
    if contents is not None:
        path.write_bytes(contents)
    with pytest.raises(DataError, match=words):
        load(f"text:{path}", **arguments)


def test_a_folder_is_no_text(tmp_path):
    with pytest.raises(DataError, match="cannot be read: Is a directory. 'text:PATH' needs a text file"):
        load(f"text:{tmp_path}")
