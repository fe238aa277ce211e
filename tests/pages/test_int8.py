"""The page of int8: it follows from stored results, it measures what is stale, and the smallest network runs."""

import pathlib

import pytest

from bn_keras.lab.results import ResultsError
from bn_keras.pages import int8 as page
from bn_keras.pages.registry import PAGES, Request, complete
from tests.pages.quick import quick_page

ROOT = pathlib.Path(__file__).parents[2]
STORED = ROOT / PAGES["int8"].results
SETTINGS = page.Settings()


def tables(text):
    """The rows of each table, by column."""
    found = []
    for part in text.split("\n\n"):
        lines = [line.strip("| ").split(" | ") for line in part.splitlines() if line.startswith("|")]
        if lines:
            header, _, *rows = lines
            found.append([dict(zip(header, row, strict=True)) for row in rows])
    return found


def stored(name):
    return page.FILE.read(page.path_of(name, STORED))


def test_the_page_follows_from_the_stored_results():
    path = ROOT / PAGES["int8"].path
    text = page.page_text([stored(name) for name in SETTINGS.networks], SETTINGS)
    assert path.read_text(encoding="utf-8") == complete(PAGES["int8"], path, text)
    assert {path.stem for path in STORED.iterdir()} == set(SETTINGS.networks)


@pytest.mark.parametrize("name", SETTINGS.networks)
def test_what_is_stored_is_int8(name):
    result = stored(name)
    assert result["tested"] == {"mnist": 10_000, "digits": 360}[result["data"]]
    files = {(file["format"], file["fold"], file["int8"]): file for file in result["files"]}
    assert len(files) == len(result["files"]) == 8
    for (format, fold, int8), file in files.items():
        if int8:
            assert file["bytes"] < files[format, fold, False]["bytes"]
            assert 1e-4 < file["largest"] < 0.2
        else:
            assert file["faster"] == [1, 1, 1]
            assert abs(file["accuracy"] - result["accuracy"]) < 1e-3


@pytest.mark.slow
def test_the_smallest_network(tmp_path):
    text, said = quick_page("int8", tmp_path)
    (network,), rows, (drop,) = tables(text)
    assert network["data"] == "digits", "the page names the data"
    assert [row["folded"] for row in rows] == ["no", "yes"]
    for row in rows:
        assert float(row["int8: kB"]) < 0.5 * float(row["float32: kB"])
        assert float(row["int8: ms"]) > 0
        assert float(row["int8: accuracy"].strip("%")) > 95
    assert "hidden_1" in drop["largest rounding errors"]
    assert "network 1 of 1: mlp_sigmoid: 4 files on digits" in said


@pytest.mark.parametrize("package", page.DECIDING)
def test_a_result_of_another_version_is_measured_again(package, tmp_path, monkeypatch):
    today = page.versions(*page.RUNTIMES)
    for name in SETTINGS.networks:
        page.FILE.write(stored(name) | {"versions": today}, page.path_of(name, tmp_path))
    first, *_ = SETTINGS.networks
    page.FILE.write(stored(first) | {"versions": today | {package: "0.0.1"}}, page.path_of(first, tmp_path))
    measured = []
    monkeypatch.setattr(page, "measure", lambda name, settings: measured.append(name) or stored(name))
    page.text(Request(results=tmp_path))
    assert measured == [first]


def test_a_file_that_is_no_result_is_refused(tmp_path):
    page.path_of("inception_small", tmp_path).write_text('{"network": "inception_small"}')
    with pytest.raises(ResultsError, match="does not hold the results of `bn-keras page int8`"):
        page.text(Request(results=tmp_path))
