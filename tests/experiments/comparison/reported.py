"""A small comparison for the tests of its page, with few resamples, as the page needs many intervals."""

import contextlib
import dataclasses
import functools

import pytest

from bn_keras.experiments.comparison import analysis, figure_targets
from bn_keras.experiments.comparison.page import page_of
from bn_keras.lab.html import to_html
from tests.experiments.comparison import made_up

ARMS = (None, "batch", ("group", {"groups": 4}))


def comparison():
    """A comparison on data whose name HTML has to escape."""
    finished = made_up.comparison(norms=ARMS, trials=4, seeds=2, steps=400)
    return dataclasses.replace(finished, recipe=dataclasses.replace(finished.recipe, data="a<b>&c"))


@contextlib.contextmanager
def few_resamples():
    """Makes intervals quick, and wrong."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figure_targets, "LEVELS", 4)
        patch.setattr(analysis, "interval", functools.partial(analysis.interval, resamples=50))
        yield


def document():
    """The page of the comparison."""
    with few_resamples():
        return to_html(page_of(comparison()))
