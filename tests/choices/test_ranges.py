"""Ranges of numbers, and what refuses a number that would take all memory."""

import math

import numpy as np
import pytest

from bn_keras.choices.ranges import RANGES, Range
from bn_keras.experiments import Recipe, RecipeError, TrainingRecipe, load, memory, network, training_recipe
from bn_keras.experiments.claims.run import measure_claims
from bn_keras.models import build

RECIPES = {"train": TrainingRecipe, "compare": Recipe}
HUGE = 10**30


@pytest.mark.parametrize("allowed", RANGES.values(), ids=RANGES)
def test_no_range_holds_what_is_no_finite_number(allowed):
    for value in (math.nan, math.inf, -math.inf, HUGE, -1, "1", "", None, True, [1]):
        assert value not in allowed
    inside = allowed.most if not allowed.below else allowed.least
    assert allowed.kind(inside) in allowed
    assert np.float64(inside) in allowed or allowed.kind is int


def test_an_end_belongs_to_the_range_or_not():
    assert 0 not in Range(float, 0, 1, above=True)
    assert 1 not in Range(float, 0, 1, below=True)
    assert 0.5 in Range(float, 0, 1, above=True, below=True)
    assert 1.0 not in Range(int, 0, 1)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
@pytest.mark.parametrize("value", [-1, HUGE, math.nan, math.inf, "3", True])
def test_recipes_refuse_every_number_out_of_range(recipe, value):
    fields = [name for name in RANGES if name in recipe.__dataclass_fields__]
    assert len(fields) > 8
    for field in fields:
        with pytest.raises(RecipeError, match=f"`{field}` must be .* Received: {field}="):
            recipe(preset="mlp_sigmoid", data="digits", **{"validation_examples": 300, field: value})


@pytest.mark.parametrize("jobs", [0, HUGE, 1.5, True])
def test_numbers_of_processes_are_refused(jobs, tmp_path):
    with pytest.raises(ValueError, match=r"`jobs` must be an int in \[1, \d+\]. Received: jobs="):
        measure_claims([], tmp_path, jobs=jobs)


def test_digits_are_not_resized_beyond_the_memory_limit(monkeypatch):
    from bn_keras.experiments.data import source

    monkeypatch.setattr(source, "resized", lambda *arguments: pytest.fail("resized before the size was known"))
    with pytest.raises(ValueError, match="images of 4096×4096×1 take .* Choose a smaller `image_size`"):
        load("digits", image_size=4096)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("mlp_relu_deep", {"depth": 100_000}, "`depth` must be at most 1,000"),
        ("mlp_relu_deep", {"units": 100_000}, "would have about"),
        ("mlp_sigmoid", {"input_shape": (4096, 4096, 3)}, "would have about"),
        ("vgg_small", {"input_shape": (4096, 4096, 3)}, "would have about"),
        ("transformer_small", {"units": 2**16}, "would have about"),
    ],
)
def test_networks_of_too_many_weights_are_not_built(name, options, words):
    with pytest.raises(ValueError, match=words):
        build(name, **options)


@pytest.mark.slow
def test_a_batch_that_does_not_fit_is_refused(monkeypatch):
    from bn_keras.experiments import Trainer

    recipe = training_recipe("mlp_sigmoid", batch_size=60_000, steps=10)
    model = network.build_network(recipe, load("digits"))
    needed = 60_000 * memory.bytes_of_outputs(model)
    assert needed / 60_000 == 4 * (3 * 64 + 9 * 100 + 10), "input, preprocessing, flatten; 3 times 3 layers; logits"
    monkeypatch.setattr(memory, "memory_bytes", lambda: needed - 1)
    with pytest.raises(RecipeError, match=r"`batch_size` must be smaller: .* GiB in training, and this machine has"):
        Trainer(recipe, load("digits"))
    monkeypatch.setattr(memory, "memory_bytes", lambda: needed)
    Trainer(recipe, load("digits"))


def test_a_width_that_does_not_fit_is_refused_before_the_network_is_built(monkeypatch):
    recipe = training_recipe("mlp_sigmoid", width=16)
    widths = []
    built = build
    monkeypatch.setattr(network, "build", lambda *a, width, **k: widths.append(width) or built(*a, width=width, **k))
    monkeypatch.setattr(memory, "memory_bytes", lambda: 1e6)
    with pytest.raises(RecipeError, match=r"`width` must be smaller: the weights need about"):
        network.build_network(recipe, load("digits"))
    assert widths == [1.0]


@pytest.mark.slow
def test_large_images_are_evaluated_in_smaller_batches():
    from bn_keras.experiments import Trainer
    from bn_keras.experiments import trainer as module

    recipe = training_recipe("mlp_sigmoid", steps=10, evaluation_examples=7)
    trainer = Trainer(recipe, load("digits"))
    whole = trainer.evaluate()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "EVALUATION_VALUES", 64 * 3)
        sizes = [len(labels) for _, labels in trainer.evaluation_batches(trainer.data.test)]
        assert sizes == [3, 3, 1]
        assert trainer.evaluate() == whole
