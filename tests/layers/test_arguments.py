"""Signatures: those of Keras' layers first, in their order, and inspectable as if they were written out."""

import inspect

import keras
import pytest

from bn_keras import (
    BatchNorm,
    DecorrelatedBatchNorm,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    RMSNorm,
    SyncBatchNorm,
)

PEERS = {
    BatchNorm: keras.layers.BatchNormalization,
    LayerNorm: keras.layers.LayerNormalization,
    GroupNorm: keras.layers.GroupNormalization,
    RMSNorm: getattr(keras.layers, "RMSNormalization", None),
}
# Where ours are further arguments of our own, Keras has them in other versions or not at all.
NOT_OF_EVERY_KERAS = {"renorm", "renorm_clipping", "renorm_momentum", "rms_scaling"}


def named(layer):
    """The arguments that have names, and their defaults, in their order."""
    parameters = inspect.signature(layer).parameters.values()
    return {each.name: each.default for each in parameters if each.kind is not each.VAR_KEYWORD}


@pytest.mark.parametrize("layer", PEERS, ids=lambda layer: layer.__name__)
def test_the_first_arguments_are_those_of_keras(layer):
    if PEERS[layer] is None:
        pytest.skip("this Keras has no such layer")
    theirs = {name: value for name, value in named(PEERS[layer]).items() if name not in NOT_OF_EVERY_KERAS}
    ours = {name: value for name, value in named(layer).items() if name not in NOT_OF_EVERY_KERAS}
    assert list(ours.items())[: len(theirs)] == list(theirs.items())


def test_a_signature_is_real():
    assert list(named(SyncBatchNorm)) == list(named(BatchNorm))
    assert named(SyncBatchNorm) == named(BatchNorm) | {"synchronized": True}
    assert list(named(InstanceNorm)) == list(named(GroupNorm))[1:]
    assert inspect.getfullargspec(LayerNorm.__init__).args[:4] == ["self", "axis", "epsilon", "center"]
    assert inspect.signature(BatchNorm).parameters["epsilon"].annotation is float


def test_arguments_by_position():
    layer = BatchNorm(1, 0.9, 1e-2, False, True, "ones")
    assert (layer.axis, layer.momentum, layer.epsilon, layer.center, layer.scale) == (1, 0.9, 1e-2, False, True)
    assert isinstance(layer.beta_initializer, keras.initializers.Ones)
    assert GroupNorm(4, 1).groups == 4
    assert SyncBatchNorm(1, 0.9).synchronized


@pytest.mark.parametrize("layer", [BatchNorm, DecorrelatedBatchNorm, LayerNorm, RMSNorm, SyncBatchNorm])
def test_what_python_refuses_is_refused(layer):
    with pytest.raises(TypeError, match="multiple values for argument 'axis'"):
        layer(1, axis=1)
    with pytest.raises(TypeError, match="too many positional arguments"):
        layer(*[-1] * 40)
    with pytest.raises((TypeError, ValueError), match="momentun"):
        layer(momentun=0.9)


def test_subclasses_change_defaults():
    """As users do, and `tests/drop_in.py` does."""

    class Biased(BatchNorm):
        def __init__(self, *args, unbiased=False, **kwargs):
            super().__init__(*args, unbiased=unbiased, **kwargs)

    assert not Biased(1).unbiased
    assert Biased.from_config(Biased(1, name="norm").get_config()).axis == 1
