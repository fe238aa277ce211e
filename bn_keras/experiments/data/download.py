"""Downloads of tensorflow-datasets, and the reasons why a download is impossible, within seconds."""

import difflib
import os
import pathlib

from bn_keras.experiments.data.dataset import DataError
from bn_keras.lab.extras import packages_of
from bn_keras.models.imagenet import reachable

DIGITS = "digits"
PROBE_ADDRESS = "https://storage.googleapis.com"
PROBE_SECONDS = 2


def prepared_builder(name: str, data_dir: str | os.PathLike | None):
    """The builder of a prepared set of tensorflow-datasets; `prepare` downloads what is missing."""
    with packages_of("lab"):
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
    return tfds.builder(name, data_dir=directory)


def prepare(name, directory):
    """Downloads a set, or says within a few seconds why it cannot."""
    with packages_of("lab"):
        import tensorflow_datasets as tfds

    names = [DIGITS, *tfds.list_builders(with_community_datasets=False)]
    if name.split("/")[0] not in names:
        near = difflib.get_close_matches(name, names, n=1)
        raise DataError(
            f"Unknown data set {name!r}: it is neither {DIGITS!r}, nor prepared in {str(directory)!r}, "
            "nor known to tensorflow-datasets. Your own files are 'folder:PATH' or 'text:PATH'."
            + (f" Did you mean {near[0]!r}?" if near else "")
        )
    if not reachable(PROBE_ADDRESS, PROBE_SECONDS):
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
