"""What all tests share."""

import gc
import os
import sys
import types

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("MPLBACKEND", "agg")

import keras
import numpy as np
import psutil
import pytest

PROCESS = psutil.Process()
collected_at = [0]  # the memory in bytes after the last collection
# Collecting their examples would import them: one puts our layers in Keras' place, the other holds errors on purpose.
collect_ignore = ["drop_in.py", "typing_example.py"]


def pytest_addoption(parser):
    parser.addoption("--fast", action="store_true", help="run the first case of each test, and no test marked slow")
    parser.addoption("--exhaustive", action="store_true", help="run all cases of all tests")


def pytest_collection_modifyitems(config, items):
    fast, exhaustive = config.getoption("--fast"), config.getoption("--exhaustive")
    by_function = {}
    for item in items:
        by_function.setdefault(item.nodeid.partition("[")[0], []).append(item)
    kept = set()
    for cases in by_function.values():
        cases = cases if exhaustive else usual(cases)
        if fast:
            cases = [item for item in cases[:1] if not item.get_closest_marker("slow")]
        kept.update(cases)
    chosen = [item for item in items if item in kept]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    slow_files = {item.path for item in chosen if item.get_closest_marker("slow")}
    items[:] = sorted(chosen, key=lambda item: item.path not in slow_files)  # quick files fill up the cores at the end


def usual(cases):
    """The cases of a function that run without `--exhaustive`."""
    cases = [item for item in cases if not item.get_closest_marker("exhaustive")]
    sample = cases and cases[0].get_closest_marker("sample")
    if not sample:
        return cases
    count = min(*sample.args, len(cases))
    return [cases[i * len(cases) // count] for i in range(count)]


def pytest_collection_finish():
    """Settings of the whole process. A hook reaches the examples in docstrings too, which fixtures of this file do not.

    The modules of TensorFlow are half a million objects: no garbage collection has to look at them again. And a
    comparison would measure the cost of a step for seconds per arm.
    """
    gc.collect()
    gc.freeze()
    step_cost = sys.modules.get("bn_keras.experiments.comparison.step_cost")  # the tests of layers do not import it
    if step_cost:
        step_cost.TURN_SECONDS = 0.001


@pytest.fixture(autouse=True, scope="module")
def modules_are_frozen():
    """What the tests of a module leave behind, such as functions that TensorFlow keeps, is not looked at either."""
    from bn_keras.ops import traces

    yield
    traces.forget()
    keras.backend.clear_session()
    gc.collect()
    gc.freeze()


@pytest.fixture
def random():
    return np.random.default_rng(0)


@pytest.fixture(autouse=True)
def seeds_and_policy():
    """Every test starts from the same seeds and leaves the dtype policy as it was."""
    keras.utils.set_random_seed(0)
    policy = keras.config.dtype_policy()
    yield
    keras.config.set_dtype_policy(policy)


@pytest.fixture(autouse=True)
def collected():
    """Drops traces and networks when the process has grown.

    Each trace keeps the functions of its derivatives, compiled ones too. Python collects by the number of objects, not
    by their bytes, and keeps gigabytes of networks.
    """
    from bn_keras.ops import traces

    yield
    if PROCESS.memory_info().rss > collected_at[0] + 64e6:
        traces.forget()
        gc.collect()
        collected_at[0] = PROCESS.memory_info().rss


@pytest.fixture(autouse=True)
def doctest_names(doctest_namespace):
    import tensorflow as tf

    doctest_namespace.update(keras=keras, np=np, tf=tf)


@pytest.fixture(params=["single ops", "kernel", "xla"])
def implementation(request, monkeypatch):
    """Each implementation in turn, on an input of any size and whatever the processor."""
    from bn_keras.ops.kernels import fused, xla

    never = float("inf")
    monkeypatch.setattr(fused, "FROM_ELEMENTS", 0 if request.param == "kernel" else never)
    monkeypatch.setattr(xla, "FROM_ELEMENTS", 0 if request.param == "xla" else never)
    monkeypatch.setattr(fused, "kernel_is_vectorized", lambda: True)
    return request.param


@pytest.fixture
def forked_exports(monkeypatch):
    """Forks the processes of exports, which saves their imports; `test_export_process.py` starts them as users do."""
    from bn_keras.export import process
    from tests.forking import Forked

    if sys.platform == "linux":
        names = vars(process.subprocess) | {"Popen": Forked}
        monkeypatch.setattr(process, "subprocess", types.SimpleNamespace(**names))
