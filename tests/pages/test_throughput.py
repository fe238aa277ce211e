"""The page of throughput on a few images: every loop and every source is measured, and the figures fit together."""

import re

import pytest

from tests.pages.quick import quick_page

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return quick_page("throughput", tmp_path_factory.mktemp("throughput"))[0]


def rows(page, section):
    """The rows of one table, as lists of cells."""
    part = re.search(rf"^## {re.escape(section)}$(.*?)(?=^## |\Z)", page, re.DOTALL | re.MULTILINE)[1]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in part.splitlines() if line[:1] == "|"]
    return cells[2:]


def test_each_way_to_train_is_measured(page):
    ours, *theirs = rows(page, "Beside `keras.Model.fit`")
    assert ours[1] == "`bn-keras train`"
    assert ours[4] == "1.00×"
    assert [row[1] for row in theirs] == [
        "`fit`, as it is", "`fit`, `jit_compile=False`", "`fit`, `jit_compile=False, steps_per_execution=2`"
    ]  # fmt: skip
    for row in (ours, *theirs):
        low, high = (float(each.replace(",", "")) for each in row[3].split(" to "))
        assert 0 < low <= float(row[2].replace(",", "")) <= high


@pytest.mark.slow
def test_each_source_is_measured(page):
    found = rows(page, "Input")
    assert [row[0] for row in found] == [
        "arrays in memory", "small JPEG files, streamed", "large JPEG files, resized and streamed"
    ]  # fmt: skip
    assert all(float(row[2].replace(",", "")) > 0 and float(row[4]) > 0 for row in found)
