"""The page of the claims as text."""

import dataclasses

import pytest

from bn_keras.experiments.claims import c08_explosion, c11_batch_size
from bn_keras.experiments.claims.claim import Form
from bn_keras.experiments.claims.page import command_of, page_of, write_page
from bn_keras.lab.html import to_html
from tests.experiments.claims.reported import claims_of_every_verdict, stored
from tests.lab.html.outline import check


@pytest.fixture(scope="module")
def document():
    return to_html(page_of(claims_of_every_verdict()))


@pytest.mark.slow
def test_the_page_is_well_formed_and_escapes_names(document):
    outline = check(document)
    assert "i" not in outline.tags
    assert 'a<b & "c"' in outline.text


@pytest.mark.slow
def test_the_verdicts_come_first_and_link_to_their_sections(document):
    outline = check(document)
    assert outline.text.index("Verdicts") < outline.text.index("Question")
    assert {"c8", "c9", "c10"} <= set(outline.references)
    for words in ("✓ holds", "◐ holds under conditions", "✗ does not hold here", "at a batch of 8", "A run diverged."):
        assert words in outline.text


def test_a_section_has_everything_that_a_reader_checks(document):
    text = check(document).text
    claim = c08_explosion.CLAIM
    for words in (claim.question, claim.method, claim.rule, claim.refuted_by, claim.literature, claim.source):
        assert words in text
    for words in (claim.caption, "bn-keras claims C8 --quick", "theory", '"gradient_norm"', "processor made up"):
        assert words in text


@pytest.mark.slow
def test_the_same_results_give_the_same_bytes_in_a_file(tmp_path):
    first, second = (write_page([(c08_explosion.CLAIM, stored())], tmp_path / name) for name in ("first", "new/second"))
    assert first == tmp_path / "first" / "index.html"
    assert first.read_bytes() == second.read_bytes()
    assert (
        first.read_bytes()
        != write_page([(c08_explosion.CLAIM, stored(images="other"))], tmp_path / "third").read_bytes()
    )


@pytest.mark.slow
def test_only_small_measurements_are_called_sketches(document):
    full = to_html(page_of([(c08_explosion.CLAIM, stored(quick=False))]))
    assert "sketches" in document
    assert "sketches" not in full


def test_the_command_names_the_images_where_a_claim_takes_others_than_usual():
    assert command_of(c08_explosion.CLAIM, Form(images="my images")) == "bn-keras claims C8"
    assert command_of(c11_batch_size.CLAIM, Form()) == "bn-keras claims C11"
    assert command_of(c11_batch_size.CLAIM, Form(images="my images")) == "bn-keras claims C11 --images 'my images'"
    assert command_of(c11_batch_size.CLAIM, Form(quick=True)) == "bn-keras claims C11 --quick"


def test_the_verdicts_name_a_command_for_each_claim(document):
    verdicts, _ = check(document).text.split("Question", 1)
    for name in ("C8", "C9", "C10"):
        assert f"bn-keras claims {name} --quick" in verdicts


@pytest.mark.slow
def test_a_changed_rule_is_named_on_the_page():
    claim = dataclasses.replace(c08_explosion.CLAIM, rule="Another rule.")
    assert "Changed since these measurements: rule was " in check(to_html(page_of([(claim, stored())]))).text
