"""The zoo's pages and figures follow from the stored runs beside them."""

import csv
import io
import json
import pathlib
import re
import shlex
import shutil

import click
import pytest

from bn_keras.cli.compare import compare as command
from bn_keras.cli.compare import recipe_of
from bn_keras.experiments import ResultsError, default_recipe, read_comparison
from bn_keras.experiments.comparison import compare as module
from bn_keras.experiments.comparison.figures import FIGURES
from bn_keras.experiments.comparison.zoo import ZOO, compare_command, place_of
from bn_keras.models import list_presets
from bn_keras.pages import zoo
from bn_keras.pages.registry import PAGES, Request, complete, write
from bn_keras.pages.zoo_card import card_text
from tests.cli.runner import typed
from tests.experiments.comparison import made_up
from tests.experiments.comparison.tiny import TINY

MODELS = pathlib.Path(__file__).parents[2] / "models"
PLACES = [str(place_of(recipe)) for recipe in ZOO]


def stored(place):
    """A stored comparison; a test is skipped while runs are missing."""
    try:
        return read_comparison(MODELS / place)
    except ResultsError as error:
        pytest.skip(f"the comparison is not finished: {error}")


def test_every_folder_of_the_zoo_is_a_comparison_of_a_preset():
    found = {path.parent.relative_to(MODELS).as_posix() for path in MODELS.glob("*/*/comparison.json")}
    assert found <= set(PLACES)
    assert {place.split("/")[0] for place in PLACES} <= set(list_presets())


@pytest.mark.parametrize("recipe", ZOO, ids=PLACES)
def test_a_stored_comparison_has_the_recipe_of_the_zoo(recipe):
    assert stored(place_of(recipe)).recipe == recipe


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
def test_a_card_follows_from_its_stored_runs(place):
    path = MODELS / place / "README.md"
    earlier = zoo.read_earlier(MODELS / place / "earlier.json")
    text = complete(PAGES["zoo"], path, card_text(stored(place), earlier))
    assert path.read_text(encoding="utf-8") == text, "run `make zoo`"


@pytest.mark.parametrize("place", PLACES)
def test_the_figures_were_drawn_from_the_stored_recipe(place):
    digest = stored(place).recipe.hash
    for name in FIGURES:
        assert digest in (MODELS / place / f"{name}.svg").read_text(encoding="utf-8"), "run `make zoo`"


@pytest.mark.slow
def test_the_matrix_and_its_csv_follow_from_the_stored_runs():
    comparisons = zoo.read_zoo(MODELS)
    assert (MODELS / zoo.CSV).read_text(encoding="utf-8") == zoo.csv_text(comparisons), "run `make zoo`"
    matrix = complete(PAGES["zoo"], MODELS / zoo.MATRIX, zoo.matrix_text(comparisons))
    assert (MODELS / zoo.MATRIX).read_text(encoding="utf-8") == matrix, "run `make zoo`"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A zoo with one comparison that nobody trained."""
    path = tmp_path_factory.mktemp("zoo")
    made_up.folder(path / "mlp_sigmoid" / "digits")
    return path


@pytest.mark.slow
def test_pages_are_written_from_stored_runs_alone(folder, tmp_path):
    written = write(PAGES["zoo"], tmp_path, Request(results=folder))
    names = {path.relative_to(tmp_path).as_posix() for path in written}
    pictures = {f"mlp_sigmoid/digits/{name}.{kind}" for name in FIGURES for kind in ("svg", "png")}
    texts = {"README.md", "results.csv", "mlp_sigmoid/README.md", "mlp_sigmoid/digits/README.md"}
    assert names == pictures | texts
    card = (tmp_path / "mlp_sigmoid" / "digits" / "README.md").read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", card):
        if not target.startswith("..") and "://" not in target:
            assert (tmp_path / "mlp_sigmoid" / "digits" / target).exists(), target
    rows = list(csv.DictReader(io.StringIO((tmp_path / "results.csv").read_text(encoding="utf-8"))))
    found = read_comparison(folder / "mlp_sigmoid" / "digits")
    row = next(each for each in rows if (each["norm"], each["winner"]) == ("batch", "fastest"))
    assert float(row["fewer_steps"]) == pytest.approx(found.speedup("batch").ratio, rel=1e-3)
    assert float(row["target"]) == pytest.approx(found.target, abs=1e-6)
    assert {each["recipe"] for each in rows} == {found.recipe.hash}
    assert f"{found.speedup('batch').ratio:.2f}×" in (tmp_path / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_changed_run_changes_the_card_and_the_csv(tmp_path):
    made_up.folder(tmp_path / "mlp_sigmoid" / "digits")
    before = zoo.read_zoo(tmp_path)
    texts = [zoo.csv_text(before), *(card_text(each, None) for each in before.values())]
    for path in (tmp_path / "mlp_sigmoid" / "digits" / "runs").iterdir():
        entry = json.loads(path.read_text())
        if entry["arm"] == "batch" and entry["seed"]:
            entry["accuracy"] = [entry["accuracy"][0]] * len(entry["accuracy"])
            path.write_text(json.dumps(entry))
    after = zoo.read_zoo(tmp_path)
    changed = [zoo.csv_text(after), *(card_text(each, None) for each in after.values())]
    assert all(ours != theirs for ours, theirs in zip(texts, changed, strict=True))
    assert "seeds miss the target" in changed[1]


def test_a_comparison_of_another_recipe_is_stale_by_its_hash(folder, monkeypatch):
    other = made_up.recipe(seeds=3)
    monkeypatch.setattr(zoo, "ZOO", (other,))
    ours, theirs = (each.hash for each in (made_up.recipe(), other))
    words = f"digits is stale: it was made with the recipe {ours}, and the zoo's is {theirs} now"
    with pytest.raises(ResultsError, match=words):
        zoo.files(Request(results=folder))


def test_missing_and_unfinished_comparisons_are_refused(tmp_path):
    with pytest.raises(ResultsError, match=r"There is no .*comparison.json. Make one with `make zoo`"):
        zoo.files(Request(results=tmp_path))
    runs = made_up.folder(tmp_path / "mlp_sigmoid" / "digits") / "runs"
    next(runs.iterdir()).unlink()
    with pytest.raises(ResultsError, match="lacks 1 run of the stage"):
        zoo.files(Request(results=tmp_path))


@pytest.mark.slow
def test_a_comparison_of_the_zoo_that_has_just_begun_waits_for_its_card(tmp_path, monkeypatch):
    finished, begun = (made_up.recipe(batch_size=size) for size in (64, 4))
    monkeypatch.setattr(zoo, "ZOO", (finished, begun))
    for recipe in (finished, begun):
        made_up.folder(tmp_path / place_of(recipe), batch_size=recipe.batch_size)
    next((tmp_path / place_of(begun) / "runs").iterdir()).unlink()
    comparisons = zoo.read_zoo(tmp_path)
    assert list(comparisons) == [place_of(finished)]
    assert compare_command(begun) in zoo.matrix_text(comparisons), "the matrix names what is missing"
    (tmp_path / place_of(begun) / "README.md").touch()
    with pytest.raises(ResultsError, match="lacks 1 run of the stage"):
        zoo.read_zoo(tmp_path)


@pytest.mark.slow
def test_small_batches_have_a_card_and_a_row_of_their_own_but_none_in_the_readme(tmp_path):
    places = ("mlp_sigmoid/digits", "mlp_sigmoid/digits_batch_4")
    for place, batch_size in zip(places, (64, 4), strict=True):
        made_up.folder(tmp_path / place, batch_size=batch_size)
    assert str(place_of(made_up.recipe(batch_size=4))) == places[1]
    comparisons = zoo.read_zoo(tmp_path)
    assert [str(place) for place in comparisons] == list(places)
    rows = list(csv.DictReader(io.StringIO(zoo.csv_text(comparisons))))
    assert {row["batch_size"] for row in rows} == {"64", "4"}
    assert "| digits in batches of 4 | batch |" in zoo.matrix_text(comparisons)
    assert card_text(list(comparisons.values())[1], None).startswith("# mlp_sigmoid on digits in batches of 4")
    assert zoo.speedups(Request(results=tmp_path)).count("| digits |") == 1


@pytest.mark.slow
def test_a_comparison_without_runs_is_left_out_with_a_note(folder, tmp_path):
    begun = tmp_path / "inception_small" / "mnist_batch_4"
    begun.mkdir(parents=True)
    (begun / "comparison.json").write_text((folder / "mlp_sigmoid/digits/comparison.json").read_text())
    with pytest.raises(ResultsError, match="There is no"):
        zoo.read_zoo(tmp_path)
    shutil.copytree(folder / "mlp_sigmoid", tmp_path / "mlp_sigmoid")
    text = zoo.matrix_text(zoo.read_zoo(tmp_path))
    assert "| inception_small | mnist in batches of 4 | `bn-keras compare inception_small --data mnist" in text


RECIPES = [
    *ZOO,
    made_up.recipe(),
    made_up.recipe(norms=(None, ("group", {"groups": 4, "epsilon": 1e-05}), "layer"), width=0.3, norm_momentum=0.99),
    made_up.recipe(learning_rates=(0.0123456789, 1.0), optimizer="adam", trials=4, seeds=7, batch_size=48),
    default_recipe("resnet20", quick=True, seeds=4),
]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.hash)
def test_the_command_of_a_comparison_has_its_recipe(recipe):
    words = shlex.split(compare_command(recipe))
    assert words[:2] == ["bn-keras", "compare"]
    context = click.Context(command)
    values = command.make_context("compare", words[2:]).params
    own_fields = {name: values.pop(name) for name in ("preset", "data", "quick")}
    for name in ("data_dir", "out", "resume"):
        values.pop(name)
    with context:
        changes = {name: value for name, value in values.items() if value is not None}
        assert recipe_of(own_fields["preset"], own_fields["data"], own_fields["quick"], changes) == recipe


@pytest.mark.slow
def test_the_commands_on_a_card_train_the_stored_runs_again(tmp_path):
    found = module.compare(TINY, tmp_path)
    lines = re.findall(r"# (\w+), [\w ]+: runs/(\w+)\.json\n(bn-keras train .*)", card_text(found, None))
    assert {arm for arm, *_ in lines} == {"none", "batch"}
    for arm, (key, line) in {arm: (key, line) for arm, key, line in lines}.items():
        code, printed = typed(*shlex.split(line)[1:], "--out", tmp_path / arm)
        assert code == 0, printed
        trained = json.loads((tmp_path / arm / "results.json").read_text())
        entry = json.loads((tmp_path / "runs" / f"{key}.json").read_text())
        assert [row["accuracy"] for row in trained["evaluations"]] == entry["accuracy"]
