"""Both sides of each row in docs/migration.md compute the same, in training and in inference."""

import pathlib
import re

import keras
import numpy as np
import pytest

import bn_keras

PAGE = (pathlib.Path(__file__).parents[1] / "docs" / "migration.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `((keras|tf_keras|torch)\.[\w.]+\(.*?\))` \| `(.+?)` \|$", PAGE, re.MULTILINE)
SIDE = 6  # every axis has this size, so that a row may normalize any of them
STATISTICS = {"running_mean": "moving_mean", "running_var": "moving_variance"}


def test_there_are_rows_from_every_library():
    assert {library for _, library, _ in ROWS} == {"keras", "tf_keras", "torch"}
    assert len(ROWS) > 20


@pytest.mark.parametrize(("theirs", "library", "ours"), ROWS, ids=[row[0] for row in ROWS])
def test_both_sides_compute_the_same(theirs, library, ours, random):
    module = keras if library == "keras" else pytest.importorskip(library)
    theirs = eval(theirs, {library: module})
    ours = eval(ours, vars(bn_keras).copy())
    inputs = [random.normal(3, 2, [4, SIDE, SIDE, SIDE]).astype("float32") for _ in range(3)]
    run = in_torch if library == "torch" else in_keras
    for x in inputs:
        np.testing.assert_allclose(ours(x, training=True), run(theirs, x, training=True), rtol=0, atol=2e-5)
    np.testing.assert_allclose(ours(x, training=False), run(theirs, x, training=False), rtol=0, atol=2e-5)
    for name, values in statistics_of(theirs).items():
        np.testing.assert_allclose(getattr(ours, name), values, rtol=1e-5, err_msg=name)


def in_keras(layer, x, training):
    takes_training = "training" in layer.call.__code__.co_varnames
    return np.asarray(layer(x, training=training) if takes_training else layer(x))


def in_torch(layer, x, training):
    import torch

    layer.train(training)
    with torch.no_grad():
        return layer(torch.from_numpy(x)).numpy()


def statistics_of(layer):
    """The running statistics of a layer, by the names that ours has."""
    names = STATISTICS | {name: name for name in STATISTICS.values()}
    found = {ours: getattr(layer, theirs, None) for theirs, ours in names.items()}
    return {name: np.asarray(values) for name, values in found.items() if values is not None}
