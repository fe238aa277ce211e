"""Sets of tensorflow-datasets: in memory or streamed, without network, and clear errors in time."""

import os
import pathlib
import time

import numpy as np
import pytest
import tensorflow_datasets as tfds

from bn_keras.experiments import DataError, load
from bn_keras.experiments.data import download


class Dots(tfds.core.GeneratorBasedBuilder):
    """Thirty grey images of 4×4 pixels, in one split."""

    VERSION = tfds.core.Version("1.0.0")
    SHAPE = (4, 4, 1)

    def _info(self):
        features = {"image": tfds.features.Image(shape=self.SHAPE), "label": tfds.features.ClassLabel(num_classes=3)}
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features), supervised_keys=("image", "label")
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for i in range(30):
            shape = [size or 4 for size in self.SHAPE]
            yield i, {"image": np.full(shape, i, np.uint8), "label": i % 3}


class UnevenDots(Dots):
    """The same, of no fixed size."""

    SHAPE = (None, None, 1)


def test_a_prepared_set_needs_no_network(tmp_path, monkeypatch):
    Dots(data_dir=tmp_path).download_and_prepare()
    monkeypatch.setattr(download, "reachable", lambda *probe: pytest.fail("the network was asked"))
    dots = load("dots", tmp_path)
    assert (len(dots.train.labels), len(dots.test.labels)) == (24, 6), "the last fifth is the test split"
    assert dots.input_shape == (4, 4, 1)
    assert dots.classes == 3
    np.testing.assert_array_equal(dots.train.inputs[:, 0, 0, 0] % 3, dots.train.labels)


@pytest.mark.slow
def test_a_stream_holds_what_memory_would(tmp_path):
    Dots(data_dir=tmp_path).download_and_prepare()
    held, streamed = load("dots", tmp_path), load("dots", tmp_path, memory_limit=0)
    assert streamed.train.inputs is None
    for part in ("train", "test"):
        batches = list(getattr(streamed, part).once(7))
        for place, name in enumerate(("inputs", "labels")):
            whole = np.concatenate([batch[place] for batch in batches])
            np.testing.assert_array_equal(whole, getattr(getattr(held, part), name))


@pytest.mark.slow
def test_images_of_several_sizes_need_an_image_size(tmp_path):
    UnevenDots(data_dir=tmp_path).download_and_prepare()
    with pytest.raises(DataError, match="no fixed size: .*Pass image_size=… \\(--image-size\\)"):
        load("uneven_dots", tmp_path)
    for limit in (2**20, 0):
        data = load("uneven_dots", tmp_path, image_size=(2, 3), memory_limit=limit)
        images, labels = next(iter(data.train.once(30)))
        assert images.shape == (24, 2, 3, 1)
        np.testing.assert_array_equal(images.numpy()[:, 1, 2, 0] % 3, labels)


class DeepDots(Dots):
    """The same with 16 bits."""

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(4, 4, 1), dtype=np.uint16),
            "label": tfds.features.ClassLabel(num_classes=3),
        }
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features), supervised_keys=("image", "label")
        )

    def _generate_examples(self):
        yield 0, {"image": np.zeros((4, 4, 1), np.uint16), "label": 0}


def test_images_of_sixteen_bits_are_refused(tmp_path):
    DeepDots(data_dir=tmp_path).download_and_prepare()
    with pytest.raises(DataError, match="must be uint8 .*Received: uint16 with shape .*Choose another set"):
        load("deep_dots", tmp_path)


class Poem(tfds.core.GeneratorBasedBuilder):
    """A text in the form of `tiny_shakespeare`: one example per split."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        return self.dataset_info_from_configs(features=tfds.features.FeaturesDict({"text": tfds.features.Text()}))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples("roses are red "), "test": self._generate_examples("violets are blue")}

    def _generate_examples(self, line):
        yield 0, {"text": line * 20}


def test_a_prepared_text_becomes_tokens(tmp_path):
    Poem(data_dir=tmp_path).download_and_prepare()
    poem = load("poem", tmp_path, length=13)
    assert poem.class_names == tuple(sorted(set("roses are red violets are blue")))
    for split, line in ((poem.train, "roses are red"), (poem.test, "violets are b")):
        assert "".join(poem.class_names[token] for token in split.inputs[0]) == line
    with pytest.raises(DataError, match="`image_size` is for images, and 'poem' is text"):
        load("poem", tmp_path, image_size=8)


class Numbers(Dots):
    """No images."""

    def _info(self):
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict({"label": tfds.features.ClassLabel(num_classes=3)})
        )

    def _generate_examples(self):
        yield 0, {"label": 0}


def test_sets_without_images_are_refused(tmp_path):
    Numbers(data_dir=tmp_path).download_and_prepare()
    with pytest.raises(DataError, match="'numbers' is no image classification: it needs an image and a class label"):
        load("numbers", tmp_path)


def prepared(name):
    """Skips a test where tensorflow-datasets has not prepared a set."""
    directory = pathlib.Path(os.environ.get("TFDS_DATA_DIR", tfds.core.constants.DATA_DIR)).expanduser()
    if not list(directory.glob(f"{name}/**/dataset_info.json")):
        pytest.skip(f"{name} is not prepared in {directory}; set TFDS_DATA_DIR to a directory that has it")


@pytest.mark.slow
def test_mnist_streams_the_examples_that_memory_holds():
    prepared("mnist")
    held, streamed = load("mnist"), load("mnist", memory_limit=0)
    labels = np.concatenate([labels for _, labels in streamed.test.batches(1000, seed=0).take(10)])
    np.testing.assert_array_equal(np.bincount(labels), np.bincount(held.test.labels))
    first = next(iter(streamed.train.once(100)))
    np.testing.assert_array_equal(first[0], held.train.inputs[:100])


def test_tiny_shakespeare_is_text():
    prepared("tiny_shakespeare")
    text = load("tiny_shakespeare")
    assert (text.classes, text.train.examples, text.test.examples) == (65, 15685, 871)
    assert "".join(text.class_names[token] for token in text.train.inputs[0]).startswith("First Citizen:\n")


def test_an_unknown_name_suggests_the_nearest(tmp_path):
    with pytest.raises(DataError, match="Unknown data set 'fashion_mist'.*Did you mean 'fashion_mnist'"):
        load("fashion_mist", tmp_path)
    with pytest.raises(DataError, match="Did you mean 'digits'"):
        load("digit", tmp_path)


@pytest.mark.slow
def test_without_network_the_error_comes_in_time(tmp_path, monkeypatch):
    # 192.0.2.0/24 is set aside for documentation: nothing answers there.
    monkeypatch.setattr(download, "PROBE_ADDRESS", "https://192.0.2.1")
    started = time.monotonic()
    with pytest.raises(FileNotFoundError, match="cannot be reached to download it. Use the data set 'digits'"):
        load("mnist", tmp_path)
    assert time.monotonic() - started < 5


def test_a_missing_directory_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="missing' does not exist"):
        load("mnist", tmp_path / "missing")
