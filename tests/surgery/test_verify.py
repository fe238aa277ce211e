"""A copy that computes something else is refused; the comparison leaves no trace, and says when it says nothing."""

import keras
import numpy as np
import pytest

from bn_keras import BatchNorm
from bn_keras.surgery import from_keras, report
from bn_keras.surgery.rewrite import rewrite
from bn_keras.surgery.verify import compared
from tests.surgery.models import randomize

KERAS_BATCH_NORM = keras.layers.BatchNormalization


class Lying(keras.layers.Layer):
    """Computes with a number that its config does not tell."""

    factor = 1.0

    def call(self, x):
        return x * self.factor

    def get_config(self):
        return super().get_config()


def lying(factor):
    model = keras.Sequential([keras.Input((3,)), KERAS_BATCH_NORM(), Lying()])
    model.layers[1].factor = factor
    return model


def test_a_copy_that_computes_something_else_is_refused():
    with pytest.raises(ValueError, match=r"does not compute what the model computes.* differ by .*verify=False"):
        from_keras(lying(2.0))
    copy = from_keras(lying(2.0), verify=False, report=None)
    assert str(report(copy).verified) == "Outputs not compared: verify=False; every weight is accounted for."


def test_how_far_outputs_are_apart(random):
    model = randomize(keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]), random)
    copy = rewrite(model, {})[0]
    assert compared(model, copy).largest_difference == 0
    copy.layers[0].bias.assign(copy.layers[0].bias + 1e-6)
    assert 1e-8 < compared(model, copy).largest_difference < 1e-4


class Noise(keras.layers.Layer):
    def __init__(self, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.generator = keras.random.SeedGenerator(seed)

    def call(self, x):
        return x + keras.random.normal((2, 3), seed=self.generator)


def test_a_model_that_draws_random_numbers_keeps_its_seeds():
    x = keras.Input((3,), batch_size=2)
    model = keras.Model(x, Noise()(KERAS_BATCH_NORM()(x)))
    before = keras.ops.convert_to_numpy(model.layers[-1].generator.state)
    copy = from_keras(model, report=None)
    assert (keras.ops.convert_to_numpy(model.layers[-1].generator.state) == before).all()
    assert (keras.ops.convert_to_numpy(copy.layers[-1].generator.state) == before).all()
    assert report(copy).verified.largest_difference == 0, "both draw the same numbers"
    copy.layers[-1].generator.state.assign(before + 7)
    assert "random numbers" in compared(model, copy).how


def test_the_states_of_an_rnn_stay():
    x = keras.Input((5, 3), batch_size=2)
    model = keras.Model(x, keras.layers.GRU(4, stateful=True)(KERAS_BATCH_NORM()(x)))
    copy = from_keras(model, report=None)
    assert not any(np.any(each) for each in (*model.layers[-1].states, *copy.layers[-1].states))


def test_outputs_of_nan_are_not_compared():
    model = keras.Sequential([keras.Input((3,)), KERAS_BATCH_NORM(), keras.layers.Lambda(lambda x: x * float("nan"))])
    assert "NaN" in report(from_keras(model, report=None)).verified.how


def test_a_dict_of_inputs_is_made_up():
    class Picky(keras.Model):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.norm = BatchNorm()

        def call(self, x):
            return self.norm(x["values"])

    model = Picky()
    model({"values": np.zeros((2, 3), "float32")})
    model.norm.moving_mean.assign([1.0, 2.0, 3.0])
    copy = rewrite(model, {})[0]
    assert copy.norm.moving_mean.numpy().tolist() == [1.0, 2.0, 3.0]
    assert compared(model, copy), "a dict of shapes is known"


def test_words_are_made_up():
    x = keras.Input((), dtype="string")
    vectors = keras.layers.TextVectorization(vocabulary=["a", "cat"], output_sequence_length=4)
    y = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(4, 3)(vectors(x)))
    assert report(from_keras(keras.Model(x, KERAS_BATCH_NORM()(y)), report=None)).verified


def test_rounding_that_a_model_amplifies_is_no_error():
    """A fold of such a model is off by more than the tolerance, and by no more than a unit of rounding would be."""
    amplify = keras.layers.Lambda(lambda x: keras.ops.sin(x * 1e4))
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(8), amplify, keras.layers.Dense(2)])
    copy = rewrite(model, {})[0]
    kernel = copy.layers[0].kernel
    kernel.assign(kernel * (1 + 4e-7))
    verified = compared(model, copy)
    assert verified.largest_difference is None or "rounding" in verified.how
    kernel.assign(-kernel)
    with pytest.raises(ValueError, match="does not compute"):
        compared(model, copy)
