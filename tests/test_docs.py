"""The pages of docs/ speak of what is there, and their code runs."""

import importlib.util
import pathlib
import re

import pytest

from bn_keras import cli

ROOT = pathlib.Path(__file__).parents[1]
PAGES = [path for path in sorted(ROOT.glob("docs/**/*.md")) if "_build" not in path.parts]
OPTIONAL = {"tf_keras", "torch"}  # packages that only a reader who comes from them has
FENCE = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
PITFALLS = (ROOT / "docs" / "pitfalls.md").read_text(encoding="utf-8")
TESTS = sorted(set(re.findall(r"`(tests/[\w/]+\.py::\w+)`", PITFALLS)))
# Of TensorBoard and Slurm.
FOREIGN_OPTIONS = {"--logdir", "--kill-on-bad-exit", "--distribution", "--gpus-per-task", "--requeue"}


def text_of(path):
    return path.read_text(encoding="utf-8")


def named(path):
    return str(path.relative_to(ROOT / "docs").with_suffix(""))


def code_of(path):
    """The Python examples of a page, each with as many empty lines before it as errors need to name its line."""
    text = text_of(path)
    return ["\n" * text.count("\n", 0, found.start(1)) + found[1] for found in FENCE.finditer(text)]


def missing_packages(code):
    imported = set(re.findall(r"^import (\w+)", code, re.MULTILINE)) & OPTIONAL
    return {name for name in imported if importlib.util.find_spec(name) is None}


@pytest.mark.parametrize("page", [path for path in PAGES if FENCE.search(text_of(path))], ids=named)
def test_a_page_runs_from_top_to_bottom(page, tmp_path, monkeypatch, forked_exports):
    monkeypatch.chdir(tmp_path)
    names, missing = {}, set()
    for code in code_of(page):
        missing |= missing_packages(code)
        if not missing_packages(code):
            exec(compile(code, page, "exec"), names)
    if missing:
        pytest.skip(f"the examples that need {', '.join(sorted(missing))} did not run: not installed")


@pytest.mark.parametrize("test", TESTS)
def test_tests_that_are_named_exist(test):
    path, name = test.split("::")
    assert re.search(rf"^def {name}\(", text_of(ROOT / path), re.MULTILINE), test


def test_the_page_names_a_test_for_each_pitfall():
    rows = [line for line in PITFALLS.splitlines() if re.match(r"\| \d", line)]
    assert len(rows) > 20
    assert all("`tests/" in row for row in rows)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page):
    prose = re.sub(r"^```.*?^```", "", text_of(page), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", prose):
        assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("name", ["training", "workers"])
def test_options_of_the_command_exist(name):
    known = {option for parameter in cli.cli.commands["train"].params for option in parameter.opts}
    page = text_of(ROOT / "docs" / f"{name}.md")
    lines = "\n".join(line for line in page.splitlines() if not line.startswith("#SBATCH"))
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", lines)) - FOREIGN_OPTIONS <= known


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_commands_of_a_page_exist(page):
    for name, rest in re.findall(r"^bn-keras (\w+)(.*)$", text_of(page), re.MULTILINE):
        known = {option for each in cli.cli.commands[name].params for option in each.opts} | {"--help"}
        assert set(re.findall(r"(?<![\w-])--[a-z0-9-]+", rest)) <= known, f"bn-keras {name}{rest}"


def test_the_ranges_on_the_page_are_those_of_the_code():
    from bn_keras.choices.ranges import RANGES

    page = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `--([a-z-]+)` \| ([\d,]+) to ([\d,]+) \|", page, re.MULTILINE)
    assert {name for name, *_ in rows} > {"batch-size", "accumulate", "image-size", "replicas"}
    for name, *ends in rows:
        allowed = RANGES[name.replace("-", "_")]
        assert [int(end.replace(",", "")) for end in ends] == [allowed.least, allowed.most], name
    for name in ("steps", "warmup", "evaluate_every", "evaluation_examples", "validation_examples"):
        assert RANGES[name].most == 1_000_000_000
