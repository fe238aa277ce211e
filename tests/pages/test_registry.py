"""The list of pages, where each goes, and what makes it known as generated."""

import pathlib
import re

import pytest

from bn_keras.pages import registry
from bn_keras.pages.registry import PAGES, Page, PageError, Request, notice, page_named, repository, write

ROOT = pathlib.Path(__file__).parents[2]
MADE = {
    page.name: page for page in (Page("one", "", "docs/one.md", "one:text"), Page("many", "", "many", "many:files"))
}


@pytest.fixture
def made(monkeypatch):
    """Pages whose text needs no module."""
    texts = {"one": "# One\n", "many": {"README.md": "# Many\n", "below/page.md": "# Below\n", "picture.svg": "<svg/>"}}
    monkeypatch.setattr(Page, "make", lambda self, request: texts[self.name])


def markdown_of(page):
    path = ROOT / page.path
    return sorted(path.rglob("*.md")) if path.is_dir() else [path]


@pytest.mark.parametrize("page", PAGES.values(), ids=lambda page: page.name)
def test_the_files_in_the_repository_say_what_writes_them(page):
    for path in markdown_of(page):
        text = path.read_text(encoding="utf-8")
        if page.marks:
            assert f"\n<!-- {page.marks} -->\n{notice(page)}" in text
        else:
            assert text.startswith(notice(page) + "# "), path


def test_no_other_file_claims_to_be_generated():
    claimed = {path for page in PAGES.values() for path in markdown_of(page)}
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("models/**/*.md")):
        assert path in claimed or "<!-- Written by" not in path.read_text(encoding="utf-8"), path


@pytest.mark.parametrize("page", PAGES.values(), ids=lambda page: page.name)
def test_the_function_of_a_page_exists(page):
    module, _, name = page.function.partition(":")
    source = (ROOT / "bn_keras" / "pages" / f"{module}.py").read_text(encoding="utf-8")
    returned = "str" if pathlib.Path(page.path).suffix else r"dict\[str, str( \| bytes)?\]"
    assert re.search(rf"^def {name}\(request: Request\) -> {returned}:$", source, re.MULTILINE)
    assert not page.results or (ROOT / page.results).is_dir()


def test_the_make_targets_write_every_page():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert set(re.findall(r"bn-keras page ([a-z0-9]+)$", makefile, re.MULTILINE)) == set(PAGES)


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(PageError, match="Unknown page 'foldin'. Did you mean 'folding'"):
        page_named("foldin")
    with pytest.raises(PageError, match="Unknown page 'xyz'. Pages: accuracy, benchmark, "):
        page_named("xyz")


def test_a_page_of_one_file_opens_with_the_notice(made, tmp_path):
    path = tmp_path / "docs" / "one.md"
    assert write(MADE["one"], path, Request()) == [path]
    assert path.read_text() == "<!-- Written by `bn-keras page one`. Do not edit. -->\n# One\n"


def test_the_pages_of_a_folder_open_with_the_notice_and_pictures_do_not(made, tmp_path):
    written = write(MADE["many"], tmp_path, Request())
    assert [str(path.relative_to(tmp_path)) for path in written] == ["README.md", "below/page.md", "picture.svg"]
    line = "<!-- Written by `bn-keras page many`. Do not edit. -->\n"
    assert [path.read_text() for path in written] == [line + "# Many\n", line + "# Below\n", "<svg/>"]


def test_quick_pages_say_that_they_are(made, tmp_path):
    write(MADE["one"], tmp_path / "one.md", Request(quick=True))
    assert (tmp_path / "one.md").read_text().startswith("<!-- Written by `bn-keras page one --quick`. ")


def test_a_wrong_kind_of_path_is_refused_before_anything_is_made(tmp_path, monkeypatch):
    monkeypatch.setattr(Page, "make", lambda self, request: pytest.fail("the page was made"))
    (tmp_path / "file").write_text("")
    with pytest.raises(PageError, match="is a folder. The page 'one' is one file"):
        write(MADE["one"], tmp_path, Request())
    with pytest.raises(PageError, match="is a file. The page 'many' has several files"):
        write(MADE["many"], tmp_path / "file", Request())
    with pytest.raises(PageError, match="There is no file .* The page 'performance' fills a part"):
        write(PAGES["performance"], tmp_path / "README.md", Request())


def test_the_repository_is_found_from_inside(tmp_path):
    assert repository(ROOT) == repository(ROOT / "docs") == ROOT
    assert repository(tmp_path) is None
    (tmp_path / "setup.cfg").write_text("[metadata]\nname = another\n")
    assert not registry.is_repository(tmp_path)
