"""The VGG-style network: its parameters and stages."""

import itertools

import pytest

from bn_keras.models import build


def linear_parameters(filters, units):
    """The kernels of (2×C3)-MP2-(2×C3)-MP2-(2×C3)-MP2-(2×FC)-10 for 32×32×3, and their outputs."""
    channels = [3, *(count for count in filters for _ in range(2))]
    convolutions = sum(9 * a * b for a, b in itertools.pairwise(channels))
    return convolutions + 16 * filters[-1] * units + units**2 + units * 10, 2 * sum(filters) + 2 * units


@pytest.mark.slow
def test_the_parameters_are_those_of_the_source_at_half_and_at_full_width():
    for width, filters, units in ((None, (64, 128, 256), 512), (2, (128, 256, 512), 1024)):
        kernels, outputs = linear_parameters(filters, units)
        assert build("vgg_small", width=width).count_params() == kernels + 4 * outputs + 10
        assert build("vgg_small", width=width, norm=None).count_params() == kernels + outputs + 10
    assert kernels == 14_022_016  # what the layers of the source add up to


def test_the_stages_have_the_shapes_of_the_source():
    model = build("vgg_small")
    shapes = [model.get_layer(f"block_{i}_{end}").output.shape[1:] for i in (1, 2, 3) for end in ("2_relu", "max")]
    assert shapes == [(32, 32, 64), (16, 16, 64), (16, 16, 128), (8, 8, 128), (8, 8, 256), (4, 4, 256)]
    assert model.get_layer("flatten").output.shape == (None, 4096)
