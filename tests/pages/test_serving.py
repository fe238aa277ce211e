"""The page of serving, for the smallest network in one format."""

from tests.pages.quick import quick_page, row_of


def test_the_page(tmp_path):
    text, said = quick_page("serving", tmp_path)
    row = row_of(text)
    for what in ("as it is", "folded"):
        assert 0 < float(row[f"{what}: difference"]) < 1e-5
        assert float(row[f"{what}: ms"]) > 0
        assert float(row[f"{what}: MB"]) > 6
    assert "file 1 of 1: inception_small, LiteRT: " in said
