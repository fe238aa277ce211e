"""The page on surgery for a few small models, and what it must not overlook."""

import json
import subprocess
import sys

import keras
import pytest

pytest.importorskip("keras_hub", minversion="0.32")

from benchmarks import surgery as script
from benchmarks.surgery_models import CATALOGUE, Entry, layers_inside, vectors
from bn_keras import surgery
from bn_keras.surgery.reports import Report, Row, Verified, hand_over
from tests.processes import ROOT

FEW = ("VGG", "Siamese", "tied weights")


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.surgery", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


def rows_of(text):
    header, _, *rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    return {row[0]: dict(zip(header, row, strict=True)) for row in rows}


def test_the_page_is_written_and_goes_on_where_it_ended(tmp_path):
    out, results = tmp_path / "docs" / "surgery.md", tmp_path / "results"
    options = ("--results", str(results), "--out", str(out))
    done = command(*options, "--models", *FEW[:1])
    assert done.returncode == 0, done.stderr[-3000:]
    (stored,) = results.iterdir()
    before = stored.read_bytes()
    done = command(*options, "--models", *FEW)
    assert done.returncode == 0, done.stderr[-3000:]
    assert stored.read_bytes() == before, "a finished model was measured again"
    assert len(list(results.iterdir())) == len(FEW)
    text = out.read_text(encoding="utf-8")
    assert text in done.stdout
    assert f"3 of {len(FEW)}: tied weights: from_keras: " in done.stderr
    found = rows_of(text)
    assert list(found) == list(FEW)
    assert "WRONG" not in str(found)
    assert [row["norms"] for row in found.values()] == ["0", "2", "2"]
    for name in FEW[1:]:
        assert all(found[name][heading].startswith("equal") for heading in ("`from_keras`", "`fold`", "saved"))


def test_an_unknown_model_is_refused():
    done = command("--models", "LeNet")
    assert done.returncode == 2
    assert "invalid choice: 'LeNet'" in done.stderr


def test_the_catalogue():
    assert sum(entry.needs_hub for entry in CATALOGUE.values()) >= 25
    assert len({script.file_name(name) for name in CATALOGUE}) == len(CATALOGUE)


@pytest.mark.parametrize("name", ["U-Net", "GAN", "nested custom blocks"])
def test_a_model_of_the_catalogue_is_the_same_each_time_and_not_trivial(name):
    model, x = CATALOGUE[name].made()
    other, y = CATALOGUE[name].made()
    keras.tree.map_structure(lambda a, b: (a == b).all() or pytest.fail("other inputs"), x, y)
    assert script.difference_of(script.outputs_of(model, x), script.outputs_of(other, y)) == 0
    (answers, *_) = script.outputs_of(model, x)
    assert answers.std(axis=0).max() > 0.01
    assert all(weight.numpy().size < 2 or weight.numpy().std() > 0 for weight in model.trainable_weights)
    assert script.batch_norms_of(model)


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
def test_what_is_wrong_is_called_wrong(function, why, monkeypatch):
    monkeypatch.setattr(surgery, "from_keras", function)
    monkeypatch.setitem(CATALOGUE, "small", Entry(small, vectors(3)))
    outcome = script.Outcome(**script.measure("small")["functions"]["from_keras"])
    assert outcome.verdict == "WRONG"
    assert any(part in outcome.why for part in why.split("|"))


def test_a_right_copy_and_a_refusal(monkeypatch, tmp_path):
    monkeypatch.setitem(CATALOGUE, "small", Entry(small, vectors(3)))
    kept = [Row("norm", "BatchNormalization", "kept", "nobody asked")]
    for function, verdict in ((broken(nothing), "equal"), (broken(nothing, kept), "left alone")):
        monkeypatch.setattr(surgery, "from_keras", function)
        outcome = script.Outcome(**script.measure("small")["functions"]["from_keras"])
        assert (outcome.verdict, outcome.difference) == (verdict, 0)
    monkeypatch.setattr(surgery, "from_keras", broken(refused))
    text = script.page(tmp_path, ["small"], tell=lambda line: None)
    assert rows_of(text)["small"]["`from_keras`"] == "refused"
    assert "- `from_keras` refused: The layer 'norm' cannot be copied. (small)" in text
    assert json.loads((tmp_path / "small.json").read_text())["functions"]["from_keras"]["verdict"] == "refused"


def test_keras_still_flattens_layers():
    """The private name by which the page finds layers without bn_keras."""
    inner = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, name="inside")])
    assert "inside" in {layer.name for layer in layers_inside(keras.Sequential([inner]))}
