"""One trained network, and digits, for all tests of the doctor."""

import pytest

from tests.doctor import networks


@pytest.fixture(scope="session")
def digits():
    x, y = networks.digits()
    return x[:256], y[:256]


@pytest.fixture(scope="session")
def trained():
    return networks.mlp()
