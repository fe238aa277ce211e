"""The tables, pictures and pages follow from the results."""

import json
import pathlib
import re

import pytest

from bn_keras.bench import pages, report
from bn_keras.bench.results import ResultsError, read_results
from tests.bench.made_up import made_up

ROOT = pathlib.Path(__file__).parents[2]
MEASURED = ROOT / "benchmarks" / "results.json"


def test_rows():
    found = {group: rows for group, _, rows in report.sections(made_up())}
    assert list(found) == ["batch-float32", "layer"]
    # The floor: 8 · 25.69 MB / (10 GB/s) = 20.55 ms.
    assert found["batch-float32"] == [
        ("32×56×56×64", "training", "bn_keras", "8.00 (8.00–8.00)", "1", "0.389"),
        ("", "", "torch", "20.0 (16.0–24.0)", "2.50 (2.00–3.00)", "0.973"),
        ("32×64×56×56, channels first", "training", "bn_keras", "11.0 (10.0–12.0)", "1", "0.535"),
        ("", "", "keras", "24.0 (11.0–30.0)", "2.00 (1.00–3.00)", "1.17"),
    ]
    assert [row[:2] for row in found["layer"][::2]] == [("32×128×768", "training"), ("32×128×768", "inference")]


def test_ratios_are_to_the_first_peer_that_was_measured():
    results = made_up()
    for entry in results["cases"]:
        del entry["peers"]["bn_keras"]
        entry["peers"].setdefault("keras", {"ms": [1.0] * 3, "calls": 1, "facts": {}})
    _, columns, rows = next(report.sections(results))
    assert "time over keras (min–max)" in columns
    assert ("–" in rows[0]) == ("torch" in rows[0])


def test_a_group_without_figures_is_not_shown():
    results = made_up()
    results["cases"] = [entry | {"peers": {"jax": {"left_out": "no such layer"}}} for entry in results["cases"]]
    assert list(report.sections(results)) == []
    assert "Left out" in pages.page_text(results)


def test_what_is_left_out_is_told_once():
    assert report.left_out(made_up()) == ["jax: no such layer (layer)", "keras: failed (batch-float32)"]


def test_the_table_of_the_readme():
    text = report.performance_text(made_up())
    assert "| BatchNorm | 32×64×56×56, channels first | 11.0 | 24.0 | 2.00 (1.00–3.00) |" in text
    assert "| LayerNorm | 32×128×768 | 5.00 | 10.0 | 2.00 (1.00–3.00) |" in text
    assert len(re.findall(r"^\| \w+Norm", text, re.MULTILINE)) == 2, "training steps that both have"


def test_pages_are_written_from_results_alone(tmp_path):
    (tmp_path / "results.json").write_text(json.dumps(made_up()))
    readme = tmp_path / "page.md"
    readme.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    written = pages.write_pages(tmp_path, readme)
    assert [path.name for path in written] == ["README.md", "batch-float32.svg", "layer.svg", "page.md"]
    page = written[0].read_text(encoding="utf-8")
    assert "| 32×56×56×64 | training | bn_keras | 8.00 (8.00–8.00) | 1 | 0.389 |" in page
    assert "9.0 to 11.0 GB/s" in page
    assert "processor Abacus" in page
    assert readme.read_text(encoding="utf-8") == f"before\n{report.performance_text(made_up())}\nafter\n"
    picture = written[1].read_text(encoding="utf-8")
    assert pages.digest_of(tmp_path / "results.json") in picture
    words = re.sub(r"<[^>]+>", " ", picture)
    for expected in ("Batch norm, training step, float32", "32×56×56×64: training", "torch", "20.0", "floor", "ms"):
        assert expected in words, expected


def test_a_readme_without_marks_is_refused(tmp_path):
    (tmp_path / "results.json").write_text(json.dumps(made_up()))
    (tmp_path / "page.md").write_text("nothing here")
    with pytest.raises(ResultsError, match="<!-- performance -->"):
        pages.write_pages(tmp_path, tmp_path / "page.md")


def test_the_readme_has_the_marks():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text.count(report.BEGIN) == text.count(report.END) == 1


@pytest.mark.skipif(not MEASURED.exists(), reason="nothing has been measured yet")
def test_the_pages_are_those_of_the_results():
    results = read_results(MEASURED)
    assert not results["quick"]
    assert (MEASURED.parent / "README.md").read_text(encoding="utf-8") == pages.page_text(results), "run `make bench`"
    assert report.performance_text(results) in (ROOT / "README.md").read_text(encoding="utf-8"), "run `make bench`"
    for group, *_ in report.sections(results):
        picture = MEASURED.parent / f"{group}.svg"
        assert pages.digest_of(MEASURED) in picture.read_text(encoding="utf-8"), "run `make bench`"
