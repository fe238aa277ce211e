"""The page on surgery for a few small models: it resumes, and it overlooks no broken copy."""

import os
import pathlib
import sys

import keras
import pytest

pytest.importorskip("keras_hub", minversion="0.32")

from bn_keras import surgery
from bn_keras.lab.results import ResultsError
from bn_keras.lab.watcher import Watcher
from bn_keras.pages import surgery as page
from bn_keras.pages import surgery_measure
from bn_keras.pages.registry import PAGES, complete
from bn_keras.pages.surgery_models import CATALOGUE, Entry
from bn_keras.pages.surgery_models.entry import layers_inside, vectors
from bn_keras.surgery.reports import Report, Row, Verified, hand_over
from tests.cli.runner import typed
from tests.processes import run_process

ROOT = pathlib.Path(__file__).parents[2]
STORED = ROOT / PAGES["surgery"].results


def rows_of(text):
    """The rows of the table of models, by name and column."""
    table = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")][3:]
    header, _, *rows = table
    return {row[0]: dict(zip(header, row, strict=True)) for row in rows}


@pytest.fixture
def small_model(monkeypatch):
    monkeypatch.setitem(CATALOGUE, "small", Entry(small, vectors(3)))


@pytest.fixture
def stored(small_model, tmp_path):
    """A folder with the result of the small model, and the result."""
    return tmp_path, page.results_of(("small",), tmp_path, Watcher())["small"]


def test_the_page_follows_from_the_stored_results():
    results = {name: page.FILE.read(page.path_of(name, STORED)) for name in CATALOGUE}
    path = ROOT / PAGES["surgery"].path
    assert path.read_text(encoding="utf-8") == complete(PAGES["surgery"], path, page.page_text(results))


@pytest.mark.slow
def test_the_command_measures_what_is_not_stored(tmp_path):
    results, out = tmp_path / "results", tmp_path / "docs" / "surgery.md"
    page.results_of(page.QUICK[:1], results, Watcher())
    (first,) = results.iterdir()
    before = first.read_bytes()
    arguments = ["page", "surgery", "--quick", "--results", str(results), "--out", str(out)]
    command = [sys.executable, "-m", "bn_keras", *arguments]
    done = run_process(command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout == f"{out}\n"
    assert first.read_bytes() == before, "a stored model was measured again"
    assert {path.name for path in results.iterdir()} == {"vgg.json", "siamese.json", "tied_weights.json"}
    assert "model 2 of 3: Siamese: from_keras: equal" in done.stderr
    text = out.read_text(encoding="utf-8")
    assert text.startswith("<!-- Written by `bn-keras page surgery --quick`. Do not edit. -->\n# ")
    assert "\n| 16 | 16 | 0 | 0 | 0 | 0 |\n" in text
    found = rows_of(text)
    assert list(found) == list(page.QUICK)
    assert [row["norms"] for row in found.values()] == ["0", "2", "2"]
    for name in page.QUICK[1:]:
        headings = ("`from_keras`", "`fold`", "`freeze`", "`recalibrate`", "saved", "folded, saved")
        assert all(found[name][heading].startswith("equal") for heading in headings)


@pytest.mark.slow
@pytest.mark.parametrize("package", ["bn_keras", "tensorflow", "keras", "keras_hub"])
def test_a_result_of_another_version_is_measured_again(package, stored, monkeypatch):
    folder, result = stored
    page.FILE.write(result | {"versions": result["versions"] | {package: "0.0.1"}}, page.path_of("small", folder))
    monkeypatch.setattr(page, "measure", lambda name: result | {"seconds": 123.0})
    assert page.results_of(("small",), folder, Watcher())["small"]["seconds"] == 123
    assert page.FILE.read(page.path_of("small", folder))["seconds"] == 123
    monkeypatch.setattr(page, "measure", lambda name: pytest.fail("a current result was measured again"))
    page.results_of(("small",), folder, Watcher())


@pytest.mark.slow
def test_versions_that_decide_nothing_do_not_count(stored, monkeypatch):
    folder, result = stored
    page.FILE.write(result | {"versions": result["versions"] | {"numpy": "0.0.1"}}, page.path_of("small", folder))
    monkeypatch.setattr(page, "measure", lambda name: pytest.fail("a current result was measured again"))
    page.results_of(("small",), folder, Watcher())


def test_a_file_that_is_no_result_is_refused(small_model, tmp_path):
    (tmp_path / "small.json").write_text('{"model": "small"}')
    with pytest.raises(ResultsError, match="does not hold the results of `bn-keras page surgery`"):
        page.results_of(("small",), tmp_path, Watcher())


def test_without_keras_hub_the_command_names_the_extra_and_measures_nothing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "keras_hub", None)
    monkeypatch.setattr(page, "measure", lambda name: pytest.fail("a model was measured"))
    code, printed = typed("page", "surgery", "--quick", "--out", tmp_path / "surgery.md")
    assert code == 1
    assert "keras_hub" in printed
    assert "pip install 'bn_keras[lab,dev]'" in printed


def test_the_catalogue():
    assert sum(entry.needs_hub for entry in CATALOGUE.values()) >= 25
    assert len(CATALOGUE) == 57
    assert len({page.path_of(name, STORED) for name in CATALOGUE}) == len(CATALOGUE)
    assert {path.name for path in STORED.glob("*")} <= {page.path_of(name, STORED).name for name in CATALOGUE}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["U-Net", "GAN", "nested custom blocks"])
def test_a_model_of_the_catalogue_is_the_same_each_time_and_not_trivial(name):
    model, x = CATALOGUE[name].made()
    other, y = CATALOGUE[name].made()
    keras.tree.map_structure(lambda a, b: (a == b).all() or pytest.fail("other inputs"), x, y)
    assert (
        surgery_measure.difference_of(surgery_measure.outputs_of(model, x), surgery_measure.outputs_of(other, y)) == 0
    )
    (answers, *_) = surgery_measure.outputs_of(model, x)
    assert answers.std(axis=0).max() > 0.01
    assert all(weight.numpy().size < 2 or weight.numpy().std() > 0 for weight in model.trainable_weights)
    assert surgery_measure.batch_norms_of(model)


def small():
    row = [keras.layers.Dense(4), keras.layers.BatchNormalization(name="norm"), keras.layers.Dense(2)]
    return keras.Sequential([keras.Input((3,)), *row], name="small")


CONVERTED = (Row("norm", "BatchNormalization", "converted"),)


def broken(change, rows=CONVERTED):
    """A function of surgery that reports `rows` and gives a clone of the model, changed by `change`."""

    def function(model, *, report):
        copy = keras.models.clone_model(model)
        copy.set_weights(model.get_weights())
        change(model, copy)
        return hand_over(copy, Report("from_keras", tuple(rows), Verified(None, "not asked")), report)

    return function


def nothing(model, copy):
    pass


def lost_weights(model, copy):
    copy.layers[0].kernel.assign(copy.layers[0].kernel * 1.001)


def lost_unused_weight(model, copy):
    """Outputs are equal, as the scale of the batch norm is undone by its variance."""
    norm = copy.get_layer("norm")
    norm.gamma.assign(norm.gamma * 2)
    norm.moving_variance.assign((norm.moving_variance + norm.epsilon) * 4 - norm.epsilon)


def changed_given(model, copy):
    model.layers[0].kernel.assign(model.layers[0].kernel * 1.001)


def raised(model, copy):
    raise IndexError("tuple index out of range")


def refused(model, copy):
    raise ValueError("The layer 'norm' cannot be copied.\nPass another.")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("function", "why"),
    [
        (broken(lost_weights), "outputs differ|variables of the model"),
        (broken(lost_unused_weight), "variables of the model are not in the copy"),
        (broken(changed_given), "the given model changed"),
        (broken(raised), "IndexError: tuple index"),
        (broken(nothing, rows=()), "the report does not name"),
    ],
    ids=["lost_weights", "lost_unused_weight", "changed_given", "raised", "no_row"],
)
def test_what_is_wrong_is_called_wrong(function, why, small_model, monkeypatch):
    monkeypatch.setattr(surgery, "from_keras", function)
    outcome = page.outcomes_of(surgery_measure.measure("small"))["from_keras"]
    assert outcome.verdict == "WRONG"
    assert any(part in outcome.why for part in why.split("|"))


@pytest.mark.slow
def test_a_right_copy_and_a_refusal(small_model, monkeypatch, tmp_path):
    kept = [Row("norm", "BatchNormalization", "kept", "nobody asked")]
    for function, verdict in ((broken(nothing), "equal"), (broken(nothing, kept), "left alone")):
        monkeypatch.setattr(surgery, "from_keras", function)
        outcome = page.outcomes_of(surgery_measure.measure("small"))["from_keras"]
        assert (outcome.verdict, outcome.difference) == (verdict, 0)
    monkeypatch.setattr(surgery, "from_keras", broken(refused))
    text = page.page_text(page.results_of(("small",), tmp_path, Watcher()))
    assert rows_of(text)["small"]["`from_keras`"] == "refused"
    assert "- `from_keras` refused: The layer 'norm' cannot be copied. (small)" in text
    stored = page.FILE.read(tmp_path / "small.json")
    assert page.outcomes_of(stored)["from_keras"].verdict == "refused"


def test_keras_still_flattens_layers():
    """The private name by which the page finds layers without bn_keras."""
    inner = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, name="inside")])
    assert "inside" in {layer.name for layer in layers_inside(keras.Sequential([inner]))}
