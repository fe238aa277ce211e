"""Training batches of every kind of split: the global batch depends on the seed and the step alone."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from bn_keras.experiments import load
from bn_keras.experiments.data import example_order, records
from tests.experiments.data.folders import write_folder

KINDS = ("arrays", "folder", "records")
EXAMPLES = 40


class Ramp(tfds.core.GeneratorBasedBuilder):
    """Fifty images of 2×2 pixels; the value of an image is its number."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {"image": tfds.features.Image(shape=(2, 2, 3)), "label": tfds.features.ClassLabel(num_classes=2)}
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features), supervised_keys=("image", "label")
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for i in range(50):
            yield i, {"image": np.full((2, 2, 3), i, np.uint8), "label": i % 2}


@pytest.fixture(scope="module")
def splits(tmp_path_factory):
    """A training split of each kind, 40 examples each."""
    root = write_folder(tmp_path_factory.mktemp("folder"), {"cat": 25, "dog": 25})
    prepared = tmp_path_factory.mktemp("prepared")
    Ramp(data_dir=prepared).download_and_prepare()
    return {
        "arrays": load(f"folder:{root}").train,
        "folder": load(f"folder:{root}", memory_limit=0).train,
        "records": load("ramp", prepared, memory_limit=0).train,
    }


def numbers(split, steps, batch_size=8, seed=3, **arguments):
    """The numbers of the images in the first elements, one row per element."""
    elements = split.batches(batch_size, seed=seed, **arguments).take(steps)
    return np.stack([images[:, 0, 0, 0] for images, _ in elements])


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pieces", [2, 4])
def test_pieces_are_the_global_batch_cut(splits, kind, pieces):
    whole = numbers(splits[kind], 7)
    cut = numbers(splits[kind], 7 * pieces, pieces=pieces)
    np.testing.assert_array_equal(cut.reshape(7, 8), whole)
    own = pieces // 2
    halves = [
        numbers(splits[kind], 7 * own, pieces=pieces, first_piece=first, own_pieces=own).reshape(7, 4)
        for first in (0, own)
    ]
    np.testing.assert_array_equal(np.concatenate(halves, axis=1), whole, "two workers see what one sees")


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_run_skips_the_finished_steps(splits, kind):
    whole = numbers(splits[kind], 14)
    for first_step in (3, 5, 12):  # 5 steps are one pass
        resumed = numbers(splits[kind], 2, first_step=first_step)
        np.testing.assert_array_equal(resumed, whole[first_step : first_step + 2])


@pytest.mark.parametrize("kind", KINDS)
def test_every_pass_holds_every_example_once_in_another_order(splits, kind):
    first, second = numbers(splits[kind], 10).reshape(2, EXAMPLES).tolist()
    assert len(set(first)) == EXAMPLES
    assert sorted(first) == sorted(second)
    assert first != second


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_follows_the_seed_of_the_call_and_no_other(splits, kind):
    tf.random.set_seed(1)
    first = numbers(splits[kind], 5)
    tf.random.set_seed(2)
    dataset = splits[kind].batches(8, seed=3).take(5)
    for _ in range(2):  # a second iterator begins at the same step
        np.testing.assert_array_equal(np.stack([images[:, 0, 0, 0] for images, _ in dataset]), first)
    assert (numbers(splits[kind], 5, seed=4) != first).any()


@pytest.mark.parametrize("kind", KINDS)
def test_labels_stay_with_their_images(splits, kind):
    labels_of = {}
    for images, labels in splits[kind].once(16):
        labels_of |= dict(zip(images.numpy()[:, 0, 0, 0].tolist(), labels.numpy().tolist(), strict=True))
    assert set(labels_of.values()) == {0, 1}
    for images, labels in splits[kind].batches(8, seed=0).take(5):
        assert [labels_of[number] for number in images.numpy()[:, 0, 0, 0].tolist()] == labels.numpy().tolist()
        assert (images.dtype, labels.dtype) == (tf.uint8, tf.int32)


@pytest.mark.parametrize("kind", KINDS)
def test_an_evaluation_sees_every_example_once_in_stored_order(splits, kind):
    sizes, seen = [], []
    for images, labels in splits[kind].once(16):
        sizes.append(len(labels))
        seen += images.numpy()[:, 0, 0, 0].tolist()
    assert sizes == [16, 16, 8]
    assert len(set(seen)) == splits[kind].examples == EXAMPLES
    if kind != "records":  # which tensorflow-datasets stores in an order of its own
        assert seen == sorted(seen)


def test_a_streamed_folder_has_the_batches_of_the_same_folder_in_memory(splits):
    for streamed, held in zip(
        splits["folder"].batches(8, seed=5).take(6), splits["arrays"].batches(8, seed=5).take(6), strict=True
    ):
        np.testing.assert_array_equal(streamed[0], held[0])
        np.testing.assert_array_equal(streamed[1], held[1])


def test_arrays_follow_the_example_order(splits):
    order = example_order(EXAMPLES, 8, seed=3)
    expected = [splits["arrays"].inputs[next(order)][:, 0, 0, 0] for _ in range(6)]
    np.testing.assert_array_equal(numbers(splits["arrays"], 6), expected)


@pytest.mark.slow
def test_records_that_exceed_the_buffer_still_come_once_in_a_pass(splits, monkeypatch):
    monkeypatch.setattr(records, "SHUFFLE_BUFFER", 7)
    assert len(np.unique(numbers(splits["records"], 5))) == EXAMPLES


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"pieces": 3}, "`batch_size` must be a positive multiple of `pieces`.*batch_size=8, pieces=3"),
        ({"pieces": 2, "first_piece": 2}, "pieces from 0 to pieces - 1 = 1. Received: first_piece=2"),
        ({"pieces": 2, "first_piece": 1, "own_pieces": 2}, "Received: first_piece=1, own_pieces=2"),
        ({"first_step": -1}, "`first_step` must be an int ≥ 0. Received: first_step=-1"),
    ],
)
def test_pieces_and_steps_out_of_range_are_refused(splits, kind, arguments, words):
    with pytest.raises(ValueError, match=words):
        splits[kind].batches(8, seed=0, **arguments)


def test_an_epoch_holds_every_example_once():
    batches = example_order(10, 4, seed=3)
    seen = np.concatenate([next(batches) for _ in range(5)])
    for epoch in (seen[:10], seen[10:]):
        assert sorted(epoch) == list(range(10))
    assert list(seen[:10]) != list(seen[10:])
    np.testing.assert_array_equal(np.concatenate([next(example_order(10, 4, seed=3))]), seen[:4])
