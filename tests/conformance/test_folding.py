"""TFLite and TensorFlow's graph rewriter fold an inference into the convolution before it, without our help."""

import contextlib
import io
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from bn_keras import BatchNorm
from bn_keras.ops.batch_norm import infer
from bn_keras.ops.settings import Settings, State
from bn_keras.surgery import fold


def operators(model, data=None):
    """The names of the operators in the TFLite model that a Keras model is converted to.

    With `data`, batches for the ranges of all values, the model is quantized to int8.
    """
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if data is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([each] for each in data)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    content = converter.convert()
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        tf.lite.experimental.Analyzer.analyze(model_content=content)
    return re.findall(r"Op#\d+ (\w+)\(", printed.getvalue())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("convolution", "name"),
    [
        (keras.layers.Conv2D(4, 3, use_bias=False), "CONV_2D"),
        (keras.layers.DepthwiseConv2D(3), "DEPTHWISE_CONV_2D"),
    ],
)
@pytest.mark.parametrize("inside", [True, False], ids=["activation", "layer of its own"])
def test_tflite(random, convolution, name, inside):
    convolution = type(convolution).from_config(convolution.get_config())
    norm = BatchNorm(activation="relu" if inside else None)
    model = keras.Sequential([keras.Input((8, 8, 3), 2), convolution, norm, keras.layers.ReLU()])
    norm.set_weights([random.uniform(0.5, 2, weight.shape) for weight in norm.weights])
    assert operators(model) == [name]


@pytest.mark.slow
def test_int8_has_nothing_left_to_quantize_of_a_folded_norm(random):
    """A Dense layer along the last of four axes, whose norm tfmot refuses; and a ReLU before a norm."""
    layers = [keras.layers.Dense(5), BatchNorm(), keras.layers.Conv2D(4, 3, activation="relu"), BatchNorm()]
    model = keras.Sequential([keras.Input((8, 8, 3), 1), *layers, keras.layers.Conv2D(2, 3)])
    for weight in model.weights:
        weight.assign(random.uniform(0.5, 2, weight.shape))
    data = random.normal(size=(4, 1, 8, 8, 3)).astype("float32")
    names = operators(fold(model, report=None), data)
    assert set(names) <= {"RESHAPE", "FULLY_CONNECTED", "CONV_2D"}
    assert {"MUL", "ADD"} & set(operators(model, data)), "the norm after the ReLU was meant to stay"


def test_the_graph_rewriter(random):
    """Constant statistics become a part of the convolution's kernel, and one addition."""

    def executed(normalize):
        with tf.Graph().as_default():
            x = tf.constant(random.normal(size=(2, 8, 8, 3)), tf.float32)
            placeholder = tf.compat.v1.placeholder(tf.float32, x.shape)
            kernel = tf.constant(random.normal(size=(3, 3, 3, 4)), tf.float32)
            y = tf.nn.relu(normalize(tf.nn.conv2d(placeholder, kernel, 1, "SAME")))
            metadata = tf.compat.v1.RunMetadata()
            options = tf.compat.v1.RunOptions(output_partition_graphs=True)
            with tf.compat.v1.Session() as session:
                session.run(y, {placeholder: np.ones(x.shape)}, options=options, run_metadata=metadata)
        return {node.op for graph in metadata.partition_graphs for node in graph.node}

    def norm(x):
        scale, offset, *statistics = (tf.constant(random.uniform(0.5, 2, 4), tf.float32) for _ in range(4))
        return infer(x, scale, offset, State(*statistics), Settings(axes=(3,), epsilon=1e-3))

    assert "Mul" in executed(lambda x: norm(tf.nn.relu(x))), "nothing folds through a ReLU"
    assert not {"Mul", "Sub", "Rsqrt"} & executed(norm)
