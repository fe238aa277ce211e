"""The page of folding, for the smallest network."""

import pytest

from tests.pages.quick import quick_page, row_of


@pytest.mark.slow
def test_the_page(tmp_path):
    text, said = quick_page("folding", tmp_path)
    row = row_of(text)
    assert (row["batch norms"], row["folded"], row["affine maps left"]) == ("34", "34", "0")
    assert 0 < float(row["folded − ours"]) < 1e-5
    assert float(row["ours − Keras"]) < 1e-5
    assert row["`to_sync` and back"] == "bit-equal"
    assert "## What is left, and why\n\nNothing.\n" in text
    assert "network 1 of 1: MobileNetV3Small: network: MobileNetV3Small, layers: " in said
