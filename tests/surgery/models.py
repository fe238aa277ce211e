"""Models of every build that surgery has to understand, each made with a class of batch norm."""

import keras
import numpy as np

from bn_keras import BatchNorm
from bn_keras.surgery.tree import is_graph

KINDS = {kind.__name__: kind for kind in (keras.layers.BatchNormalization, BatchNorm)}


def functional(norm):
    x = keras.Input((6, 6, 3), name="image")
    y = keras.layers.Conv2D(4, 3, use_bias=False, name="conv")(x)
    y = keras.ops.relu(norm(name="first")(y)) + 1.0
    y = keras.layers.Dropout(0.5, seed=3)(y)
    y = keras.layers.GlobalAveragePooling2D()(y)
    return keras.Model(x, norm(name="last", epsilon=0.01, momentum=0.8)(y), name="functional")


def sequential(norm):
    layers = [keras.Input((6, 6, 3)), keras.layers.Conv2D(4, 3), norm(name="first"), keras.layers.ReLU()]
    return keras.Sequential([*layers, keras.layers.Flatten(), keras.layers.Dense(2)], name="row")


def nested(norm):
    base = sequential(norm)
    inner = keras.Model(base.inputs, norm(name="middle")(base.layers[2].output), name="inner")
    x = keras.Input((6, 6, 3))
    y = keras.layers.Flatten()(inner(x))
    return keras.Model(x, keras.layers.Concatenate()([y, base(x, training=False)]), name="outer")


def shared(norm):
    """One layer and one model, each called twice."""
    one, dense = norm(name="first"), keras.Sequential([keras.Input((3,)), keras.layers.Dense(3), norm(name="second")])
    a, b = keras.Input((3,), name="a"), keras.Input((3,), name="b")
    outputs = {"a": dense(one(a)), "b": dense(keras.ops.tanh(one(b)))}
    return keras.Model({"a": a, "b": b}, outputs, name="shared")


def wrapped(norm):
    layers = [keras.Input((5, 3)), keras.layers.TimeDistributed(norm(name="first")), keras.layers.GRU(3, seed=1)]
    return keras.Sequential([*layers, norm(name="last")], name="wrapped")


def first_axis(norm):
    x = keras.Input((3, 4, 4))
    return keras.Model(x, norm(axis=1, scale=False, name="first")(x), name="first_axis")


@keras.saving.register_keras_serializable(package="tests")
class Block(keras.layers.Layer):
    """Layers in every kind of attribute."""

    def __init__(self, norm, **kwargs):
        super().__init__(**kwargs)
        self.norm = norm
        self.dense = keras.layers.Dense(3)
        self.first = norm()
        self.listed = [keras.layers.ReLU(), (norm(center=False), keras.layers.Dense(3))]
        self.named = {"last": norm(name="last"), "again": self.first}

    def build(self, input_shape):
        self.weight = self.add_weight(shape=(), initializer="ones", name="weight")
        self.dense.build(input_shape)
        self.listed[1][1].build((None, 3))
        for each in (self.first, self.listed[1][0], self.named["last"]):
            each.build((None, 3))

    def call(self, x, training=None):
        x = self.listed[0](self.first(self.dense(x), training=training)) * self.weight
        x = self.listed[1][1](self.listed[1][0](x, training=training))
        return self.named["last"](x, training=training) + self.named["again"](x, training=training)

    def get_config(self):
        return {**super().get_config(), "norm": self.norm.__name__}

    @classmethod
    def from_config(cls, config):
        return cls(KINDS[config.pop("norm")], **config)


def block(norm):
    x = keras.Input((3,))
    return keras.Model(x, keras.layers.Dense(2)(Block(norm, name="block")(x)), name="with_block")


@keras.saving.register_keras_serializable(package="tests")
class Net(keras.Model):
    """A model of a class of its own."""

    def __init__(self, norm, **kwargs):
        super().__init__(**kwargs)
        self.norm = norm
        self.block = Block(norm)
        self.tail = keras.Sequential([norm(name="tail_norm"), keras.layers.Dense(2)])

    def call(self, x, training=None):
        return self.tail(self.block(x, training=training), training=training)

    def get_config(self):
        return {**super().get_config(), "norm": self.norm.__name__}

    @classmethod
    def from_config(cls, config):
        return cls(KINDS[config.pop("norm")], **config)


def subclassed(norm):
    model = Net(norm, name="net")
    model(np.zeros((2, 3), "float32"))
    return model


class Trained(keras.Model):
    """A functional model with a training step of its own."""

    def train_step(self, data):
        return {"seven": 7.0}


def own_class(norm):
    x = keras.Input((3,))
    return Trained(x, norm(name="first")(x), name="own_class")


def mixed(norm):
    x = keras.Input((3,), dtype="bfloat16")
    y = norm(name="first", dtype="mixed_bfloat16")(keras.layers.Dense(3, dtype="mixed_bfloat16")(x))
    return keras.Model(x, norm(name="last", dtype="float64")(y), name="mixed")


BUILDS = [functional, sequential, nested, shared, wrapped, first_axis, block, subclassed, own_class, mixed]


def inputs_of(model, random):
    if isinstance(model, keras.Sequential):
        inputs = model.inputs[0]
    else:
        inputs = model.input if is_graph(model) else keras.KerasTensor((None, 3))
    return keras.tree.map_structure(lambda each: random.normal(size=(4, *each.shape[1:])).astype("float32"), inputs)


def randomize(model, random):
    """Weights, γ, β and statistics that are all different from their first values."""
    for weight in model.weights:
        low, high = (0.5, 2.0) if "variance" in weight.name or weight.name == "gamma" else (-0.5, 0.5)
        weight.assign(random.uniform(low, high, weight.shape))
    return model


def outputs_of(model, x, **kwargs):
    return [np.asarray(y, np.float64) for y in keras.tree.flatten(model(x, **kwargs))]
