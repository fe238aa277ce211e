"""The training loop: repeatable, equal to a plain loop of Keras, and it ends on divergence."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from bn_keras.experiments import RecipeError, Trainer, load, training_recipe
from bn_keras.experiments.data import example_order
from bn_keras.experiments.feed import StreamFeed
from bn_keras.experiments.network import build_network
from bn_keras.experiments.steps import Parts, compile_interval
from tests.processes import script_result


@pytest.fixture(scope="module")
def digits():
    return load("digits")


def trainer_of(digits, preset="mlp_sigmoid", **changes):
    fields = {"steps": 20, "evaluate_every": 10, "width": 0.2, "learning_rate": 0.05} | changes
    return Trainer(training_recipe(preset, "digits", **fields), digits)


def plain_loop(digits, recipe):
    """The same run, a step at a time, through Keras' own `train_on_batch`; the mean losses and the last accuracy."""
    keras.utils.set_random_seed(recipe.seed)
    model = build_network(recipe, digits)
    model.compile(
        keras.optimizers.SGD(recipe.learning_rate, momentum=0.9, global_clipnorm=recipe.clip_norm),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    batches = example_order(digits.train.examples, recipe.batch_size, recipe.seed)
    losses = []
    for _ in range(recipe.steps):
        batch = next(batches)
        model.reset_metrics()
        losses.append(float(model.train_on_batch(digits.train.inputs[batch], digits.train.labels[batch])))
    guesses = model.predict(digits.test.inputs, verbose=0).argmax(-1)
    means = np.mean(np.reshape(losses, (-1, recipe.evaluate_every)), 1)
    return means, float(np.mean(guesses == digits.test.labels))


@pytest.mark.sample(1)
@pytest.mark.slow
@pytest.mark.parametrize("changes", [{"norm": None}, {"norm": "batch"}, {"norm": "batch", "clip_norm": 0.5}])
def test_the_compiled_interval_is_the_plain_loop_of_keras(digits, changes):
    trainer = trainer_of(digits, optimizer="momentum", learning_rate=0.3, seed=1, **changes)
    evaluations = list(trainer.run())
    losses, accuracy = plain_loop(digits, trainer.recipe)
    assert [evaluation.step for evaluation in evaluations] == [0, 10, 20]
    np.testing.assert_allclose([evaluation.loss for evaluation in evaluations[1:]], losses, rtol=1e-3)
    assert abs(evaluations[-1].accuracy - accuracy) < 0.01
    assert 0 < evaluations[1].seconds < evaluations[2].seconds


@pytest.mark.slow
def test_clipping_changes_the_run(digits):
    free, clipped = (list(trainer_of(digits, clip_norm=norm).run())[-1].loss for norm in (None, 0.01))
    assert abs(free - clipped) > 0.01


@pytest.mark.slow
@pytest.mark.sample(2)
@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": "sgd"},
        {"optimizer": "momentum", "schedule": "cosine", "warmup": 5},
        {"optimizer": "adam"},
        {"optimizer": "adamw", "weight_decay": 0.1, "augment": ("shift", "rotate")},
        {"dtype": "mixed_float16"},
    ],
    ids=str,
)
def test_a_run_leaves_nothing_to_the_next(digits, changes):
    trainer = trainer_of(digits, **changes)
    first = [(e.loss, e.accuracy) for e in trainer.run(0.05, seed=1)]
    other = [(e.loss, e.accuracy) for e in trainer.run(0.2, seed=2)]
    again = [(e.loss, e.accuracy) for e in trainer.run(0.05, seed=1)]
    assert again == first
    assert other != first
    assert first[-1][0] < first[1][0]


@pytest.mark.slow
def test_a_run_that_diverges_ends(digits):
    trainer = trainer_of(digits, "inception_small", norm=None, learning_rate=1e5)
    evaluations = list(trainer.run())
    assert evaluations[-1].step == 10
    assert not np.isfinite(evaluations[-1].loss)


@pytest.mark.slow
def test_evaluation_uses_the_first_test_examples(digits):
    trainer = trainer_of(digits, evaluation_examples=7)
    model = trainer.model
    right = model.predict(digits.test.inputs[:7], verbose=0).argmax(-1) == digits.test.labels[:7]
    assert trainer.evaluate() == pytest.approx(right.mean())
    count = int(sum(len(labels) for _, labels in trainer_of(digits).evaluation_batches(digits.test)))
    assert count == digits.test.examples


@pytest.mark.slow
@pytest.mark.sample(1)
@pytest.mark.parametrize("norm", [None, "layer"])
def test_accumulation_of_gradients_is_the_step_of_the_whole_batch(digits, norm):
    whole, parts = (list(trainer_of(digits, norm=norm, accumulate=count).run()) for count in (1, 4))
    np.testing.assert_allclose([e.loss for e in parts[1:]], [e.loss for e in whole[1:]], rtol=1e-5)


@pytest.mark.slow
def test_accumulation_takes_the_statistics_of_each_part(digits):
    whole, parts = (list(trainer_of(digits, norm="batch", accumulate=count).run()) for count in (1, 4))
    assert abs(whole[-1].loss - parts[-1].loss) > 1e-4


@pytest.mark.sample(1)
@pytest.mark.slow
@pytest.mark.parametrize("clip_norm", [None, 0.5])
def test_accumulation_of_sparse_gradients(tmp_path, clip_norm):
    (tmp_path / "text").write_text("The quick brown fox jumps over the lazy dog. " * 40)
    data = load(f"text:{tmp_path / 'text'}", length=8)
    recipe = training_recipe(
        "transformer_small", data.name, steps=2, evaluate_every=2, batch_size=8, clip_norm=clip_norm, optimizer="sgd",
        options={"depth": 1, "units": 8, "heads": 2}, learning_rate=0.5, width=1.0,
    )  # fmt: skip
    whole, parts = (
        list(Trainer(dataclasses.replace(recipe, accumulate=count), data).run())[-1].loss for count in (1, 4)
    )
    assert parts == pytest.approx(whole, rel=1e-5)


def test_brightness_stays_in_the_range_of_the_images(digits):
    augmentation = trainer_of(digits, augment=("brightness", "contrast")).augmentation
    images = digits.train.inputs[:64].astype("float32")
    changed = augmentation(images, training=True).numpy()
    assert 0.1 < np.abs(changed - images).max() < 16
    assert changed.min() >= 0
    assert changed.max() <= 16
    assert (changed.std((1, 2, 3)) > 1).all(), "no image is lost"


@pytest.mark.slow
def test_a_stream_trains_as_the_arrays_do(digits):
    trainer = trainer_of(digits, augment=("shift",))
    from_arrays = [(e.loss, e.accuracy) for e in trainer.run()]
    trainer.feed = StreamFeed(digits.train, trainer.recipe.batch_size, trainer.strategy)
    parts = Parts(trainer.model, trainer.optimizer, trainer.augmentation, trainer.strategy, trainer.recipe)
    trainer.train_interval = compile_interval(parts, trainer.feed)
    assert [(e.loss, e.accuracy) for e in trainer.run()] == from_arrays


@pytest.mark.slow
def test_evaluation_reads_a_stream_to_its_end(digits):
    trainer = trainer_of(digits)
    accuracy = trainer.evaluate()

    class Stream:
        inputs, examples, once = None, digits.test.examples, digits.test.once

    trainer.data = dataclasses.replace(digits, test=Stream())
    assert trainer.evaluate() == accuracy


def test_augmentation_differs_from_step_to_step_and_spares_evaluation(digits):
    trainer = trainer_of(digits, augment=("shift",))
    images = tf.cast(digits.train.inputs[:4], tf.float32)
    once, twice = (trainer.augmentation(images, training=True).numpy() for _ in range(2))
    assert (once != twice).any()
    assert trainer.evaluate() == trainer.evaluate()


@pytest.mark.slow
def test_replicas_have_random_states_of_their_own_and_resume_exactly(tmp_path):
    result = script_result("tests.experiments.random_replicas", str(tmp_path))
    assert len(set(map(tuple, result["states"]))) == 4  # two augmentations in two replicas
    assert result["equal"]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16", "float64"])
def test_precisions(digits, dtype):
    before = keras.config.dtype_policy().name
    trainer = trainer_of(digits, dtype=dtype, steps=60, learning_rate=0.5)
    evaluations = list(trainer.run())
    assert evaluations[-1].loss < 0.5 * evaluations[1].loss
    assert trainer.model.layers[-1].compute_dtype == dtype.removeprefix("mixed_")
    assert trainer.model.trainable_weights[0].dtype == ("float64" if dtype == "float64" else "float32")
    assert keras.config.dtype_policy().name == before


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"batch_size": 6, "accumulate": 6}, "`batch_size` must be a multiple of 6"),
        ({"data": "text"}, "`augment` must be empty"),
    ],
)
def test_a_recipe_that_does_not_fit_is_refused(digits, changes, words):
    data = digits
    if changes.pop("data", None):
        data = dataclasses.replace(digits, input_shape=(64,))
        changes["augment"] = ("flip",)
    with pytest.raises(RecipeError, match=words):
        Trainer(training_recipe("mlp_sigmoid", "digits", **changes), data)
