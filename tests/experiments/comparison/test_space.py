"""The space that the tuning searches: equal trials for all arms, and when it is widened."""

import collections
import dataclasses
import math

import pytest

from bn_keras.experiments.comparison.space import Space, Trial

SPACE = Space(learning_rate=(0.001, 10.0))
MIDDLE = Trial(learning_rate=0.1, warmup=0.05, weight_decay=1e-4, initial_gain=1.0)


@pytest.mark.parametrize("count", range(1, 18))
def test_a_longer_draw_begins_with_the_shorter_one(count):
    trials = SPACE.draw(count)
    assert len(trials) == count
    assert trials == SPACE.draw(17)[:count]


def test_all_trials_differ_and_lie_in_the_space():
    trials = SPACE.draw(64)
    assert len(set(trials)) == 64
    for trial in trials:
        assert 0.001 <= trial.learning_rate <= 10
        assert 0.5 <= trial.initial_gain <= 2
        assert trial.warmup in SPACE.warmup
        assert trial.weight_decay in SPACE.weight_decay


def test_sixteen_trials_fill_every_quarter_of_a_range_and_every_level():
    trials = SPACE.draw(16)
    decades = collections.Counter(math.floor(math.log10(trial.learning_rate)) for trial in trials)
    assert decades == {-3: 4, -2: 4, -1: 4, 0: 4}
    quarters = collections.Counter(math.floor(2 * math.log2(trial.initial_gain)) for trial in trials)
    assert quarters == {-2: 4, -1: 4, 0: 4, 1: 4}
    for field in ("warmup", "weight_decay"):
        assert min(collections.Counter(getattr(trial, field) for trial in trials).values()) >= 4, field


def test_rates_and_gains_have_three_digits():
    for trial in SPACE.draw(64):
        assert trial.learning_rate == float(f"{trial.learning_rate:.3g}")
        assert trial.initial_gain == float(f"{trial.initial_gain:.3g}")


@pytest.mark.parametrize(
    ("changes", "edges"),
    [
        ({}, []),
        ({"learning_rate": 0.0031}, [("learning_rate", "low")]),  # an eighth of four decades is half a decade
        ({"learning_rate": 0.0033}, []),
        ({"learning_rate": 3.0}, []),
        ({"learning_rate": 3.3}, [("learning_rate", "high")]),
        ({"initial_gain": 0.59}, [("initial_gain", "low")]),  # an eighth of a factor of four is 2^(1/4)
        ({"initial_gain": 0.6}, []),
        ({"initial_gain": 1.67}, []),
        ({"initial_gain": 1.7}, [("initial_gain", "high")]),
        ({"warmup": 0.0, "weight_decay": 0.0}, []),  # there is nothing below zero
        ({"warmup": 0.2}, [("warmup", "high")]),
        ({"weight_decay": 5e-4}, [("weight_decay", "high")]),
        ({"learning_rate": 9.0, "weight_decay": 5e-4}, [("learning_rate", "high"), ("weight_decay", "high")]),
    ],
)
def test_the_outer_eighth_of_a_range_and_the_highest_level_are_edges(changes, edges):
    assert sorted(SPACE.edges_of(dataclasses.replace(MIDDLE, **changes))) == edges


@pytest.mark.parametrize(
    ("field", "end", "part", "whole"),
    [
        ("learning_rate", "low", (1e-4, 1e-3), (1e-4, 10)),
        ("learning_rate", "high", (10, 100), (1e-3, 100)),
        ("initial_gain", "low", (0.25, 0.5), (0.25, 2)),
        ("initial_gain", "high", (2, 4), (0.5, 4)),
        ("warmup", "high", (0.5,), (0.0, 0.05, 0.2, 0.5)),
        ("weight_decay", "high", (2e-3,), (0.0, 1e-4, 5e-4, 2e-3)),
    ],
)
def test_widening_adds_a_decade_a_factor_of_two_or_a_level_and_nothing_else(field, end, part, whole):
    found = SPACE.widened(field, end)
    for space, values in zip(found, (part, whole), strict=True):
        assert getattr(space, field) == pytest.approx(values)
        assert dataclasses.replace(space, **{field: getattr(SPACE, field)}) == SPACE
    for trial in found[0].draw(4):
        assert part[0] <= getattr(trial, field) <= part[-1]
