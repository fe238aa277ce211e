"""The page of replicas, with losses in the place of runs: `tests/experiments/test_workers.py` makes real runs."""

import numpy as np
import pytest

from bn_keras.experiments.replicas import PLACES
from bn_keras.pages import replicas
from bn_keras.pages.registry import Request


@pytest.fixture
def page(monkeypatch):
    def losses_at(place, arguments):
        local = arguments[arguments.index("--norm") + 1] == "batch"
        return np.array([2.0, 1.0, 0.5]) * (1 + (place.replicas - 1) * (0.1 if local else 1e-7))

    monkeypatch.setattr(replicas, "losses_at", losses_at)
    return replicas.text(Request())


def test_each_network_has_a_row_for_each_place(page):
    for place in PLACES:
        assert page.count(f"| {place.name} |") == len(replicas.NETWORKS)


def test_differences_are_those_from_one_device(page):
    assert "| one device | loss 2.0000 → 0.5000 | loss 2.0000 → 0.5000 |" in page
    assert "| 4 replicas | 3.0e-07 | 3.0e-01 |" in page
    assert "| 2 workers | 1.0e-07 | 1.0e-01 |" in page


def test_the_commands_are_those_that_ran(page):
    for network in replicas.NETWORKS:
        assert f"\n{network.command}\n" in page
