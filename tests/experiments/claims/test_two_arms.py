"""What the claims that sweep learning rates share."""

import numpy as np
import pytest

from bn_keras.experiments import load
from bn_keras.experiments.claims.claim import Found
from bn_keras.experiments.claims.protocol import divergence_notes, edge_notes, fresh_runs, rise_note, swept_rates
from bn_keras.experiments.claims.training import train_curve
from bn_keras.experiments.claims.two_arms import build_sigmoid_network, words_of_arm
from bn_keras.experiments.network import build_network
from bn_keras.experiments.shared_trainer import last_trainer, shared_trainer
from bn_keras.experiments.training_recipe import TrainingRecipe
from tests.experiments.claims.planted_runs import planted_curve


@pytest.fixture(scope="module")
def digits():
    return load("digits")


def recipe(**changes):
    fields = {
        "preset": "mlp_sigmoid",
        "data": "digits",
        "width": 0.2,
        "optimizer": "sgd",
        "norm": None,
        "learning_rate": 1.0,
    }
    return TrainingRecipe(**fields | {"steps": 20, "evaluate_every": 10, "validation_examples": 300} | changes)


@pytest.mark.slow
def test_a_trainer_that_is_used_again_starts_with_its_own_gain(digits):
    trainer = shared_trainer(recipe(), digits)
    train_curve(recipe(), digits)
    again = train_curve(recipe(initial_gain=30.0), digits)
    assert shared_trainer(recipe(), digits) is trainer
    last_trainer.clear()
    assert train_curve(recipe(initial_gain=30.0), digits) == again
    assert train_curve(recipe(), digits) != again


@pytest.mark.slow
def test_a_run_ends_at_its_last_step_with_the_rate_of_a_longer_schedule(digits):
    long = recipe(steps=60, schedule="exponential")
    curve = train_curve(long, digits, last_step=20)
    assert curve["steps"] == [0, 10, 20]
    assert curve["accuracy"] == train_curve(long, digits)["accuracy"][:3]


def test_sigmoids_replace_every_relu_and_nothing_else(digits):
    small = recipe(preset="vgg_small", width=0.0625, norm="batch")
    plain, sigmoid = build_network(small, digits), build_sigmoid_network(small, digits)
    assert [weight.path for weight in plain.weights] == [weight.path for weight in sigmoid.weights]
    names = [layer.name for layer in plain.layers if type(layer).__name__ == "ReLU"]
    assert names
    assert all(sigmoid.get_layer(name).activation.__name__ == "sigmoid" for name in names)
    image = np.full((1, 8, 8, 1), 7.0, "float32")
    hidden = sigmoid.get_layer("hidden_2_relu")
    below = type(sigmoid)(sigmoid.inputs, [hidden.input, hidden.output])
    before, after = (value.numpy() for value in below([image]))
    np.testing.assert_allclose(after, 1 / (1 + np.exp(-before)), rtol=1e-5)


def test_notes_name_rates_at_the_edge_and_runs_that_diverged():
    rates = (0.1, 1.0, 10.0)
    best = {"none": 1.0, "batch": 10.0}
    cells = [{"norm": arm, "learning_rate": rate, "seed": 0} for arm in best for rate in rates]
    tuned = Found((cell, planted_curve(0.9 if cell["learning_rate"] == best[cell["norm"]] else 0.5)) for cell in cells)
    sweeps = {f"arm {arm}": ({"norm": arm}, rates) for arm in best}
    assert edge_notes(tuned, sweeps) == (
        "The best learning rate lies at an edge of the sweep: arm batch (10, the highest).",
    )
    cells = [{"norm": "none", "learning_rate": 3.0, "seed": seed} for seed in range(3)]
    found = Found((cell, planted_curve(diverged=cell["seed"] != 2)) for cell in cells)
    assert divergence_notes(found, words_of_arm) == ("2 of 3 runs diverged: without norm at 3 (seeds 0, 1).",)
    assert len(fresh_runs(found, norm="none")) == 2


def swept(best, rates=(0.1, 1.0, 10.0)):
    """The rates after all tuning that a sweep asks for; `best` holds the best rate of each arm."""
    arms, found = [{"norm": arm} for arm in best], Found()
    for _ in range(9):
        grown = swept_rates(found, arms, rates)
        cells = [arm | {"learning_rate": rate, "seed": 0} for arm in arms for rate in grown]
        found = Found(
            (cell, planted_curve(0.9 - abs(np.log10(cell["learning_rate"] / best[cell["norm"]])) / 10))
            for cell in cells
        )
    return grown


@pytest.mark.parametrize(
    ("none", "batch", "rates"),
    [
        (1.0, 1.0, (0.1, 1.0, 10.0)),
        (1.0, 10.0, (0.1, 1.0, 10.0, 30.0)),  # one arm at an edge: one more rate for both
        (1.0, 30.0, (0.1, 1.0, 10.0, 30.0, 100.0)),
        (1.0, 1e6, (0.1, 1.0, 10.0, 30.0, 100.0)),  # never more than two
        (0.001, 10.0, (0.01, 0.03, 0.1, 1.0, 10.0, 30.0)),
    ],
)
def test_a_sweep_grows_beyond_an_edge_for_all_arms(none, batch, rates):
    assert swept({"none": none, "batch": batch}) == rates


def test_a_note_says_what_a_baseline_still_gains():
    flat, rising = planted_curve(0.9, reached_at=0.5), planted_curve(0.9, reached_at=0.9)
    assert "the net gains 0.00 (0.00–80.00) points" in rise_note("the net", [flat, flat, rising])
    assert "–" in rise_note("the net", [planted_curve(diverged=True)])
