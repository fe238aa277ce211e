"""Norms by name: one list, options, and clear errors."""

import functools

import keras
import numpy as np
import pytest

import bn_keras
from bn_keras.models import build, norm, norms

CLASSES = {
    "batch": bn_keras.BatchNorm,
    "sync": bn_keras.SyncBatchNorm,
    "ghost": bn_keras.BatchNorm,
    "renorm": bn_keras.BatchNorm,
    "layer": bn_keras.LayerNorm,
    "group": bn_keras.GroupNorm,
    "instance": bn_keras.InstanceNorm,
    "rms": bn_keras.RMSNorm,
    "decorrelated": bn_keras.DecorrelatedBatchNorm,
}


def test_every_name_gives_its_layer():
    assert norms() == [None, *CLASSES, "standardized", "weight"]
    for name, layer in CLASSES.items():
        assert type(norm(name)) is layer
    assert norm("ghost").virtual_batch_size == 32
    assert norm("renorm").renorm
    assert isinstance(norm(None), keras.layers.Identity)


def test_options_reach_the_layer_and_overrule_those_of_a_pair():
    assert norm("batch", momentum=0.5, name="a").name == "a"
    assert norm(("group", {"groups": 8})).groups == 8
    assert norm(("group", {"groups": 8}), groups=4).groups == 4
    assert norm(functools.partial(bn_keras.BatchNorm, momentum=0.5)).momentum == 0.5
    assert norm(None, name="nothing").name == "nothing"


def test_each_call_gives_a_new_layer():
    assert norm("batch") is not norm("batch")


@pytest.mark.parametrize(
    ("kind", "options", "error", "words"),
    [
        ("bach", {}, ValueError, "Did you mean 'batch'"),
        (None, {"momentum": 0.5}, ValueError, "`norm=None` takes no options"),
        (("group", 8), {}, TypeError, "a pair of a name and a dict"),
        (3, {}, ValueError, "`norm` must be None, one of"),
        (lambda: None, {}, TypeError, "must return a new keras layer"),
        ("weight", {}, ValueError, "normalizes the kernels .* Call `bn_keras.models.linear_norm`"),
        (("standardized", {"groups": 4}), {}, ValueError, "Call `bn_keras.models.linear_norm`"),
    ],
)
def test_wrong_norms(kind, options, error, words):
    with pytest.raises(error, match=words):
        norm(kind, **options)


@pytest.mark.slow
def test_groups_that_do_not_fit_name_the_layer_and_groups_that_do():
    with pytest.raises(ValueError, match=r"'stem_norm'.*\(None, 28, 28, 24\).*\[2, 4\]"):
        build("inception_small", width=0.25, norm="group")
    model = build("inception_small", width=0.25, norm=("group", {"groups": 4}))
    assert np.isfinite(model(np.ones((2, 28, 28, 1), "float32"))).all()


def test_a_norm_of_single_values_is_refused():
    with pytest.raises(ValueError, match="'hidden_1_norm'.*each value would be normalized alone"):
        build("mlp_sigmoid", norm="instance")


def test_a_linear_layer_has_a_bias_where_no_norm_brings_an_offset():
    biased = {kind: build("mlp_sigmoid", norm=kind).layers[2].use_bias for kind in (None, "batch", "rms")}
    assert biased == {None: True, "batch": False, "rms": True}
