"""Eager, `tf.function` and XLA: the same numbers, and no trace too many."""

import itertools

import pytest
import tensorflow as tf

from bn_keras import GroupNorm, InstanceNorm, LayerNorm, RMSNorm
from bn_keras.ops import traces
from bn_keras.ops.kernels import xla
from tests.conformance.cases import CASES, DISTINCT, FIRST, MAIN, dense, every
from tests.conformance.steps import all_close, data, outcome, ready
from tests.exhaustive import marked


@pytest.mark.sample(12)
@every(CASES)
def test_one_trace_per_shape_and_mode(random, case):
    x, _ = data(case, random, shape=(11, *case.shape[1:]))

    def train_and_infer(layer):
        for training in (True, False):
            layer(x, training=training)

    traces.forget()
    train_and_infer(case.make())
    first = traces.count()
    assert first <= 2
    layer = case.make()
    for _ in range(3):
        train_and_infer(layer)
    assert traces.count() == first


def is_main_mode(case, training, jit_compile):
    """Training by XLA for all; inference is one expression, and graphs run the ops that XLA compiles."""
    return case in FIRST or (training and jit_compile)


@pytest.mark.sample(16)
@pytest.mark.parametrize(
    ("case", "training", "jit_compile"),
    marked(list(itertools.product(DISTINCT, [True, False], [False, True])), is_main_mode),
    ids=str,
)
def test_compiled_is_eager(random, case, training, jit_compile):
    if jit_compile and case.needs_the_kernel and training:
        pytest.skip("fused=True is refused under XLA, which would lower the kernel to a formula that cancels")
    x, dy = data(case, random)
    layer = ready(case.make(), case, random)
    weights = layer.get_weights()
    eager = outcome(layer, x, dy, training)
    layer.set_weights(weights)
    compiled = tf.function(lambda x, dy: outcome(layer, x, dy, training), jit_compile=jit_compile)
    all_close(compiled(x, dy), eager, 2e-5)


@pytest.mark.slow
@pytest.mark.sample(8)
@pytest.mark.parametrize(
    ("case", "dtype"),
    marked(
        [(case, dtype) for case in DISTINCT if not case.needs_the_kernel for dtype in ("float32", "bfloat16")],
        lambda case, dtype: dtype == "float32" or case in FIRST,
    ),
    ids=str,
)
def test_passes_compiled_by_xla_are_those_of_single_ops(random, monkeypatch, case, dtype):
    x, dy = data(case, random, dtype)
    layer = ready(case.make(dtype=dtype), case, random)
    weights = layer.get_weights()
    single = outcome(layer, x, dy, training=True)
    layer.set_weights(weights)
    monkeypatch.setattr(xla, "FROM_ELEMENTS", 0)
    all_close(outcome(layer, x, dy, training=True), single, 2e-5 if dtype == "float32" else 2e-2)


@every(DISTINCT)
def test_inference_is_left_to_single_ops(random, monkeypatch, case):
    """An exported model is not to be compiled anew for every batch that it is served."""
    monkeypatch.setattr(xla, "FROM_ELEMENTS", 0)
    layer, x = ready(case.make(), case, random), data(case, random)[0]

    def compiled_by_xla(**call):
        graph = tf.function(lambda x: layer(x, **call)).get_concrete_function(x).graph.as_graph_def()
        return any(function.attr["_XlaMustCompile"].b for function in graph.library.function)

    assert not compiled_by_xla()
    assert not compiled_by_xla(training=False)
    if type(layer) in {LayerNorm, RMSNorm, GroupNorm, InstanceNorm} and not getattr(layer, "rms_scaling", False):
        assert compiled_by_xla(training=True)


@pytest.mark.sample(7)
@pytest.mark.parametrize(
    ("case", "masked"),
    marked(
        [(case, masked) for case in CASES for masked in {False, case.mask} if not case.needs_the_kernel],
        lambda case, masked: case in MAIN,
    ),
    ids=str,
)
def test_xla_compiles_a_shape_once(case, masked):
    """What the forward pass hands to the backward pass holds no shapes: XLA would have to know them, batch by batch."""
    if case.wrapped is dense:
        pytest.skip("Keras' Dense keeps the shape of an input of rank 3")
    layer = case.make()
    layer.build(case.shape)

    @tf.function(jit_compile=True)
    def call(x):
        return layer(x, training=True, **({"mask": x[..., 0] > 0} if masked else {}))

    @tf.function(input_signature=[tf.TensorSpec((None, *case.shape[1:]))])
    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = call(x)
        return tape.gradient(y, x)

    library = step.get_concrete_function().graph.as_graph_def().library.function
    forward = [each.signature for each in library if "forward_call" in each.signature.name]
    assert forward
    integers = (tf.int32.as_datatype_enum, tf.int64.as_datatype_enum)
    assert not [output.name for each in forward for output in each.output_arg if output.type in integers]
