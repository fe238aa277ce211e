"""Pages as text: escaping, structure, and the same bytes again."""

import re

import matplotlib.figure
import pytest

from bn_keras.lab.html import (
    BAD,
    GOOD,
    PARTLY,
    Code,
    Command,
    Details,
    Facts,
    Items,
    Link,
    Mark,
    Page,
    Paragraph,
    Picture,
    Section,
    Table,
    to_html,
)
from bn_keras.lab.html.svg import embed
from bn_keras.lab.plot import BLUE, INK, svg
from tests.lab.html.outline import check

HOSTILE = "</p><script>alert('1')</script> & \"x\" <b>"


def drawn(words="words"):
    figure = matplotlib.figure.Figure(figsize=(3, 2))
    axes = figure.subplots()
    axes.fill_between([0, 1], [0, 1], [1, 2], color=BLUE, alpha=0.2)
    axes.plot([0, 1, 2], [0, 3, 1], color=BLUE, marker="o", label=words)
    axes.text(0.5, 0.5, words, color=INK)
    return svg(figure, digest="made up")


def page_with(*blocks):
    return Page("Title", "Lead.", (Section("one", "One", blocks),))


def every_part(words):
    inner = Details(words, (Paragraph(words), Items((words,))))
    return Page(
        words,
        words,
        (
            Section("first", words, (Facts(((words, words), ("verdict", Mark(words, GOOD)))), Code(words, words))),
            Section(
                "second",
                words,
                (
                    Table(words, (words, "b"), ((Link(words, "first"), Mark(words, BAD)), (words, words))),
                    Picture(drawn(words), words, words),
                    Picture(drawn(words), words, words),
                    Details(words, (inner,)),
                ),
            ),
        ),
    )


def test_a_page_of_every_part_is_well_formed():
    outline = check(to_html(every_part("words")))
    assert outline.headings == [1, 2, 2]
    assert outline.tags.count("details") == 2
    assert outline.tags.count("svg") == 2


def test_every_text_is_escaped():
    outline = check(to_html(every_part(HOSTILE)))
    assert "b" not in outline.tags
    plain = check(to_html(every_part("words")))
    assert outline.text.count(HOSTILE) == plain.text.count("words")


def test_the_same_page_gives_the_same_bytes():
    assert to_html(every_part("words")) == to_html(every_part("words"))


def test_a_page_names_no_address_outside_of_itself():
    document = to_html(every_part("words"))
    assert not re.findall(r"https?:|(?:src|href)=\"(?!#|data:,)", document)


def test_a_column_of_figures_is_aligned_to_the_right():
    rows = (
        ("batch", "1.21 (1.20–1.23)", "1 is less than most people would expect here", "–"),
        ("none", "∞", "2", "never"),
    )
    table = Table("caption", ("arm", "growth", "remark", "steps"), rows)
    assert table.alignments == ("words", "figures", "prose", "figures")


def test_a_column_of_phrases_is_wider_than_one_of_words():
    table = Table("caption", ("arm", "rate"), (("batch norm", "0.1"), ("batch norm, then noise", "0.1")))
    assert table.alignments == ("phrases", "figures")
    assert table.alignments[0] != Table("caption", ("arm",), (("batch norm",),)).alignments[0]


def test_an_empty_table_keeps_its_heads():
    outline = check(to_html(page_with(Table("nothing", ("a", "b"), ()))))
    assert outline.tables == [{"caption": True, "scopes": ["col", "col"]}]


def test_a_sign_tells_verdicts_apart_without_colour():
    outline = check(
        to_html(page_with(Facts((("a", Mark("yes", GOOD)), ("b", Mark("so", PARTLY)), ("c", Mark("no", BAD))))))
    )
    assert re.findall(r"[✓◐✗]", outline.text) == ["✓", "◐", "✗"]


def test_a_picture_takes_the_colours_and_the_font_of_the_page():
    element = embed(drawn(), prefix="p_", name="name", caption_id="p_caption")
    assert not re.search(r"DejaVu|#(000000|333333|ffffff)", element, re.IGNORECASE)
    assert BLUE.lower() in element
    assert "var(--ink)" in element
    assert "font-size: 10px" in element or "font: 10px" in element


def test_a_picture_keeps_nothing_that_belongs_to_a_file_of_its_own():
    element = embed(drawn(), prefix="p_", name="name", caption_id="p_caption")
    assert element.startswith("<svg ")
    assert not re.search(r"<metadata|<style|xmlns|<\?xml|<!DOCTYPE", element)
    assert '<title id="p_title">name</title>' in element


def test_a_command_breaks_between_its_words_only_and_is_copied_as_it_is_typed():
    document = to_html(page_with(Table("a", ("b",), ((Command("claims --out 'a <b'"),),))))
    words = '</span> <span class="whole">'.join(("claims", "--out", "&#39;a", "&lt;b&#39;"))
    assert f'<code><span class="whole">{words}</span></code>' in document
    assert "claims --out 'a <b'" in check(document).text


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Mark("holds", "green"), "`kind` must be one of good, partly, bad. Received: 'green'."),
        (lambda: Table("t", ("a", "b"), (("1",),)), "`rows` must have 2 cells each. Received: ('1',)."),
        (lambda: Section("a b", "A", ()), "`id` must be letters, digits and hyphens, a letter first. Received: 'a b'."),
        (
            lambda: Page("t", "l", (Section("a", "A", ()), Section("a", "B", ()))),
            "`sections` must have different ids. Received twice: a.",
        ),
    ],
)
def test_a_refused_part_says_what_was_expected(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make()
