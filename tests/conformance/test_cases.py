"""The table is whole."""

import inspect

import keras

import bn_keras
from tests.conformance.cases import CASES, every


def public_layers():
    public = [getattr(bn_keras, name) for name in bn_keras.__all__]
    return {each for each in public if inspect.isclass(each) and issubclass(each, keras.layers.Layer)}


def test_every_public_layer_has_a_case():
    missing = {each for each in public_layers() if not any(issubclass(case.layer, each) for case in CASES)}
    assert not missing, "add them to tests/conformance/cases.py"


def test_names_are_those_of_one_case():
    assert len({case.name for case in CASES}) == len(CASES)


@every(CASES)
def test_statistics_are_what_no_gradient_trains(case):
    layer = case.make()
    layer.build(case.shape)
    assert bool(layer.non_trainable_weights) == case.statistics
