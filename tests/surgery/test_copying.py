"""What a copy takes over from a model: its calls, attributes and variables; what it cannot take over is refused."""

import keras
import numpy as np
import pytest

from bn_keras import BatchNorm
from bn_keras.surgery import fold, from_keras, report
from bn_keras.surgery.persisting import CannotCopyError
from bn_keras.surgery.rewrite import rewrite
from tests.surgery.models import outputs_of, randomize

KERAS_BATCH_NORM = keras.layers.BatchNormalization


@keras.saving.register_keras_serializable(package="tests")
class Configured(keras.Model):
    """A functional model whose constructor makes the graph."""

    def __init__(self, width, name=None):
        x = keras.Input((3,))
        y = keras.layers.Dense(width, name="dense")(x)
        super().__init__(x, KERAS_BATCH_NORM(name="norm")(y), name=name)
        self.taps = {"dense": y}
        self.counter = keras.metrics.Sum(name="counter")
        self.describe = self.described
        self.settings = {"width": width, "list": [1, 2]}

    def get_config(self):
        return {"name": self.name, "width": self.settings["width"]}

    def described(self):
        return self.name, self.settings["width"]


def test_the_attributes_of_a_functional_model(random):
    model = randomize(Configured(4, name="mine"), random)
    model.counter.update_state(3.0)
    copy = from_keras(model, report=None)
    assert copy.get_config()["original"]["config"] == model.get_config() == {"name": "mine", "width": 4}
    assert copy.describe() == ("mine", 4)
    assert copy.describe.__self__ is copy
    assert copy.settings == model.settings
    assert copy.settings is not model.settings
    assert copy.counter is not model.counter
    features = keras.Model(copy.input, copy.taps["dense"])
    x = random.normal(size=(2, 3)).astype("float32")
    expected = keras.Model(model.input, model.taps["dense"])(x)
    np.testing.assert_array_equal(features(x), expected, err_msg="the tensor belongs to the copy's own graph")
    assert features.get_layer("dense") is copy.get_layer("dense")


def test_a_copy_of_a_configured_model_can_be_saved(tmp_path, random):
    model = randomize(Configured(4), random)
    x = random.normal(size=(2, 3)).astype("float32")
    for copy in (from_keras(model, report=None), fold(model, report=None)):
        copy.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        np.testing.assert_array_equal(outputs_of(loaded, x), outputs_of(copy, x))
        assert isinstance(loaded, Configured)
        assert loaded.describe()[1] == 4


class Borrowing(keras.layers.Layer):
    """Uses the kernel of another layer, which Keras then counts twice."""

    def __init__(self, lender=None, **kwargs):
        super().__init__(**kwargs)
        self.lender_kernel = None if lender is None else lender.kernel

    def build(self, input_shape):
        if self.lender_kernel is None:
            self.lender_kernel = self.add_weight(shape=(3, 3), name="kernel")

    def call(self, x):
        return keras.ops.matmul(x, self.lender_kernel)

    def get_config(self):
        return super().get_config()


def test_a_variable_that_two_layers_share_by_itself_is_refused():
    x, dense = keras.Input((3,)), keras.layers.Dense(3, use_bias=False)
    y = dense(x)
    model = keras.Model(x, KERAS_BATCH_NORM()(Borrowing(dense)(y)))
    with pytest.raises(CannotCopyError, match=r"'kernel' of the layer .* belongs to several layers.*Share the layer"):
        from_keras(model)


class Growing(keras.layers.Layer):
    """Makes a variable more than its config tells."""

    def __init__(self, more=0, **kwargs):
        super().__init__(**kwargs)
        self.more = more

    def build(self, input_shape):
        for i in range(1 + self.more):
            self.add_weight(shape=(), name=f"weight_{i}")

    def call(self, x):
        return x

    def get_config(self):
        return super().get_config()


def test_a_config_that_forgets_arguments_is_refused():
    model = keras.Sequential([keras.Input((3,)), Growing(more=1, name="growing"), KERAS_BATCH_NORM()])
    message = r"copy of the layer 'growing' \(Growing\) has the variables weight_0 \(\), but the layer has weight_0"
    with pytest.raises(CannotCopyError, match=message):
        from_keras(model)


def test_what_is_dropped_is_named(random):
    from bn_keras import GroupNorm
    from bn_keras.surgery import replace

    model = randomize(keras.Sequential([keras.Input((4,)), BatchNorm(name="norm")]), random)
    copy = replace(model, {BatchNorm: lambda old: GroupNorm(groups=2)}, report=None)
    (row,) = report(copy).of("dropped")
    assert (row.layer, row.why) == ("norm", "GroupNorm has no moving_mean and no moving_variance of this shape")


def test_a_copy_shares_nothing_with_the_model(random):
    model = randomize(Configured(4), random)
    copy, _, _ = rewrite(model, {})
    assert type(copy) is Configured, "a copy without changes has the class itself"
    assert not {id(each) for each in model.variables} & {id(each) for each in copy.variables}
    assert [each.path.split("/")[-1] for each in copy.variables] == [
        each.path.split("/")[-1] for each in model.variables
    ]
