"""The documentation site has an entry for every public name, and its build finds broken links."""

import doctest
import importlib.util
import pathlib
import re

import pytest

import bn_keras
from bn_keras import doctor, experiments, export, layers, models, surgery
from bn_keras.lab import html

ROOT = pathlib.Path(__file__).parents[1]
DOCS = ROOT / "docs"
API = "\n".join(path.read_text(encoding="utf-8") for path in sorted(DOCS.glob("api/*.md")))
ENTRIES = re.findall(r"^\.\. auto(?:class|function|exception|data|module):: (\S+)$", API, re.MULTILINE)
INTERNAL_OPS = {"compiler", "dispatch", "sums", "traces"}  # what computes, not what is computed


def module_at(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def entry_of(module, name):
    """The layers have their entries by their shortest name."""
    return f"bn_keras.{name}" if module is layers else f"{module.__name__}.{name}"


@pytest.mark.parametrize(
    "module", [bn_keras, layers, surgery, doctor, export, models, experiments, html], ids=lambda m: m.__name__
)
def test_every_public_name_has_an_entry(module):
    names = set(module.__all__) - {"__version__", "doctor", "models", "surgery"}  # these are sections
    assert {entry_of(module, name) for name in names} <= set(ENTRIES)


def test_every_module_of_ops_has_an_entry():
    modules = {path.stem for path in (ROOT / "bn_keras" / "ops").glob("[a-z]*.py")} - INTERNAL_OPS
    assert {f"bn_keras.ops.{name}" for name in modules} <= set(ENTRIES)


def test_no_name_has_two_entries():
    assert len(ENTRIES) == len(set(ENTRIES))


def test_every_page_is_in_the_table_of_contents():
    listed = set()
    for page in (page for page in DOCS.glob("**/*.md") if "_build" not in page.parts):
        for contents in re.findall(r"^```\{toctree\}\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S):
            names = [line.split("<")[-1].rstrip(">") for line in contents.split("\n") if line and line[0] != ":"]
            listed |= {(page.parent / name).resolve() for name in names if not name.startswith("/")}
    pages = {path.with_suffix("").resolve() for path in (*DOCS.glob("*.md"), *DOCS.glob("api/*.md"))}
    assert pages - listed == {(DOCS / "index").resolve()}


def test_the_index_has_the_sections_in_order():
    captions = re.findall(r"^:caption: (.*)$", (DOCS / "index.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert captions[:8] == [
        "Get started", "Guides", "Tutorials", "Model zoo", "Evidence", "API reference", "Performance and accuracy",
        "Migration",
    ]  # fmt: skip


def test_every_notebook_is_a_tutorial():
    tutorials = (DOCS / "index.md").read_text(encoding="utf-8")
    notebooks = {f"/notebooks/{path.stem}" for path in ROOT.glob("notebooks/*.ipynb")}
    assert set(re.findall(r"^(/notebooks/\w+)$", tutorials, re.MULTILINE)) == notebooks


def test_docstrings_become_restructured_text():
    docstrings = module_at(DOCS / "_extensions" / "docstrings.py")
    assert doctest.testmod(docstrings).failed == 0
    given = ["Takes `x`.", "", r"$$ y = \gamma x", "   + b $$", "", ">>> f(`x`)", "1"]
    expected = ["Takes ``x``.", "", ".. math::", "", r"   y = \gamma x", "   + b", "", "", ">>> f(`x`)", "1"]
    assert docstrings.to_restructured_text(given) == expected


def test_arguments_of_another_name_are_not_in_bold():
    docstrings = module_at(DOCS / "_extensions" / "docstrings.py")
    lines = ["* **Those of ``BatchNorm``, with another default**", "* **axis** -- Int."]
    docstrings.without_bold(None, "class", "name", None, None, lines)
    assert lines == ["* Those of ``BatchNorm``, with another default", "* **axis** -- Int."]


@pytest.mark.parametrize(
    ("link", "broken"),
    [
        ("other.html", False),
        ("other.html#there", False),
        ("https://keras.io", False),
        ("other.html#elsewhere", True),
        ("missing.html", True),
    ],
)
def test_a_link_of_the_site_that_leads_nowhere_is_found(link, broken, tmp_path):
    check_links = module_at(DOCS / "check_links.py")
    (tmp_path / "page.html").write_text(f'<a href="{link}">a link</a>')
    (tmp_path / "other.html").write_text('<h1 id="there">Other</h1>')
    assert check_links.broken_links(tmp_path) == [f"page.html: {link}"] * broken
