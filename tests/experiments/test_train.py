"""The training loop: repeatable, from the same start in both arms, and it ends on divergence."""

import keras
import numpy as np
import pytest

from bn_keras.experiments import DataError, default_recipe, load
from bn_keras.experiments.data import example_order
from bn_keras.experiments.train import Trainer
from bn_keras.models import build
from tests.experiments.data.folders import write_folder


def trainer(optimizer="sgd", norm="batch", preset="mlp_sigmoid", **changes):
    recipe = default_recipe(preset, steps=20, evaluate_every=10, optimizer=optimizer, width=0.2, **changes)
    return Trainer(lambda: build(preset, norm=norm, input_shape=(8, 8, 1), width=0.2), load("digits"), recipe)


def losses_of_a_plain_loop(trainer, learning_rate, seed, steps):
    """The same run, a step at a time, through Keras' own `train_on_batch`."""
    keras.utils.set_random_seed(seed)
    model = trainer.build()
    model.compile(
        keras.optimizers.SGD(learning_rate, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    digits = load("digits")
    mean, deviation = digits.moments()
    batches = example_order(len(digits.train.labels), trainer.recipe.batch_size, seed)
    losses = []
    for _ in range(steps):
        batch = next(batches)
        images = (digits.train.inputs[batch] - mean) / deviation
        model.reset_metrics()
        losses.append(float(model.train_on_batch(images, digits.train.labels[batch])))
    guesses = model.predict((digits.test.inputs - mean) / deviation, verbose=0).argmax(-1)
    return losses, float(np.mean(guesses == digits.test.labels))


@pytest.mark.parametrize("norm", [None, "batch"])
def test_the_compiled_interval_is_the_plain_loop(norm):
    ours = trainer("momentum", norm)
    evaluations = list(ours.run(0.3, seed=1))
    losses, accuracy = losses_of_a_plain_loop(ours, 0.3, seed=1, steps=20)
    assert [evaluation.step for evaluation in evaluations] == [0, 10, 20]
    np.testing.assert_allclose(
        [evaluation.loss for evaluation in evaluations[1:]], np.mean(np.reshape(losses, (2, 10)), 1), rtol=1e-3
    )
    assert abs(evaluations[-1].accuracy - accuracy) < 0.01
    assert 0 < evaluations[1].seconds < evaluations[2].seconds


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
def test_a_run_leaves_nothing_to_the_next(optimizer):
    ours = trainer(optimizer)
    first = [(e.loss, e.accuracy) for e in ours.run(0.05, seed=1)]
    list(ours.run(0.2, seed=2))
    again = [(e.loss, e.accuracy) for e in ours.run(0.05, seed=1)]
    assert [e[1] for e in again] == [e[1] for e in first]
    np.testing.assert_allclose([e[0] for e in again[1:]], [e[0] for e in first[1:]], rtol=1e-5)
    assert first[-1][0] < first[1][0]


def test_a_run_that_diverges_ends():
    evaluations = list(trainer(norm=None, preset="inception_small", optimizer="momentum").run(1e5, seed=0))
    assert evaluations[-1].step == 10
    assert not np.isfinite(evaluations[-1].loss)


def test_streamed_images_and_text_are_refused(tmp_path):
    root = write_folder(tmp_path / "images", {"cat": 5, "dog": 5})
    (tmp_path / "text.txt").write_text("to be or not to be " * 100)
    recipe = default_recipe("mlp_sigmoid", steps=20)
    for name, words in (
        (f"folder:{root}", "needs its images in memory. Received:.*streamed"),
        (f"text:{tmp_path}/text.txt", "is text"),
    ):
        with pytest.raises(DataError, match=words):
            Trainer(
                lambda: pytest.fail("a model was built"),
                load(name, memory_limit=0 if "folder" in name else 2**20),
                recipe,
            )


def test_evaluation_uses_the_first_test_images():
    whole, part = trainer(), trainer(evaluation_examples=7)
    assert float(whole._accuracy()) * 360 == pytest.approx(round(float(whole._accuracy()) * 360))
    assert float(part._accuracy()) * 7 == pytest.approx(round(float(part._accuracy()) * 7), abs=1e-4)
