"""Images and labels in memory: `digits` from scikit-learn, the rest from tensorflow-datasets."""

import dataclasses
import difflib
import os
import pathlib
import threading
import urllib.error
import urllib.request

import numpy as np

DIGITS = "digits"
PROBE_ADDRESS = "https://storage.googleapis.com"
PROBE_SECONDS = 2


class DataError(ValueError):
    """A name that no data set has, or a set that cannot be used here."""


@dataclasses.dataclass(frozen=True)
class Data:
    """A classification set: images `(n, height, width, channels)` uint8, labels `(n,)` int32."""

    name: str
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    classes: int

    @property
    def input_shape(self):
        return self.train_images.shape[1:]

    def moments(self):
        """Mean and standard deviation of the training images per channel, in float32."""
        values = self.train_images.reshape(-1, self.input_shape[-1])
        mean = values.mean(0, dtype=np.float64)
        variance = np.square(values, dtype=np.float32).mean(0, dtype=np.float64) - mean**2
        deviation = np.sqrt(np.maximum(variance, 1e-6))  # a constant channel stays finite
        return mean.astype(np.float32), deviation.astype(np.float32)


def load(name, data_dir=None):
    """A data set by name.

    Args:
        name: `"digits"` (1,797 real 8×8 digits inside scikit-learn: no network) or the name
            of an image classification set of tensorflow-datasets, such as `"mnist"`,
            `"fashion_mnist"` or `"cifar10"`.
        data_dir: Where tensorflow-datasets keeps what it has prepared; `None` for its own
            default. A set that is not there yet is downloaded.

    Returns:
        A `Data`. The test images are the split `test`, or else `validation`, or else the
        last fifth of `train`; for the digits a fixed stratified fifth.

    Raises:
        DataError: A `ValueError`, for a name that nobody knows, and for a set that is no
            image classification or has images of different sizes.
        FileNotFoundError: When the set is not prepared and cannot be downloaded from here.

    >>> load("digits").train_images.shape
    (1437, 8, 8, 1)
    """
    return load_digits() if name == DIGITS else load_tfds(name, data_dir)


def load_digits():
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    images = digits.images.astype(np.uint8)[..., np.newaxis]
    labels = digits.target.astype(np.int32)
    train_images, test_images, train_labels, test_labels = train_test_split(
        images, labels, test_size=360, random_state=0, stratify=labels
    )
    return Data(DIGITS, train_images, train_labels, test_images, test_labels, classes=10)


def load_tfds(name, data_dir):
    import tensorflow_datasets as tfds

    directory = pathlib.Path(data_dir or os.environ.get("TFDS_DATA_DIR", tfds.core.constants.DATA_DIR))
    directory = directory.expanduser()
    if data_dir is not None and not directory.is_dir():
        raise FileNotFoundError(
            f"The data directory {str(directory)!r} does not exist. Create it to download into it, "
            "or name the one that tensorflow-datasets has prepared."
        )
    if not list(directory.glob(f"{name}/**/dataset_info.json")):
        prepare(name, directory)
    builder = tfds.builder(name, data_dir=directory)
    check_images(builder.info, name)
    train, test = splits(builder.info.splits)
    train, test = builder.as_dataset(split=[train, test], batch_size=-1, as_supervised=True)
    images = [np.asarray(part) for part in (train[0], test[0])]
    labels = [np.asarray(part, np.int32) for part in (train[1], test[1])]
    classes = builder.info.features[builder.info.supervised_keys[1]].num_classes
    return Data(name, images[0], labels[0], images[1], labels[1], classes)


def prepare(name, directory):
    """Downloads a set, or says within a few seconds why it cannot."""
    import tensorflow_datasets as tfds

    names = [DIGITS, *tfds.list_builders(with_community_datasets=False)]
    if name.split("/")[0] not in names:
        near = difflib.get_close_matches(name, names, n=1)
        raise DataError(
            f"Unknown data set {name!r}: it is neither {DIGITS!r}, nor prepared in {str(directory)!r}, "
            "nor known to tensorflow-datasets." + (f" Did you mean {near[0]!r}?" if near else "")
        )
    if not reachable(PROBE_ADDRESS):
        raise FileNotFoundError(
            f"The data set {name!r} is not prepared in {str(directory)!r}, and {PROBE_ADDRESS} cannot "
            f"be reached to download it. Use the data set {DIGITS!r}, which needs no network, or name "
            "the directory where tensorflow-datasets has prepared this one, or prepare it on a "
            f"machine with network (python -c \"import tensorflow_datasets as t; t.load('{name}')\") "
            "and copy ~/tensorflow_datasets."
        )
    # A folder for each: archives of different sets share file names.
    builder = tfds.builder(name, data_dir=directory)
    builder.download_and_prepare(download_dir=directory / "downloads" / name)


def reachable(address):
    """Whether a server answers within seconds; a thread, as name look-ups know no time limit."""
    answered = threading.Event()

    def ask():
        try:
            urllib.request.urlopen(address, timeout=PROBE_SECONDS)
        except OSError as error:
            if not isinstance(error, urllib.error.HTTPError):  # which is an answer all the same
                return
        answered.set()

    threading.Thread(target=ask, daemon=True).start()
    return answered.wait(PROBE_SECONDS)


def check_images(info, name):
    keys = info.supervised_keys
    features = dict(info.features) if hasattr(info.features, "keys") else {}
    image, label = (features.get(key) for key in keys) if keys and len(keys) == 2 else (None, None)
    if not hasattr(label, "num_classes") or image is None or len(image.shape) != 3:
        raise DataError(
            f"The data set {name!r} is no image classification: it needs an image and a class label "
            f"as its supervised keys. It has: {info.features!r}."
        )
    if None in image.shape:
        raise DataError(
            f"The images of {name!r} have no fixed size: {image.shape}. Choose a set whose images "
            "are all of one size, such as cifar10."
        )


def splits(available):
    for test in ("test", "validation"):
        if test in available:
            return "train", test
    return "train[:80%]", "train[80%:]"
