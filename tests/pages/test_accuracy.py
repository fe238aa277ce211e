"""The page of accuracy on small inputs: our errors stay below what float32 allows."""

import re

import pytest

from tests.pages.quick import quick_page

ROUNDOFF = 2.0**-24


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page for mean/std 1 and 10,000."""
    return quick_page("accuracy", tmp_path_factory.mktemp("accuracy"))[0]


def figures(page, section, name):
    """`{(shape, layer): [figure at mean/std 1, at 10,000]}` of one table."""
    part = re.search(rf"^## {section}$(.*?)(?=^## |\Z)", page, re.DOTALL | re.MULTILINE)[1]
    lines = part.split(f"**{name}**")[1].split("**")[0].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return {(shape, layer): [float(each) for each in rest] for shape, layer, *rest in cells[2:]}


SECTIONS = [
    ("Batch norm", "bn_keras"),
    ("Batch norm over two replicas", "bn_keras"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("section", "layer"), SECTIONS)
def test_batch_norm_is_as_exact_as_float32_allows(page, section, layer):
    for shape in ("8×12×12×4", "64×8"):
        for name, bounds in {
            "Mean": (4 * ROUNDOFF, 2e4 * ROUNDOFF),
            "Variance": (40 * ROUNDOFF, 1e-4),
            "Output": (50 * ROUNDOFF, 2e4 * ROUNDOFF),
        }.items():
            for ours, bound in zip(figures(page, section, name)[shape, layer], bounds, strict=True):
                assert ours < bound, (name, shape)


@pytest.mark.slow
def test_layer_norm_is_as_exact_as_float32_allows(page):
    at_1, at_10000 = figures(page, "Layer norm", "Output")["32×64", "bn_keras"]
    assert at_1 < 50 * ROUNDOFF
    assert at_10000 < 2e4 * ROUNDOFF


def test_the_synchronized_variance_of_keras_cancels(page):
    for (shape, layer), (_, at_10000) in figures(page, "Batch norm over two replicas", "Variance").items():
        if layer == "Keras":
            assert at_10000 > 0.1, shape


def test_the_page_says_how_it_was_made(page):
    assert "| shape | layer | mean/std 1 | mean/std 10,000 |\n| --- | --- | ---: | ---: |" in page
    assert re.search(r"^Versions: bn_keras \d+\.\d+\.\d+, tensorflow \d+\.\d+.*, Python 3", page, re.MULTILINE)
