"""Where ops run, what compiles them, and the two private names of TensorFlow: they are where they were."""

import logging
import pathlib
import re

import pytest
import tensorflow as tf

from bn_keras.ops import compiler, dispatch
from bn_keras.ops.compiler import accelerated, in_xla_context, quiet_function
from bn_keras.ops.kernels import composed, fused
from bn_keras.ops.settings import Settings
from tests.processes import script_result


def traced_in_xla(**settings):
    seen = []

    @tf.function(**settings)
    def outer(x):
        @tf.function
        def inner(x):
            seen.append(in_xla_context())
            return x

        return inner(x)

    outer(tf.ones(1))
    return seen


def test_xla_is_noticed_from_inside_a_nested_function():
    assert traced_in_xla(jit_compile=True) == [True]
    assert traced_in_xla(jit_compile=False) == [False]
    assert not in_xla_context()


def test_auto_clustering_is_noticed():
    tf.config.optimizer.set_jit("autoclustering")
    try:
        assert in_xla_context()
    finally:
        tf.config.optimizer.set_jit(False)


def warnings_about_tracing(function, caplog):
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="tensorflow"):
        for size in range(1, 9):
            function(tf.ones(size))
    return [record for record in caplog.records if "retracing" in record.getMessage()]


def test_many_shapes_give_no_warning(caplog):
    logger = tf.get_logger()
    logger.addHandler(caplog.handler)
    try:
        assert warnings_about_tracing(tf.function(lambda x: x + 1), caplog), "a plain tf.function was meant to warn"
        assert not warnings_about_tracing(quiet_function(lambda x: x + 1), caplog)
    finally:
        logger.removeHandler(caplog.handler)


GPU = tf.config.LogicalDevice(name="/device:GPU:0", device_type="GPU")


@pytest.fixture
def visible_gpu(monkeypatch):
    """A process that sees a GPU, as far as the lists of devices say."""
    listed = tf.config.list_logical_devices
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind=None: [GPU] if kind == "GPU" else listed(kind))


def in_scope(device, call):
    with tf.device(device):
        return call()


def test_a_hidden_gpu_does_not_count(monkeypatch):
    """`tf.config.set_visible_devices([], "GPU")` leaves it among the physical devices."""
    listed = tf.config.list_physical_devices
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: [GPU] if kind == "GPU" else listed(kind))
    assert not accelerated()
    seen = []
    tf.function(lambda: seen.append(accelerated()), autograph=False)()
    assert seen == [False]
    assert not in_scope("GPU:0", accelerated), "soft placement runs it on the CPU"


def test_the_scope_says_where_ops_run(monkeypatch, visible_gpu):
    seen = {}

    def note(name, scope=None):
        def call():
            with tf.device(scope):
                seen[name] = accelerated()

        return call

    in_scope("CPU:0", note("eager"))
    in_scope("CPU:0", tf.function(note("around a function"), autograph=False))
    tf.function(note("CPU in a function", "CPU:0"), autograph=False)()
    tf.function(note("GPU in a function", "GPU:0"), autograph=False)()
    monkeypatch.setattr(compiler, "eager_device", lambda: "/job:localhost/replica:0/task:0/device:GPU:0")
    note("no scope")()
    tf.function(note("no scope in a function"), autograph=False)()
    assert seen == {
        "eager": False,
        "around a function": False,
        "CPU in a function": False,
        "GPU in a function": True,
        "no scope": True,
        "no scope in a function": True,
    }


@pytest.mark.slow
@pytest.mark.parametrize("vectorized", [True, False])
@pytest.mark.parametrize("axis", [1, 3])
def test_the_processor_does_not_steer_a_gpu(monkeypatch, visible_gpu, vectorized, axis):
    monkeypatch.setattr(compiler, "eager_device", lambda: "/device:GPU:0")
    monkeypatch.setattr(fused, "kernel_is_vectorized", lambda: vectorized)
    chosen = {}

    @tf.function(input_signature=[tf.TensorSpec([16, 32, 32, 32])])
    def choose(x):
        settings = Settings((axis,), epsilon=1e-3)
        chosen["large"] = dispatch.kernel_for(x, None, settings)
        chosen["small"] = dispatch.kernel_for(x[:2, :, :, :][:, :, :2], None, settings)
        return 0

    choose.get_concrete_function()
    assert chosen == {"large": fused, "small": composed}


@pytest.mark.slow
def test_logical_devices():
    """A scope of another CPU is a CPU; each device has a trace of its own."""
    assert script_result("tests.ops.two_processors") == {"accelerated": False, "devices": ["CPU:0", "CPU:1"]}


def test_everything_goes_by_the_one_rule():
    """No other module of ops or layers asks for devices."""
    package = pathlib.Path(compiler.__file__).parents[1]
    modules = [path for part in ("ops", "layers") for path in (package / part).rglob("*.py")]
    asking = [path.name for path in modules if re.search(r"list_(logical|physical)_devices", path.read_text())]
    assert asking == ["compiler.py"]
