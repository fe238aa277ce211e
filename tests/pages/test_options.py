"""The page of options follows from the table that the constructor checks."""

import pathlib

from bn_keras.layers.combinations import REFUSED
from bn_keras.pages import options
from bn_keras.pages.registry import PAGES, Request, complete

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "options.md"


def test_the_page_is_that_of_the_table():
    expected = complete(PAGES["options"], PAGE, options.text(Request()))
    assert PAGE.read_text(encoding="utf-8") == expected, "run `make docs`"


def test_every_refusal_is_numbered_in_its_cell_and_explained():
    text = options.text(Request())
    for number, ((name, other), reason) in enumerate(REFUSED.items(), start=1):
        assert text.count(f"refused ({number})") == 1
        assert f"\n{number}. `{name}` with `{other}`: {reason}.\n" in text
