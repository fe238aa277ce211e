"""Traces: few, whatever the shapes and numbers, and right."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from bn_keras import BatchNorm, DecorrelatedBatchNorm, GroupNorm, LayerNorm
from bn_keras.ops import traces
from bn_keras.ops.kernels import xla
from tests.layers.test_batch_norm import close
from tests.processes import script_result

LAYERS = [BatchNorm, lambda: BatchNorm(virtual_batch_size=4), DecorrelatedBatchNorm, LayerNorm, lambda: GroupNorm(2)]
NAMES = ["batch", "virtual", "decorrelated", "layer", "group"]


@pytest.fixture(autouse=True)
def nothing_known():
    traces.forget()


def by_xla():
    return sum(key[0] == "XLA" for key in traces._FUNCTIONS)


def step(layer, x, **call):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, training=True, **call)
    return y, *tape.gradient(y, [x, *layer.trainable_variables], y)


@pytest.mark.slow
@pytest.mark.sample(3)
@pytest.mark.parametrize("make", LAYERS, ids=NAMES)
@pytest.mark.parametrize("masked", [False, True])
def test_shapes_share_a_trace_from_the_third_one_on(random, make, masked):
    """And the shared trace gives what one of known sizes gives."""
    layers = make(), make()
    if masked and not isinstance(layers[0], BatchNorm | DecorrelatedBatchNorm):
        pytest.skip("it takes no mask")
    for layer in layers:
        layer.build((None, None, 4))
    counts = []
    for examples in range(3, 20):
        x = tf.constant(random.normal(2, 3, (examples, 5 + examples % 3, 4)), tf.float32)
        call = {"mask": tf.constant(random.uniform(size=x.shape[:2]) > 0.3)} if masked else {}
        ours = step(layers[0], x, **call)
        counts.append(traces.count())
        tf.config.run_functions_eagerly(True)
        truth = step(layers[1], x, **call)
        tf.config.run_functions_eagerly(False)
        for one, other in zip([*ours, *layers[0].weights], [*truth, *layers[1].weights], strict=True):
            close(one, other, 2e-5)
    assert counts[:3] == [1, 2, 3]
    assert counts[-1] == 3


def test_a_shape_that_comes_back_gets_a_trace_of_its_own():
    layer = LayerNorm()
    sizes = [3, 4, 5, 6]
    for _ in range(traces.CALLS):
        for size in sizes:
            layer(tf.ones([size, 8]))
    assert traces.count() == len(sizes) + 1
    assert all(traces.is_steady(tf.ones([size, 8]), (1,)) for size in sizes)


@pytest.mark.slow
def test_many_shapes_that_come_back_do_not():
    """As with text of a few hundred lengths over many epochs."""
    layer = LayerNorm()
    for _ in range(2 * traces.CALLS):
        for size in range(1, 3 * traces.RECENT):
            layer(tf.ones([size, 8]))
    assert traces.count() == traces.EXACT["eager"] + 1


@pytest.mark.slow
def test_numbers_are_no_part_of_a_trace():
    x = tf.constant([[1.0], [3.0], [8.0]])
    layer = BatchNorm(renorm=True, renorm_clipping={"rmax": 2.0, "rmin": 0.5, "dmax": 1.0}, bias_correction=True)
    layer.build(x.shape)
    weights = layer.get_weights()
    for i in range(500):
        layer.set_weights(weights)
        layer.momentum = layer.renorm_momentum = 1 - 1 / (i + 1)
        layer.epsilon = 1e-3 * (i + 1)
        layer.renorm_clipping["rmax"] = 2.0 + i
        layer(x, training=True)
        np.testing.assert_allclose(layer.renorm_mean, [4 * (1 - layer.renorm_momentum)], rtol=1e-4)
        np.testing.assert_allclose(layer.moving_mean, [4.0], rtol=1e-6)
    assert traces.count() == 1


def test_a_momentum_of_one_with_bias_correction_keeps_the_statistics():
    """The share of the new batch is 0 / 0 there, and momentum is no longer known to the trace."""
    layer = BatchNorm(momentum=1.0, bias_correction=True)
    layer(tf.constant([[1.0], [3.0]]), training=True)
    np.testing.assert_array_equal(layer.moving_mean, [0.0])


def test_the_least_recently_used_trace_is_dropped(monkeypatch):
    monkeypatch.setattr(traces, "LIMIT", 3)
    layers = {channels: LayerNorm() for channels in range(2, 8)}
    for channels, layer in layers.items():
        layer(tf.ones([3, channels]))
        layers[2](tf.ones([3, 2]))
    assert traces.count() == 3
    shapes = [shapes[0] for _, _, _, shapes, *_ in traces._FUNCTIONS]
    assert shapes == [(3, 6), (3, 7), (3, 2)]


@pytest.mark.sample(1)
@pytest.mark.slow
@pytest.mark.parametrize("make", [LAYERS[0], LAYERS[3], LAYERS[4]], ids=["batch", "layer", "group"])
def test_xla_compiles_no_shapes_that_keep_changing(monkeypatch, make):
    monkeypatch.setattr(xla, "FROM_ELEMENTS", 0)
    monkeypatch.setitem(traces.EXACT, "graph", 3)  # of eight, which take long
    layer = make()
    layer.build((None, None, 4))
    for examples in range(3, 30):
        step(layer, tf.ones([examples, 5, 4]))
    assert by_xla() == 2 * traces.EXACT["eager"], "a forward and a backward pass for each of the first shapes"
    # A function of the user that is traced for each shape.
    traced = tf.function(lambda x: step(layer, x))
    for examples in range(40, 60):
        traced(tf.ones([examples, 5, 4]))
    assert by_xla() == 2 * (traces.EXACT["eager"] + traces.EXACT["graph"])


@pytest.mark.slow
def test_a_graph_of_the_user_leaves_nothing_here():
    layer = BatchNorm()
    layer.build((None, 4))
    traced = tf.function(lambda x: (step(layer, x), layer(x)))
    for examples in range(2, 30):
        traced(tf.ones([examples, 4]))
    assert traces.count() == 0


def test_settings_that_are_equal_in_python_and_differ_in_kind():
    """1 == True == 1.0: each is a trace of its own, or a float, which is none."""

    @dataclasses.dataclass(frozen=True)
    class Settings:
        value: object

    def branch(x, settings):
        return tf.constant(type(settings.value).__name__)

    values = [traces.run(branch, (tf.ones([2, 3]), Settings(value)), (1,)).numpy() for value in (1, True, None)]
    assert values == [b"int", b"bool", b"NoneType"]


@pytest.mark.slow
def test_memory_stays_where_it_is():
    """800 shapes eagerly, in a function of the user, and 800 momenta; in a process of its own."""
    result = script_result("tests.ops.many_shapes")
    for name, (megabytes, count) in result.items():
        assert megabytes < 10, (name, result)
        assert count <= 12, (name, result)
