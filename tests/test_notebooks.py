"""Every notebook runs from top to bottom, and is in git without its outputs."""

import pathlib
import re
import resource

import nbclient
import nbformat
import pytest

NOTEBOOKS = sorted((pathlib.Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
LESSONS = [path for path in NOTEBOOKS if path.name != "start_here.ipynb"]
CPU_SECONDS = 80  # twice what a notebook may take on a quiet machine


def every(paths):
    return pytest.mark.parametrize("path", paths, ids=lambda path: path.name)


def read(path):
    return nbformat.read(path, as_version=4)


def texts(path):
    return [cell.source for cell in read(path).cells if cell.cell_type == "markdown"]


def numbered(text):
    """The numbers of the items of a list."""
    return [int(number) for number in re.findall(r"^(\d+)\. ", text, re.MULTILINE)]


def test_there_are_notebooks():
    assert NOTEBOOKS


@every(NOTEBOOKS)
def test_a_notebook_is_stripped_and_opens_in_colab(path):
    notebook = read(path)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert not cell.outputs
            assert cell.execution_count is None
    assert f"/blob/main/notebooks/{path.name}" in notebook.cells[0].source
    assert "colab-badge.svg" in notebook.cells[0].source


@every(NOTEBOOKS)
def test_the_first_code_installs_what_is_missing(path):
    first = next(cell.source for cell in read(path).cells if cell.cell_type == "code")
    assert 'find_spec("bn_keras") is None' in first
    assert "%pip install" in first


@every(NOTEBOOKS)
def test_a_notebook_shows_a_stored_result_first(path):
    _, first, *_ = (cell.source for cell in read(path).cells if cell.cell_type == "code")
    assert "read_shipped(" in first


@every(LESSONS)
def test_a_lesson_lets_the_reader_predict(path):
    cells = read(path).cells
    questions = [i for i, cell in enumerate(cells) if "**What do you expect?**" in cell.source]
    assert len(questions) >= 3
    assert all(cells[i + 1].cell_type == "code" for i in questions), "the answer is measured right after"


@every(LESSONS)
def test_a_lesson_ends_with_exercises_and_hidden_answers(path):
    last = texts(path)[-1]
    exercises, answers = last.split("## Exercises")[1].split("<details>")
    assert len(numbered(exercises)) in (2, 3)
    assert numbered(answers) == numbered(exercises)
    assert answers.rstrip().endswith("</details>")


@pytest.mark.exhaustive  # `make docs` runs the notebooks
@pytest.mark.slow
@every(NOTEBOOKS)
def test_a_notebook_runs(path, tmp_path, monkeypatch):
    monkeypatch.delenv("MPLBACKEND", raising=False)  # the kernel shows pictures in the notebook, as Jupyter does
    notebook = read(path)
    before = cpu_seconds_of_children()
    nbclient.NotebookClient(
        notebook, timeout=900, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    ).execute()
    shown = {kind for cell in notebook.cells for each in cell.get("outputs", []) for kind in each.get("data", {})}
    assert shown & {"image/png", "image/svg+xml"}, "what is measured is shown"
    assert cpu_seconds_of_children() - before < CPU_SECONDS


def cpu_seconds_of_children():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
