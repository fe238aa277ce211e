"""Classes that users write, and what a copy of their models must keep: outputs, weights, training and files."""

import collections
import importlib
import multiprocessing

import keras
import numpy as np
import tensorflow as tf

from bn_keras import BatchNorm, surgery
from bn_keras.surgery.reports import report

KERAS_BATCH_NORM = keras.layers.BatchNormalization
BATCH_NORM_OF = {"theirs": KERAS_BATCH_NORM, "ours": BatchNorm}
register = keras.saving.register_keras_serializable(package="everyday")

# Variables that folding may change or remove.
FOLDED = {
    "kernel", "depthwise_kernel", "pointwise_kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance",
    "scale", "offset",
}  # fmt: skip

# Variables that Keras leaves out of a `.keras` file.
SEEDS = {"seed_generator_state"}


def frozen(model):
    return surgery.freeze(model, scale_and_offset=True)


CHANGES = {"from_keras": surgery.from_keras, "freeze": frozen, "fold": surgery.fold}


def randomize(model, random):
    """Gives all that training changes random values; what `adapt` or a vocabulary set stays."""
    for weight in model.variables:
        if weight.name == "gamma" or ("variance" in weight.path.split("/")[-1] and weight.name.startswith("moving")):
            weight.assign(random.uniform(0.5, 1.5, weight.shape))
        elif weight.trainable or weight.name == "moving_mean":
            weight.assign(random.uniform(-0.5, 0.5, weight.shape))
    return model


def layers_inside(model):
    """Every layer that Keras tracks in a model; the only use of this private name in the tests of surgery."""
    return list(model._flatten_layers())


def kinds_inside(model):
    return collections.Counter(type(layer).__name__ for layer in layers_inside(model))


def outputs_of(model, x, training=False):
    """Outputs as a list of float64; `training=None` is a call that does not say what it is for."""
    outputs = keras.tree.flatten(model(keras.tree.map_structure(tf.constant, x), training=training))
    return [np.asarray(keras.ops.convert_to_numpy(y), np.float64) for y in outputs]


def assert_outputs(found, expected, tolerance=1e-5):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        assert np.abs(other).max() > 1e-3, "outputs of zero prove nothing"
        assert np.abs(one - other).max() <= tolerance * np.abs(other).max()


def values_of(model, without=()):
    """How often a model has each value of a variable, whatever the variable's path."""
    metrics = {id(variable) for variable in model.metrics_variables}
    variables = [each for each in model.variables if id(each) not in metrics and each.name not in without]
    arrays = [keras.ops.convert_to_numpy(each) for each in variables]
    return collections.Counter((np.squeeze(array).shape, array.tobytes()) for array in arrays)


def assert_copy(original, copy, x, tolerance=1e-5, folded=False):
    """The copy has the outputs of the given model, all its values, and variables of its own."""
    assert_outputs(outputs_of(copy, x), outputs_of(original, x), tolerance)
    without = FOLDED if folded else ()
    assert values_of(copy, without) == values_of(original, without)
    assert not {id(variable) for variable in original.variables} & {id(variable) for variable in copy.variables}
    assert [variable.trainable for variable in copy.trainable_variables] == [True] * len(copy.trainable_variables)


def assert_converted(copy):
    """No batch norm of Keras is left, but for those that the report names."""
    left = {layer.name for layer in layers_inside(copy) if type(layer) is KERAS_BATCH_NORM}
    assert not left or left <= {row.layer for row in report(copy).of("kept")}


def assert_saved(model, x, folder, imports=()):
    """A `.keras` file of a model has its outputs and values, in this process and in one that did not make it."""
    path = folder / f"{model.name}.keras"
    model.save(path)
    expected = outputs_of(model, x)
    loaded = keras.saving.load_model(path)
    assert_outputs(outputs_of(loaded, x), expected, 1e-6)
    assert values_of(loaded, SEEDS) == values_of(model, SEEDS)
    assert_outputs(in_a_fresh_process(load_and_call, str(path), x, imports), expected, 1e-6)


def in_a_fresh_process(function, *arguments, seconds=120):
    """The result of a function in a process forked from one that imports the classes of this file and makes nothing."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.surgery.everyday"])
    with context.Pool(1) as pool:
        return pool.apply_async(function, arguments).get(timeout=seconds)


def load_and_call(path, x, imports):
    for name in imports:
        importlib.import_module(name)
    return outputs_of(keras.saving.load_model(path), x)


def statistics_of(model):
    return [keras.ops.convert_to_numpy(each) for each in model.variables if each.name.startswith("moving_")]


def statistics_stay(model, x):
    """Whether a call in training leaves the statistics of all batch norms as they are."""
    before = statistics_of(model)
    assert before, "no statistics to move"
    outputs_of(model, x, training=True)
    return all(np.array_equal(one, other) for one, other in zip(before, statistics_of(model), strict=True))


def fitted(model, x, y, loss="mse"):
    """What a model answers and holds after it has been trained for two epochs."""
    keras.utils.set_random_seed(1)
    model.compile(keras.optimizers.SGD(0.05), loss)
    history = model.fit(x, y, epochs=2, batch_size=4, shuffle=False, verbose=0).history
    return history, outputs_of(model, x), sorted(float(np.abs(each).sum()) for each in model.get_weights())


def assert_train_alike(original, copy, x, y):
    (history, outputs, sums), (other_history, other_outputs, other_sums) = fitted(original, x, y), fitted(copy, x, y)
    assert history.keys() == other_history.keys()
    for name, values in history.items():
        np.testing.assert_allclose(other_history[name], values, rtol=1e-3, err_msg=name)
    assert_outputs(other_outputs, outputs, 1e-3)
    np.testing.assert_allclose(other_sums, sums, rtol=1e-3, atol=1e-5)


@register
class SqueezeExcite(keras.layers.Layer):
    """Makes its layers in `build`, as it does not know the channels before."""

    def __init__(self, ratio=2, **kwargs):
        super().__init__(**kwargs)
        self.ratio = ratio

    def build(self, input_shape):
        channels = input_shape[-1]
        self.squeeze = keras.layers.Dense(channels // self.ratio, activation="relu", name="squeeze")
        self.excite = keras.layers.Dense(channels, activation="sigmoid", name="excite")
        self.squeeze.build((None, channels))
        self.excite.build((None, channels // self.ratio))
        super().build(input_shape)

    def call(self, x):
        pooled = keras.ops.mean(x, axis=tuple(range(1, len(x.shape) - 1)), keepdims=True)
        return x * self.excite(self.squeeze(pooled))

    def get_config(self):
        return {**super().get_config(), "ratio": self.ratio}


@register
class TiedDecoder(keras.layers.Layer):
    """Logits by the transposed table of an embedding that the graph calls too."""

    def __init__(self, embedding, **kwargs):
        super().__init__(**kwargs)
        self.embedding = embedding

    def call(self, x):
        return keras.ops.matmul(x, keras.ops.transpose(self.embedding.embeddings))

    def get_config(self):
        return {**super().get_config(), "embedding": keras.saving.serialize_keras_object(self.embedding)}

    @classmethod
    def from_config(cls, config):
        return cls(keras.saving.deserialize_keras_object(config.pop("embedding")), **config)


@register
class GuideModel(keras.Model):
    """As the guide of Keras on `train_step` has it: its own loss and metric, twice the gradient."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.error = keras.metrics.MeanAbsoluteError(name="error")

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            predicted = self(x, training=True)
            loss = 2 * keras.ops.mean(keras.ops.square(y - predicted))
        self.optimizer.apply(tape.gradient(loss, self.trainable_variables), self.trainable_variables)
        self.error.update_state(y, predicted)
        return {"error": self.error.result()}


@register
class Calibrated(keras.Model):
    """A functional model made from arguments, with a weight and a `call` of its own."""

    def __init__(self, width, scale=3.0, **kwargs):
        x = keras.Input((4,), name="x")
        y = keras.layers.Dense(width, name="hidden")(x)
        y = keras.layers.Dense(2, name="out")(keras.ops.relu(KERAS_BATCH_NORM(name="norm")(y)))
        super().__init__(inputs=x, outputs=y, **kwargs)
        self.width, self.scale = width, scale
        self.temperature = self.add_weight(shape=(2,), initializer="ones", name="temperature")

    def call(self, inputs, training=None, mask=None):
        return super().call(inputs, training=training, mask=mask) * self.temperature * self.scale

    def get_config(self):
        return {"width": self.width, "scale": self.scale, "name": self.name}


@register
class Residual(keras.Sequential):
    """A Sequential model that adds its input, has a weight of its own and trains in its own way."""

    def __init__(self, layers=None, gain=1.0, **kwargs):
        super().__init__(layers, **kwargs)
        self.gain = gain

    def build(self, input_shape=None):
        super().build(input_shape)
        if not hasattr(self, "weight"):
            self.weight = self.add_weight(shape=(), initializer="ones", name="weight")

    def call(self, inputs, training=None, mask=None):
        return super().call(inputs, training=training, mask=mask) * self.weight * self.gain + inputs

    def train_step(self, data):
        x, y = data
        return {**super().train_step((x, -y)), "negated": 1.0}

    def get_config(self):
        return {**super().get_config(), "gain": self.gain}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        gain = config.pop("gain")
        model = super().from_config(config, custom_objects)
        model.gain = gain
        return model


@register
class ConvBlock(keras.layers.Layer):
    """Convolution, batch norm, ReLU, twice; the second batch norm follows a sum and cannot be folded before it."""

    def __init__(self, filters, norm="theirs", **kwargs):
        super().__init__(**kwargs)
        self.filters, self.norm = filters, norm
        self.conv = keras.layers.Conv2D(filters, 3, padding="same", use_bias=False, name="conv")
        self.first = BATCH_NORM_OF[norm](momentum=0.8, epsilon=0.01, name="first")
        self.second = BATCH_NORM_OF[norm](momentum=0.7, name="second")

    def build(self, input_shape):
        self.conv.build(input_shape)
        shape = (*input_shape[:-1], self.filters)
        self.first.build(shape)
        self.second.build(shape)
        super().build(input_shape)

    def call(self, x, training=None):
        y = keras.ops.relu(self.first(self.conv(x), training=training))
        return keras.ops.relu(self.second(y + x, training=training))

    def get_config(self):
        return {**super().get_config(), "filters": self.filters, "norm": self.norm}


@register
class Tower(keras.Model):
    """A subclassed model with its layers in a list and a dict."""

    def __init__(self, depth=2, norm="theirs", **kwargs):
        super().__init__(**kwargs)
        self.depth, self.norm = depth, norm
        self.denses = [keras.layers.Dense(4, name=f"dense_{i}") for i in range(depth)]
        self.norms = [BATCH_NORM_OF[norm](momentum=0.8, name=f"norm_{i}") for i in range(depth)]
        self.heads = {"norm": BATCH_NORM_OF[norm](name="head_norm"), "out": keras.layers.Dense(2, name="out")}

    def call(self, x, training=None):
        for dense, norm in zip(self.denses, self.norms, strict=True):
            x = keras.ops.tanh(norm(dense(x), training=training)) + x
        return self.heads["out"](self.heads["norm"](x, training=training))

    def get_config(self):
        return {"depth": self.depth, "norm": self.norm, "name": self.name}


@register
class Lists(keras.layers.Layer):
    """A custom layer with batch norms in a list, in a dict and in a dict of lists."""

    def __init__(self, norm="theirs", **kwargs):
        super().__init__(**kwargs)
        self.norm = norm
        self.listed = [BATCH_NORM_OF[norm](name="listed"), keras.layers.Dense(4, name="dense")]
        self.named = {"one": BATCH_NORM_OF[norm](name="one"), "more": [BATCH_NORM_OF[norm](name="more")]}

    def build(self, input_shape):
        for layer in (*self.listed, self.named["one"], *self.named["more"]):
            layer.build(input_shape)
        super().build(input_shape)

    def call(self, x, training=None):
        norm, dense = self.listed
        x = dense(keras.ops.tanh(norm(x, training=training)))
        x = keras.ops.tanh(self.named["one"](x, training=training))
        return self.named["more"][0](x, training=training)

    def get_config(self):
        return {**super().get_config(), "norm": self.norm}


@register
class Hidden(keras.layers.Layer):
    """A custom layer with a batch norm in an attribute of any name, or in a set."""

    def __init__(self, attribute, norm="theirs", **kwargs):
        super().__init__(**kwargs)
        self.attribute, self.norm = attribute, norm
        norm = BATCH_NORM_OF[norm](momentum=0.5, name="hidden_norm")
        setattr(self, attribute, {norm} if attribute == "in_a_set" else norm)

    @property
    def inner(self):
        held = getattr(self, self.attribute)
        return next(iter(held)) if self.attribute == "in_a_set" else held

    def build(self, input_shape):
        self.inner.build(input_shape)
        super().build(input_shape)

    def call(self, x, training=None):
        return self.inner(x, training=training)

    def get_config(self):
        return {**super().get_config(), "attribute": self.attribute, "norm": self.norm}


class Unconfigured(keras.layers.Layer):
    """A layer whose constructor takes what no config can hold, without a `get_config`."""

    def __init__(self, make_norm, **kwargs):
        super().__init__(**kwargs)
        self.norm = make_norm()

    def build(self, input_shape):
        self.norm.build(input_shape)
        super().build(input_shape)

    def call(self, x, training=None):
        return self.norm(x, training=training)


class UnconfiguredModel(keras.Model):
    """As `Unconfigured`, for a model that is called in another one."""

    def __init__(self, make_norm, **kwargs):
        super().__init__(**kwargs)
        self.norm = make_norm()

    def call(self, x, training=None):
        return self.norm(x, training=training)
