"""The zoo's pages and pictures follow from the results beside them."""

import json
import pathlib
import re

import pytest

from bn_keras.experiments import ResultsError, draw, read_results
from bn_keras.lab.results import digest_of
from bn_keras.models import list_presets
from bn_keras.pages import zoo
from bn_keras.pages.registry import PAGES, Request, complete, write
from tests.experiments.test_analysis import made_up

ZOO = pathlib.Path(__file__).parents[2] / "models"


def page_of(path, text):
    return complete(PAGES["zoo"], path, text)


COMPARED = sorted(path.parent.name for path in ZOO.glob("*/results.json"))


def test_the_compared_presets_exist():
    assert {"inception_small", "mlp_sigmoid"} <= set(COMPARED) <= set(list_presets())


@pytest.mark.parametrize("name", COMPARED)
def test_a_page_follows_from_its_results(name):
    results = read_results(ZOO / name)
    assert results["recipe"]["preset"] == name
    assert len(results["recipe"]["seeds"]) >= 3
    card, picture = ((ZOO / name / each).read_text(encoding="utf-8") for each in ("README.md", "curves.svg"))
    assert card == page_of(ZOO / name / "README.md", zoo.card_text(results)), "run `make zoo`"
    assert digest_of(ZOO / name / "results.json") in picture, "run `make zoo`"


def test_the_table_follows_from_the_results():
    entries = {name: read_results(ZOO / name) for name in COMPARED}
    path = ZOO / "README.md"
    assert path.read_text(encoding="utf-8") == page_of(path, zoo.table_text(entries)), "run `make zoo`"


def test_pages_are_written_from_results_alone(tmp_path):
    directory = tmp_path / "mlp_sigmoid"
    directory.mkdir()
    (directory / "results.json").write_text(json.dumps(made_up()))
    written = write(PAGES["zoo"], tmp_path, Request(results=tmp_path))
    assert [str(path.relative_to(tmp_path)) for path in written] == [
        "mlp_sigmoid/README.md",
        "mlp_sigmoid/curves.svg",
        "README.md",
    ]
    card = written[0].read_text()
    assert "| at the same learning rate | batch norm | 0.1 | 20 | 20 30 | 4.00 | 2.00× | 1.00× |" in card
    assert "bn-keras compare mlp_sigmoid --data digits --rates 0.1,1 --seeds 0,1" in card
    assert "4.0× fewer steps, 2.0× less time" in written[2].read_text()
    changed = made_up()
    changed["runs"][4]["accuracy"] = [0.1, 0.9, 0.9, 0.9, 0.9]
    assert zoo.card_text(changed) != zoo.card_text(made_up())
    assert zoo.card_text(made_up()) in card


def test_unfinished_results_are_refused(tmp_path):
    with pytest.raises(ResultsError, match="There is no"):
        zoo.files(Request(results=tmp_path))
    (tmp_path / "mlp_sigmoid").mkdir()
    (tmp_path / "mlp_sigmoid" / "results.json").write_text(json.dumps(made_up() | {"runs": []}))
    with pytest.raises(ResultsError, match="8 runs of the recipe are not in the results"):
        zoo.files(Request(results=tmp_path))


def test_a_picture_shows_both_arms_the_target_and_the_crossings(tmp_path):
    draw(made_up(), tmp_path / "curves.svg")
    words = re.sub(r"<[^>]+>", " ", (tmp_path / "curves.svg").read_text(encoding="utf-8"))
    for expected in ("without norm, lr 0.1", "batch norm, lr 1", "target", "80.0%", "40 steps", "20 steps",
                     "10 steps", "1 of 2", "diverged", "4.0× fewer steps, 2.0× less time", "chance"):  # fmt: skip
        assert expected in words, expected
    draw(made_up(), tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes()[:4] == b"\x89PNG"


def test_a_picture_of_an_arm_that_never_gets_there(tmp_path):
    results = made_up()
    for run in results["runs"]:
        if run["arm"] == "batch":
            run["accuracy"] = [0.1] * 5
    draw(results, tmp_path / "curves.svg")
    assert "batch norm: does not reach the target" in (tmp_path / "curves.svg").read_text(encoding="utf-8")
