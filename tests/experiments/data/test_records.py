"""Sets of tensorflow-datasets: in memory or streamed, without network, and clear errors in time."""

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
    monkeypatch.setattr(download, "reachable", lambda address: pytest.fail("the network was asked"))
    dots = load("dots", tmp_path)
    assert (len(dots.train.labels), len(dots.test.labels)) == (24, 6), "the last fifth is the test split"
    assert dots.input_shape == (4, 4, 1)
    assert dots.classes == 3
    np.testing.assert_array_equal(dots.train.inputs[:, 0, 0, 0] % 3, dots.train.labels)


def test_images_of_several_sizes_are_refused(tmp_path):
    UnevenDots(data_dir=tmp_path).download_and_prepare()
    with pytest.raises(DataError, match="no fixed size"):
        load("uneven_dots", tmp_path)


def test_an_unknown_name_suggests_the_nearest(tmp_path):
    with pytest.raises(DataError, match="Unknown data set 'fashion_mist'.*Did you mean 'fashion_mnist'"):
        load("fashion_mist", tmp_path)
    with pytest.raises(DataError, match="Did you mean 'digits'"):
        load("digit", tmp_path)


def test_without_network_the_error_comes_in_time(tmp_path, monkeypatch):
    # 192.0.2.0/24 is set aside for documentation: nothing answers there.
    monkeypatch.setattr(download, "PROBE_ADDRESS", "https://192.0.2.1")
    started = time.monotonic()
    with pytest.raises(FileNotFoundError, match="cannot be reached to download it. Use the data set 'digits'"):
        load("mnist", tmp_path)
    assert time.monotonic() - started < 5


def test_a_server_that_refuses_is_reachable():
    import http.server
    import threading

    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        assert download.reachable(f"http://127.0.0.1:{server.server_port}"), "501 is an answer"
    finally:
        server.shutdown()
        server.server_close()


def test_a_missing_directory_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="missing' does not exist"):
        load("mnist", tmp_path / "missing")
