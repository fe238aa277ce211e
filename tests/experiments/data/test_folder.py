"""Folders of images: layouts, corrupt files, sizes, and an error for each mistake."""

import os
import pathlib

import numpy as np
import pytest

from bn_keras.experiments import DataError, load
from tests.experiments.data.folders import write_folder, write_picture


def files_of(data, part):
    """Each image's number, that `write_folder` gave it."""
    return getattr(data, part).inputs[:, 0, 0, 0].tolist()


@pytest.mark.parametrize("test", ["test", "val", "validation"])
def test_the_test_folder_is_the_test(tmp_path, test):
    write_folder(tmp_path / "train", {"dog": 3, "cat": 2})
    write_folder(tmp_path / test, {"dog": 1, "cat": 2})
    data = load(f"folder:{tmp_path}")
    assert data.class_names == ("cat", "dog")
    assert data.classes == 2
    assert files_of(data, "train") == [3, 4, 0, 1, 2], "by class and name"
    assert data.train.labels.tolist() == [0, 0, 1, 1, 1]
    assert sorted(data.test.labels.tolist()) == [0, 0, 1]
    assert data.input_shape == (6, 5, 3)


def test_a_fifth_of_every_class_is_held_out(tmp_path):
    write_folder(tmp_path, {"cat": 20, "dog": 10, "emu": 2, "train": 6})
    data = load(f"folder:{tmp_path}")
    assert np.bincount(data.test.labels).tolist() == [4, 2, 1, 1]
    assert np.bincount(data.train.labels).tolist() == [16, 8, 1, 5]
    assert sorted(files_of(data, "train") + files_of(data, "test")) == list(range(38))
    assert files_of(load(f"folder:{tmp_path}"), "test") == files_of(data, "test")


@pytest.mark.slow
@pytest.mark.parametrize("memory_limit", [2**20, 0])
def test_the_first_test_images_are_of_all_classes(tmp_path, memory_limit):
    write_folder(tmp_path / "train", {"cat": 2, "dog": 2})
    write_folder(tmp_path / "test", {"cat": 20, "dog": 20})
    data = load(f"folder:{tmp_path}", memory_limit=memory_limit)
    labels = next(iter(data.test.once(12)))[1].numpy()
    assert 3 <= labels.sum() <= 9
    np.testing.assert_array_equal(next(iter(load(f"folder:{tmp_path}").test.once(12)))[1], labels)


def test_names_that_are_not_utf_8(tmp_path):
    write_folder(tmp_path, {"cat": 5, "dog": 5})
    (tmp_path / "cat" / "000.png").rename(os.fsdecode(os.fsencode(tmp_path) + b"/cat/\xff.png"))
    assert load(f"folder:{tmp_path}").train.examples == 8


def test_the_identity_of_a_stream_follows_the_names_and_classes_of_its_files(tmp_path):
    def identity(root):
        return load(f"folder:{root}", memory_limit=0).train.source.identity()

    first = identity(write_folder(tmp_path / "one", {"cat": 5, "dog": 5}))
    assert identity(write_folder(tmp_path / "copy", {"cat": 5, "dog": 5})) == first
    assert identity(write_folder(tmp_path / "other", {"cat": 5, "emu": 5})) != first
    assert identity(write_folder(tmp_path / "shift", {"cat": 6, "dog": 4})) != first


def test_corrupt_files_are_named_and_skipped(tmp_path):
    write_folder(tmp_path / "train", {"cat": 3, "dog": 3})
    write_folder(tmp_path / "test", {"cat": 1, "dog": 1})
    (tmp_path / "train" / "cat" / "001.png").write_bytes(b"no image")
    (tmp_path / "test" / "dog" / "notes.txt").write_text("no image by its name")
    (tmp_path / "test" / "dog" / ".DS_Store").write_text("hidden")
    for limit in (2**20, 0):
        data = load(f"folder:{tmp_path}", memory_limit=limit)
        assert data.skipped == ("train/cat/001.png", "test/dog/notes.txt")
        assert "2 skipped: train/cat/001.png, test/dog/notes.txt." in data.summary
        assert (data.train.examples, data.test.examples) == (5, 2)
    assert sorted(image.numpy()[0, 0, 0, 0] for image, _ in data.train.once(1)) == [0, 2, 3, 4, 5]


@pytest.mark.slow
def test_images_are_resized_to_the_size_asked_for(tmp_path):
    write_picture(tmp_path / "cat" / "wide.png", 1, height=10, width=30)
    write_picture(tmp_path / "cat" / "high.JPG", 1, height=30, width=10)
    write_folder(tmp_path, {"dog": 5})
    for limit in (2**20, 0):
        assert load(f"folder:{tmp_path}", image_size=8, memory_limit=limit).input_shape == (8, 8, 3)
        data = load(f"folder:{tmp_path}", image_size=(4, 6), memory_limit=limit)
        assert next(iter(data.train.once(5)))[0].shape == (5, 4, 6, 3)


def test_one_colour_image_makes_all_have_three_channels(tmp_path):
    write_folder(tmp_path, {"cat": 5, "dog": 5}, channels=1)
    assert load(f"folder:{tmp_path}").input_shape == (6, 5, 1)
    write_picture(tmp_path / "dog" / "colour.png", 0)
    data = load(f"folder:{tmp_path}")
    assert data.input_shape == (6, 5, 3)
    np.testing.assert_array_equal(data.train.inputs[..., 0], data.train.inputs[..., 2])


def nothing(root):
    root.rmdir()


def a_file(root):
    root.rmdir()
    root.write_text("")


def images_at_the_top(root):
    write_picture(root / "000.png", 0)


def images_in_train(root):
    write_folder(root / "test", {"cat": 1, "dog": 1})
    write_picture(root / "train" / "000.png", 0)


def no_classes(root):
    (root / "notes.txt").write_text("")


def one_class(root):
    write_folder(root, {"cat": 3})


def an_empty_class(root):
    write_folder(root, {"cat": 3})
    (root / "dog").mkdir()


def a_class_of_other_files(root):
    an_empty_class(root)
    (root / "dog" / "rex.webp").write_text("")


def a_class_of_corrupt_files(root):
    an_empty_class(root)
    (root / "dog" / "rex.png").write_text("")


def folders_in_a_class(root):
    write_folder(root / "Train", {"cat": 3, "dog": 3})
    write_folder(root / "Test", {"cat": 3, "dog": 3})


def other_classes_in_test(root):
    write_folder(root / "train", {"cat": 3, "dog": 3})
    write_folder(root / "test", {"cat": 3, "dogs": 3})


def train_alone(root):
    write_folder(root / "train", {"cat": 3, "dog": 3})


def evaluation_alone(root):
    write_folder(root / "test", {"cat": 3, "dog": 3})


def one_image_in_a_class(root):
    write_folder(root, {"cat": 3, "dog": 1})


def two_sizes(root):
    write_folder(root, {"cat": 3, "dog": 1})
    write_picture(root / "dog" / "large.png", 0, height=12)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (nothing, "images' does not exist. Check the path after 'folder:'"),
        (a_file, "images' is a file; 'folder:PATH' needs a folder"),
        (images_at_the_top, "images' holds images itself, such as '000.png'.*Move each into a folder named"),
        (images_in_train, "train' holds images itself, such as '000.png'"),
        (no_classes, "has no class folders. Expected PATH/train/CLASS/"),
        (one_class, "has one class only, 'cat'; a classification needs two or more"),
        (an_empty_class, "dog' has no images. Received: no files"),
        (a_class_of_other_files, "dog' has no images. Received: 1 other files, such as 'rex.webp'"),
        (a_class_of_corrupt_files, "None of the images in the class folder '.*dog' can be decoded. Replace"),
        (folders_in_a_class, "Test' must hold images, not folders. Received: 'cat' in it.*Expected PATH/train"),
        (other_classes_in_test, "must have the same classes. Received: dog, dogs in one of them only"),
        (train_alone, "has 'train' and lacks 'test'. Add that folder.*folder:.*images/train'"),
        (evaluation_alone, "has 'test' and lacks 'train'"),
        (one_image_in_a_class, "The class 'dog' has one image, .*Add images, or make the folders"),
        (two_sizes, "different sizes: .* has 6×5 .* has 12×5. Pass image_size=… \\(--image-size\\)"),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)
def test_a_mistake_is_named_with_its_fix(tmp_path, make, words):
    root = tmp_path / "images"
    root.mkdir()
    make(root)
    with pytest.raises(DataError, match=words):
        load(f"folder:{root}")


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(pathlib.Path, "iterdir", refuse)  # the tests may run as root, whom nothing is refused
    with pytest.raises(DataError, match="cannot be read: Permission denied. Change its permissions"):
        load(f"folder:{tmp_path}")
