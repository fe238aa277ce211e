"""The page of recalibration on a few images: its claims hold, for ours and for the others."""

import re

import pytest

from tests.pages.quick import quick_page

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return quick_page("recalibration", tmp_path_factory.mktemp("recalibration"))[0]


def figures(page, section):
    """`{way: [mean, variance of the first layer, mean, variance of the third]}`."""
    part = re.search(rf"^## {section}$(.*?)(?=^## |\Z)", page, re.DOTALL | re.MULTILINE)[1]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in part.splitlines() if line[:1] == "|"]
    return {way: [float(each) for each in rest] for way, *rest in cells[2:]}


def test_sequential_is_exact_for_all_layers(page):
    found = {way: row for way, row in figures(page, "From what the layers get in inference").items() if "seq" in way}
    assert len(found) == 2
    assert max(max(row) for row in found.values()) < 1e-5


@pytest.mark.slow
def test_one_pass_is_exact_for_what_it_sees(page):
    inference, single = (
        figures(page, f"From what {each}") for each in ("the layers get in inference", "one pass can see")
    )
    ours = [way for way in single if way.startswith("`recalibrate`")]
    assert len(ours) == 4
    assert max(max(single[way]) for way in ours) < 1e-5
    first, third = inference["`recalibrate`, batches of 20"][:2], inference["`recalibrate`, batches of 20"][2:]
    assert max(first) < 1e-5
    assert max(third) > 1e-3, "deeper layers were meant to see something else"


def test_the_others_are_further_off(page):
    found = figures(page, "From what the layers get in inference")
    others = {way: row for way, row in found.items() if "recalibrate" not in way}
    assert len(others) >= 6
    assert min(max(row) for row in others.values()) > 1e-3


def test_the_page_says_how_it_was_made(page):
    assert "2 instead of 20" in page
    assert re.search(r"^Versions: bn_keras \d+\.\d+\.\d+, tensorflow \d+\.\d+", page, re.MULTILINE)
