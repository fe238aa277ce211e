"""The layers of a model are found wherever a layer holds them, and changed in place."""

import collections

import keras
import pytest

from bn_keras.surgery.tree import at, held_by, layers_of, put, slots

Pair = collections.namedtuple("Pair", "first second")


class Holder(keras.layers.Layer):
    """Holds layers in every kind of container, and one in two places."""

    def __init__(self):
        super().__init__(name="holder")
        names = "plain listed named tupled paired in_set_2 in_set_10 _layers_x _self_x"
        made = {name: keras.layers.Identity(name=name) for name in names.split()}
        self.plain, self._layers_x, self._self_x = made["plain"], made["_layers_x"], made["_self_x"]
        self.listed = [0, [made["listed"]]]
        self.named = {"a": made["named"], "again": made["plain"]}
        self.tupled = (1, made["tupled"])
        self.paired = Pair(made["paired"], "text")
        self.in_set = {made["in_set_10"], made["in_set_2"]}


PATHS = {
    "plain": ("plain",),
    "listed": ("listed", 1, 0),
    "named": ("named", "a"),
    "tupled": ("tupled", 1),
    "paired": ("paired", 0),
    "in_set_2": ("in_set", 0),
    "in_set_10": ("in_set", 1),
    "_layers_x": ("_layers_x",),
    "_self_x": ("_self_x",),
}


def test_every_layer_is_found_once():
    holder = Holder()
    assert sorted(layer.name for layer in layers_of(holder)) == sorted(["holder", *PATHS])
    assert len(slots(holder)) == len(PATHS) + 1, "one layer is held in two places"
    assert held_by(keras.layers.Dense(2)) == []


@pytest.mark.parametrize("name", PATHS)
def test_a_layer_takes_the_place_of_another_one(name):
    """In the attribute, and at the same place of the order of weights, which is that of Keras' private account."""
    holder, new = Holder(), keras.layers.Dense(1, name="new")
    old, before = at(holder, PATHS[name]), [layer.name for layer in holder._flatten_layers(include_self=False)]
    assert old.name == name
    put(holder, PATHS[name], new)
    held = [layer for path, layer in slots(holder) if path != ("named", "again")]
    assert new in held
    assert old not in held
    after = [layer.name for layer in holder._flatten_layers(include_self=False)]
    assert after == ["new" if each == name else each for each in before]
    assert holder.paired.second == "text"


def test_a_built_holder_takes_a_layer_that_it_did_not_hold():
    holder = Holder()
    holder.build((None, 1))
    put(holder, ("late",), keras.layers.Dense(1, name="late"))
    assert holder.late.name == "late"
    with pytest.raises(ValueError, match="cannot add new elements"):
        holder.later = keras.layers.Dense(1)  # the holder is locked again


def test_what_is_not_there():
    assert at(Holder(), ("nothing",)) is None
    assert at(Holder(), ("plain", 0)) is None
    with pytest.raises(TypeError, match="Expected a Keras model. Received: 3"):
        layers_of(3)
