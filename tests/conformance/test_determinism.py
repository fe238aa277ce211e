"""With TensorFlow's switch for determinism: in a process of its own, as the switch is for all that follows."""

import pytest

from tests.conformance.cases import MAIN, every
from tests.processes import script_result

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def equal():
    return script_result("tests.conformance.train_twice")


@every(MAIN)
def test_training_twice_gives_the_same_bits(equal, case):
    assert equal[case.name]
