"""The tables, pictures and pages follow from the results."""

import json
import pathlib
import re

import pytest

from bn_keras.bench import report
from bn_keras.bench.results import read_results
from bn_keras.lab.results import digest_of
from bn_keras.pages import benchmark
from bn_keras.pages.registry import PAGES, PageError, Request, complete, write
from tests.bench.made_up import made_up

ROOT = pathlib.Path(__file__).parents[2]
PERFORMANCE = ROOT / "docs" / "performance.md"
MEASURED = ROOT / "benchmarks" / "results.json"
BEGIN, END = "<!-- performance -->", "<!-- /performance -->"


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
    assert "Left out" in benchmark.page_text(results)


def test_what_is_left_out_is_told_once():
    assert report.omissions(made_up()) == ["jax: no such layer (layer)", "keras: failed (batch-float32)"]


def test_the_table_of_the_readme():
    text = benchmark.performance_text(made_up())
    assert "| BatchNorm | 32×64×56×56, channels first | 11.0 | 24.0 | 2.00 (1.00–3.00) |" in text
    assert "| LayerNorm | 32×128×768 | 5.00 | 10.0 | 2.00 (1.00–3.00) |" in text
    assert len(re.findall(r"^\| \w+Norm", text, re.MULTILINE)) == 2, "training steps that both have"


def test_pages_are_written_from_results_alone(tmp_path):
    (tmp_path / "results.json").write_text(json.dumps(made_up()))
    written = write(PAGES["benchmark"], tmp_path, Request(results=tmp_path))
    assert [path.name for path in written] == ["README.md", "batch-float32.svg", "layer.svg"]
    page = written[0].read_text(encoding="utf-8")
    assert "| 32×56×56×64 | training | bn_keras | 8.00 (8.00–8.00) | 1 | 0.389 |" in page
    assert "9.0 to 11.0 GB/s" in page
    assert "processor Abacus" in page
    picture = written[1].read_text(encoding="utf-8")
    assert digest_of(tmp_path / "results.json") in picture
    words = re.sub(r"<[^>]+>", " ", picture)
    for expected in ("Batch norm, training step, float32", "32×56×56×64: training", "torch", "20.0", "floor", "ms"):
        assert expected in words, expected


def test_the_table_goes_between_the_marks(tmp_path):
    (tmp_path / "results.json").write_text(json.dumps(made_up()))
    readme = tmp_path / "page.md"
    readme.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    assert write(PAGES["performance"], readme, Request(results=tmp_path)) == [readme]
    lines = readme.read_text(encoding="utf-8").splitlines()
    assert lines[:3] == ["before", BEGIN, "<!-- Written by `bn-keras page performance`. Do not edit. -->"]
    assert "\n".join(lines[3:-2]) + "\n" == benchmark.performance_text(made_up())
    assert lines[-2:] == [END, "after"]
    again = readme.read_bytes()
    write(PAGES["performance"], readme, Request(results=tmp_path))
    assert readme.read_bytes() == again


@pytest.mark.parametrize("text", ["nothing here", f"{BEGIN}\n", f"{END}\n"])
def test_a_readme_without_marks_is_refused(tmp_path, text):
    (tmp_path / "results.json").write_text(json.dumps(made_up()))
    (tmp_path / "page.md").write_text(text)
    with pytest.raises(PageError, match="has no lines <!-- performance --> and <!-- /performance -->"):
        write(PAGES["performance"], tmp_path / "page.md", Request(results=tmp_path))
    assert (tmp_path / "page.md").read_text() == text


def test_the_page_of_performance_has_the_marks():
    text = PERFORMANCE.read_text(encoding="utf-8")
    assert text.count(BEGIN) == text.count(END) == 1


@pytest.mark.skipif(not MEASURED.exists(), reason="nothing has been measured yet")
def test_the_pages_are_those_of_the_results():
    results = read_results(MEASURED)
    assert not results["quick"]
    for name, path, text in (
        ("benchmark", MEASURED.parent / "README.md", benchmark.page_text(results)),
        ("performance", PERFORMANCE, benchmark.performance_text(results)),
    ):
        assert path.read_text(encoding="utf-8") == complete(PAGES[name], path, text), "run `make bench`"
    for group, *_ in report.sections(results):
        picture = MEASURED.parent / f"{group}.svg"
        assert digest_of(MEASURED) in picture.read_text(encoding="utf-8"), "run `make bench`"
