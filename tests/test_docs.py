"""The pages of docs/ speak of what is there."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PAGES = sorted(ROOT.glob("docs/*.md"))
RECIPES = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
TESTS = sorted(set(re.findall(r"`(tests/[\w/]+\.py::\w+)`", (ROOT / "docs" / "pitfalls.md").read_text())))


@pytest.mark.parametrize("test", TESTS)
def test_tests_that_are_named_exist(test):
    path, name = test.split("::")
    assert re.search(rf"^def {name}\(", (ROOT / path).read_text(), re.MULTILINE), test


def test_the_page_names_a_test_for_each_pitfall():
    rows = [line for line in (ROOT / "docs" / "pitfalls.md").read_text().splitlines() if re.match(r"\| \d", line)]
    assert len(rows) > 20
    assert all("`tests/" in row for row in rows)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", prose):
        assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize(
    "recipe",
    re.findall(r"^## (.*?)$.*?```python\n(.*?)```", RECIPES, re.DOTALL | re.MULTILINE),
    ids=lambda each: each[0],
)
def test_recipes_run(recipe, tmp_path, monkeypatch, forked_exports):
    monkeypatch.chdir(tmp_path)
    exec(compile(recipe[1], f"recipe: {recipe[0]}", "exec"), {})


TRAINING = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("code", re.findall(r"```python\n(.*?)```", TRAINING, re.DOTALL))
def test_the_examples_of_training_run(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "training", "exec"), {})


@pytest.mark.parametrize("name", ["training", "workers"])
def test_options_of_the_command_exist(name):
    from bn_keras.cli.train import train

    known = {option for parameter in train.params for option in parameter.opts}
    page = (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
    others = {
        "--logdir",
        "--kill-on-bad-exit",
        "--distribution",
        "--gpus-per-task",
        "--requeue",
    }  # of TensorBoard and of Slurm
    lines = "\n".join(line for line in page.splitlines() if not line.startswith("#SBATCH"))
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", lines)) - others <= known


def test_the_ranges_on_the_page_are_those_of_the_code():
    from bn_keras.choices.ranges import RANGES

    page = (ROOT / "docs" / "command_line.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `--([a-z-]+)` \| ([\d,]+) to ([\d,]+) \|", page, re.MULTILINE)
    assert {name for name, *_ in rows} > {"batch-size", "accumulate", "image-size", "replicas"}
    for name, *ends in rows:
        allowed = RANGES[name.replace("-", "_")]
        assert [int(end.replace(",", "")) for end in ends] == [allowed.least, allowed.most], name
    for name in ("steps", "warmup", "evaluate_every", "evaluation_examples", "validation_examples"):
        assert RANGES[name].most == 1_000_000_000
