"""The layout of a folder of images: its parts, its classes, and the mistakes that it may hold."""

import dataclasses
import pathlib

from bn_keras.experiments.data.dataset import DataError, shortened
from bn_keras.experiments.data.images import SUFFIXES

TEST_NAMES = ("test", "val", "validation")
LAYOUTS = (
    "Expected PATH/train/CLASS/*.png and PATH/test/CLASS/*.png, or PATH/CLASS/*.png; "
    f"files end in {', '.join(SUFFIXES)}."
)


@dataclasses.dataclass(frozen=True)
class Part:
    """The files of a part, sorted by class and name: `labels` count the sorted `classes`."""

    classes: tuple[str, ...]
    paths: tuple[pathlib.Path, ...]
    labels: tuple[int, ...]
    other: tuple[pathlib.Path, ...]  # files in class folders that are no images by their name


def parts_of(root: pathlib.Path) -> tuple[Part, Part | None]:
    """The training part and the test part; `None` where `root` holds the class folders themselves.

    Raises:
        DataError: When the layout is another one; the message says what to change.
    """
    folders, files = content_of(root)
    check_no_images(root, files)
    names = {folder.name for folder in folders}
    tests = [name for name in TEST_NAMES if name in names]
    if "train" in names and tests:
        train, test = part_of(root / "train"), part_of(root / tests[0])
        if train.classes != test.classes:
            different = sorted(set(train.classes) ^ set(test.classes))
            raise DataError(
                f"The folders 'train' and {tests[0]!r} in {str(root)!r} must have the same classes. Received: "
                f"{shortened(tuple(different))} in one of them only. Add the missing folders or remove the others."
            )
        return train, test
    if names and names <= {"train", *TEST_NAMES}:
        raise DataError(
            f"{str(root)!r} has {' and '.join(sorted(map(repr, names)))} and lacks "
            f"{'train' if tests else 'test'!r}. Add that folder, or name one folder of classes "
            f"('folder:{root / min(names)}') to hold out a fifth of it for the test."
        )
    return part_of(root), None


def part_of(folder):
    """The class folders in a folder, and their files."""
    classes, files = content_of(folder)
    check_no_images(folder, files)
    if not classes:
        raise DataError(f"{str(folder)!r} has no class folders. {LAYOUTS}")
    if len(classes) == 1:
        raise DataError(
            f"{str(folder)!r} has one class only, {classes[0].name!r}; a classification needs two or more. {LAYOUTS}"
        )
    paths, labels, other = [], [], []
    for label, each in enumerate(classes):
        images, rest = class_files(each)
        paths += images
        labels += [label] * len(images)
        other += rest
    return Part(tuple(each.name for each in classes), tuple(paths), tuple(labels), tuple(other))


def class_files(folder):
    """The images in a class folder, and its other files."""
    nested, files = content_of(folder)
    if nested:
        raise DataError(
            f"The class folder {str(folder)!r} must hold images, not folders. Received: {nested[0].name!r} in it. "
            f"Move its images up, or name the folder of classes. {LAYOUTS}"
        )
    images = [file for file in files if is_image(file)]
    if not images:
        received = f"{len(files):,} other files, such as {files[0].name!r}" if files else "no files"
        raise DataError(f"The class folder {str(folder)!r} has no images. Received: {received}. {LAYOUTS}")
    return images, [file for file in files if not is_image(file)]


def check_no_images(folder, files):
    images = [file for file in files if is_image(file)]
    if images:
        raise DataError(
            f"{str(folder)!r} holds images itself, such as {images[0].name!r}; their class is unknown. "
            f"Move each into a folder named after its class. {LAYOUTS}"
        )


def content_of(folder):
    """The folders and the files in a folder, sorted by name, without hidden ones."""
    try:
        visible = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
        entries = sorted(visible, key=lambda entry: entry.name)
        return [each for each in entries if each.is_dir()], [each for each in entries if not each.is_dir()]
    except FileNotFoundError:
        raise DataError(f"The folder {str(folder)!r} does not exist. Check the path after 'folder:'.") from None
    except NotADirectoryError:
        raise DataError(f"{str(folder)!r} is a file; 'folder:PATH' needs a folder. {LAYOUTS}") from None
    except OSError as error:
        raise DataError(
            f"The folder {str(folder)!r} cannot be read: {error.strerror}. Change its permissions or name another one."
        ) from error


def is_image(file):
    return file.suffix.lower() in SUFFIXES
