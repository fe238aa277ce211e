"""`bn-keras page` as it is typed, wrong too."""

import pathlib

import pytest

from bn_keras.pages.registry import PAGES
from tests.cli.runner import typed
from tests.experiments.comparison import made_up

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def zoo(tmp_path):
    """A folder with one comparison."""
    made_up.folder(tmp_path / "zoo" / "mlp_sigmoid" / "digits", trials=4, seeds=3)
    return tmp_path / "zoo"


def test_without_a_name_it_lists_the_pages():
    code, printed = typed("page")
    assert code == 0
    for page in PAGES.values():
        assert f"{page.path}: {page.summary}" in printed
    assert "needs the extra lab,export" in printed
    assert "(measures, stores results in benchmarks/surgery/, needs the extra lab,dev)" in printed


def test_a_page_goes_to_its_place_in_the_repository(tmp_path, monkeypatch):
    (tmp_path / "setup.cfg").write_text("[metadata]\nname = bn_keras\n")
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    code, printed = typed("page", "options")
    assert code == 0
    assert printed == f"{tmp_path}/docs/options.md\n"
    assert (tmp_path / "docs" / "options.md").read_bytes() == (ROOT / "docs" / "options.md").read_bytes()


def test_out_is_where_it_goes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, printed = typed("page", "options", "--out", "new/page.md")
    assert (code, printed) == (0, "new/page.md\n")
    assert (tmp_path / "new" / "page.md").read_bytes() == (ROOT / "docs" / "options.md").read_bytes()


@pytest.mark.slow
def test_pages_from_results_go_beside_them(zoo):
    code, printed = typed("page", "zoo", "--results", zoo)
    assert code == 0
    written = {pathlib.Path(name).relative_to(zoo).as_posix() for name in printed.split()}
    assert {"README.md", "results.csv", "mlp_sigmoid/README.md", "mlp_sigmoid/digits/README.md"} < written
    assert "mlp_sigmoid/digits/learning_curves.svg" in written


@pytest.mark.slow
def test_out_and_results_are_apart(zoo, tmp_path):
    assert typed("page", "zoo", "--results", zoo, "--out", tmp_path / "pages")[0] == 0
    assert (tmp_path / "pages" / "mlp_sigmoid" / "README.md").exists()
    assert not (zoo / "README.md").exists()


def test_results_that_are_missing_or_unfinished(zoo, tmp_path):
    (tmp_path / "empty").mkdir()
    code, printed = typed("page", "zoo", "--results", tmp_path / "empty")
    assert code == 1
    assert "Make one with `make zoo`" in printed
    next((zoo / "mlp_sigmoid" / "digits" / "runs").iterdir()).unlink()
    code, printed = typed("page", "zoo", "--results", zoo)
    assert code == 1
    assert "lacks 1 run of the stage" in printed
    assert not (zoo / "README.md").exists(), "nothing is half-written"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["foldng"], "Unknown page 'foldng'. Did you mean 'folding'?"),
        (["x"], "Unknown page 'x'. Pages: accuracy, benchmark, claims,"),
        (["--quick"], "go with the NAME of a page"),
        (["folding"], "uses docs/folding.md in a clone of the repository"),
        (["zoo", "--out", "pages"], "uses models in a clone of the repository"),
        (["folding", "--quick"], "do not belong into docs/folding.md. Name a file with --out"),
        (["options", "--quick", "--out", "page.md"], "measures nothing. Leave out --quick"),
        (["options", "--results", "."], "does not follow from stored results. Leave out --results"),
        (["performance", "--results", "."], "fills a part of an existing file: name it with --out"),
        (["performance", "--results", ".", "--out", "README.md"], "There is no file 'README.md'"),
        (["folding", "--out", "."], "'.' is a folder. The page 'folding' is one file"),
        (["surgery", "--results", "."], "'.' is a folder. The page 'surgery' is one file"),
        (["surgery", "--out", "surgery.md"], "uses benchmarks/surgery in a clone of the repository"),
        (["zoo", "--results", "nowhere"], "'nowhere' does not exist"),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, list) else None,
)
def test_typed_wrong(arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, printed = typed("page", *arguments)
    assert code == 2, printed
    assert words in " ".join(printed.split())
    assert not list(tmp_path.iterdir()), "nothing is left behind"
