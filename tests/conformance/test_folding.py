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


def operators(model):
    """The names of the operators in the TFLite model that a Keras model is converted to."""
    content = tf.lite.TFLiteConverter.from_keras_model(model).convert()
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        tf.lite.experimental.Analyzer.analyze(model_content=content)
    return re.findall(r"Op#\d+ (\w+)\(", printed.getvalue())


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
