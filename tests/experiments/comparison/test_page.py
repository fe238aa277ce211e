"""The page of a comparison as text."""

import pytest

from bn_keras.experiments.comparison import report
from bn_keras.experiments.comparison.figures import CAPTIONS
from bn_keras.experiments.comparison.page import page_of, write_page
from bn_keras.experiments.comparison.zoo import compare_command
from bn_keras.lab.html import to_html
from tests.experiments.comparison import reported
from tests.lab.html.outline import check


@pytest.fixture(scope="module", autouse=True)
def few_resamples():
    with reported.few_resamples():
        yield


@pytest.fixture(scope="module")
def compared():
    return reported.comparison()


@pytest.fixture(scope="module")
def document(compared):
    return to_html(page_of(compared))


@pytest.mark.slow
def test_the_page_is_well_formed(document):
    outline = check(document)
    assert outline.tags.count("svg") == 4
    assert outline.tags.count("table") == 10


@pytest.mark.slow
def test_the_page_has_the_verdicts_the_doubts_and_the_command(document, compared):
    text = check(document).text
    for words in (*report.verdicts(compared), *report.notes(compared), *CAPTIONS.values(), compared.recipe.hash):
        assert words.rstrip(".") in text
    assert report.target_line(compared) in text
    assert compare_command(compared.recipe) in text


def test_the_page_lists_every_run_once(document, compared):
    text = check(document).text
    seeds = {run.job for runs in compared.seeds.values() for run in runs}
    assert f"Trials ({3 * 4} runs)" in text
    assert f"Winners with new seeds ({len(seeds)} runs)" in text


@pytest.mark.slow
def test_the_same_comparison_gives_the_same_bytes_in_a_file(tmp_path, document, compared):
    path = write_page(compared, tmp_path / "new" / "folder")
    assert path == tmp_path / "new" / "folder" / "index.html"
    assert path.read_text(encoding="utf-8") == document


def test_names_are_escaped(document):
    outline = check(document)
    assert "b" not in outline.tags
    assert "mlp_sigmoid on a<b>&c" in outline.text
