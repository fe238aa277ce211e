"""What the README and CONTRIBUTING say can be typed, run and followed."""

import pathlib
import re

import pytest

from bn_keras import cli
from bn_keras.lab import quiet

ROOT = pathlib.Path(__file__).parents[1]
PAGES = ["README.md", "CONTRIBUTING.md"]
TEXT = {page: (ROOT / page).read_text(encoding="utf-8") for page in PAGES}


@pytest.mark.parametrize("code", re.findall(r"```python\n(.*?)```", TEXT["README.md"], re.DOTALL))
def test_code_runs(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})


@pytest.mark.parametrize("page", PAGES)
def test_words_for_make_exist(page):
    words = set(re.findall(r"(?:^|`)make ([a-z][a-z0-9-]+)", TEXT[page], re.MULTILINE))
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert words
    assert words <= targets


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)]+)\)", TEXT[page]):
        if not link.startswith("https://"):
            path, _, heading = link.partition("#")
            assert (ROOT / path).exists(), link
            assert not heading or heading in headings(ROOT / path), link


def headings(path):
    """The anchors of a page: those of its headings, as GitHub makes them, and its own."""
    text = path.read_text(encoding="utf-8")
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return set(re.findall(r'<a id="([^"]+)">', text)) | {
        re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles
    }


def test_commands_and_options_exist():
    commands = re.findall(r"bn-keras ([a-z]+)([^`#\n]*)", TEXT["README.md"])
    assert {name for name, _ in commands} >= {"claims", "compare", "export"}
    for name, rest in commands:
        known = {option for each in cli.cli.commands[name].params for option in each.opts}
        assert set(re.findall(r"--[a-z-]+", rest)) <= known


def test_a_reader_needs_two_minutes():
    """Two screens, with the installation on the first one."""
    lines = TEXT["README.md"].splitlines()
    assert len(lines) <= 120
    assert lines.index("## Install") < 20


def test_make_does_not_bring_the_messages_of_tensorflow_back():
    """A level in the environment is the user's own, so the commands keep it."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.findall(rf"{quiet.LEVEL}\W+(\w+)", makefile) == [quiet.SILENT]
