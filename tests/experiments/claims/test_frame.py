"""The frame of the claims: measurements by their settings, stored files, several processes, and accidents."""

import json
import os
import re

import pytest

from bn_keras.experiments import DataError, ResultsError
from bn_keras.experiments.claims import run
from bn_keras.experiments.claims.catalog import MODULES, ClaimError, claim_named
from bn_keras.experiments.claims.claim import CONDITIONALLY, HOLDS, Finding, Form, Found, plain
from bn_keras.experiments.claims.figures import spread
from bn_keras.experiments.claims.run import LostProcessError, measure_claims, next_cells
from bn_keras.experiments.claims.stored import finding_of, read_claim, read_to_continue
from bn_keras.lab.watcher import Watcher
from tests.experiments.claims.planted import CLAIM, die, fail, interrupt, planted

QUICK = Form(quick=True)


class Recorder(Watcher):
    """Keeps what is told."""

    def __init__(self):
        self.told = []

    def begin(self, unit, total, done=0, notes=()):
        self.told.append((total, done))

    def item_ends(self, note):
        self.told.append("end")


def stored_squares(out):
    cells = json.loads((out / "C8.json").read_text())["cells"]
    return {entry["cell"]["seed"]: entry["values"]["square"] for entry in cells}


def finding(**changes):
    return Finding(**{"verdict": HOLDS, "number": "1", "because": "", "columns": (), "rows": ()} | changes)


def test_found_gives_values_by_settings_whatever_their_order():
    found = Found([({"arm": "a", "seed": 0}, {"x": 1}), ({"arm": "a", "seed": 1}, {"x": 2}), ({"arm": "b"}, {"x": 3})])
    assert found[{"seed": 1, "arm": "a"}] == {"x": 2}
    assert found.values("x", arm="a") == [1, 2]
    assert found.where(arm="b", seed=0) == []
    assert found.has([{"arm": "b"}])
    assert not found.has([{"arm": "b"}, {"arm": "c"}])


def test_a_finding_refuses_an_unknown_verdict_and_conditions_that_do_not_fit():
    with pytest.raises(ValueError, match=r"`verdict` must be one of holds, .* Received: 'true'"):
        finding(verdict="true")
    with pytest.raises(ValueError, match="`conditions` go with"):
        finding(conditions="at large widths")
    with pytest.raises(ValueError, match="`conditions` go with"):
        finding(verdict=CONDITIONALLY)
    assert finding(verdict=CONDITIONALLY, conditions="at large widths").verdict == CONDITIONALLY


def test_a_spread_says_never_for_a_run_that_never_got_there():
    assert spread([]) == "–"
    assert spread([2.0], ".1f") == "2.0"
    assert spread([1.0, 2.0, float("inf")], ".0f") == "2 (1–never)"


def test_every_id_names_a_module_and_a_wrong_id_the_nearest_one():
    assert list(MODULES) == [f"C{number}" for number in range(1, 16)]
    assert claim_named("c8").id == "C8"
    with pytest.raises(ClaimError, match=r"Unknown claim 'C88'. Did you mean C8\?"):
        claim_named("C88")
    with pytest.raises(ClaimError, match="Claims: C1, C2, "):
        claim_named("x")


def test_all_stages_are_measured_stored_and_counted(tmp_path):
    watcher = Recorder()
    results = measure_claims([CLAIM], tmp_path, form=QUICK, watcher=watcher)
    assert results["C8"].found.values("square") == [0, 1, 4]
    assert watcher.told == [(2, 0), "end", "end", (3, 2), "end"]
    again = read_claim(CLAIM, tmp_path)
    assert again.results == results["C8"].results
    assert again.form == QUICK
    assert again.seconds >= 0


@pytest.mark.slow
def test_several_processes_measure_the_same_values_as_one_and_make_room_for_new_ones(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "CELLS_PER_PROCESS", 1)
    results = measure_claims([CLAIM], tmp_path, form=QUICK, jobs=2)["C8"]
    assert stored_squares(tmp_path) == {0: 0, 1: 1, 2: 4}
    *first, last = results.found.values("process")
    assert os.getpid() not in (*first, last)
    assert last not in first, "two cells are the share of the first two processes"


def test_results_are_not_overwritten_and_resume_measures_only_what_is_missing(tmp_path):
    measure_claims([CLAIM], tmp_path, form=QUICK)
    path = tmp_path / "C8.json"
    stored = json.loads(path.read_text())
    with pytest.raises(ResultsError, match="exists already. Continue it with --resume"):
        measure_claims([CLAIM], tmp_path, form=QUICK)
    kept = stored["cells"][:1]
    path.write_text(json.dumps(stored | {"cells": [*kept, {"cell": {"arm": "old"}, "values": {"seconds": 1.0}}]}))
    watcher = Recorder()
    measure_claims([CLAIM], tmp_path, form=QUICK, resume=True, watcher=watcher)
    assert watcher.told[0] == (2, 1)
    cells = json.loads(path.read_text())["cells"]
    assert cells[0] == kept[0], "a measured cell is kept as it is"
    assert [entry["cell"].get("seed") for entry in cells] == [0, 1, 2], "a cell that the claim no longer asks for goes"


def test_another_form_is_refused_on_resume(tmp_path):
    measure_claims([CLAIM], tmp_path, form=QUICK)
    with pytest.raises(ResultsError, match="was made with quick=True, not False. Resume with the same values"):
        measure_claims([CLAIM], tmp_path, form=Form(), resume=True)
    (tmp_path / "C8.json").rename(tmp_path / "C9.json")
    with pytest.raises(ResultsError, match="was made with claim='C8', not 'C9'"):
        measure_claims([planted(id="C9")], tmp_path, form=QUICK, resume=True)


CHANGED = {
    "rule": ({"rule": "Holds if odd."}, "rule was 'Holds if they add up to five.' and is now 'Holds if odd.'"),
    "method": ({"method": "Four seeds."}, "method was 'Three seeds.' and is now 'Four seeds.'"),
    "settings": ({"settings": {"momentum": 0.9, "batch": 60}}, "momentum was 0.99 and is now 0.9"),
}


@pytest.mark.parametrize(("change", "words"), CHANGED.values(), ids=CHANGED)
def test_a_changed_protocol_is_refused_before_the_end_and_noted_after_it(change, words, tmp_path):
    begun = {"settings": {"momentum": 0.99, "batch": 60}}
    with pytest.raises(KeyboardInterrupt):
        measure_claims([planted(measure=interrupt, **begun)], tmp_path, form=QUICK)
    with pytest.raises(ResultsError) as refused:
        measure_claims([planted(**begun | change)], tmp_path, form=QUICK, resume=True)
    assert words in str(refused.value)
    assert "batch" not in str(refused.value), "only what has changed is named"
    assert "measure anew in another directory with --out" in str(refused.value)
    measure_claims([planted(**begun)], tmp_path, form=QUICK, resume=True)
    measure_claims([planted(**begun | change)], tmp_path, form=QUICK, resume=True)
    stored = read_claim(CLAIM, tmp_path)
    assert finding_of(planted(**begun), stored).notes == ("No run diverged.",)
    note, _ = finding_of(planted(**begun | change), stored).notes
    assert note.startswith("Changed since these measurements: ")
    assert words in note


def test_other_versions_do_not_continue_a_file(tmp_path, monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        measure_claims([planted(measure=interrupt)], tmp_path, form=QUICK)
    path = tmp_path / "C8.json"
    results = json.loads(path.read_text())
    path.write_text(json.dumps(results | {"versions": results["versions"] | {"keras": "3.0"}}))
    with pytest.raises(ResultsError, match="keras was '3.0' and is now"):
        measure_claims([CLAIM], tmp_path, form=QUICK, resume=True)


def test_unfinished_measurements_are_not_read(tmp_path):
    with pytest.raises(ResultsError, match=r"There is no .*C8.json"):
        read_claim(CLAIM, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        measure_claims([planted(measure=interrupt)], tmp_path, form=QUICK)
    with pytest.raises(ResultsError, match="lacks 1 measurements. Finish it with `bn-keras claims C8 --resume`"):
        read_claim(CLAIM, tmp_path)


def test_an_error_names_its_cell_and_the_finished_cells_are_kept(tmp_path):
    with pytest.raises(ArithmeticError, match="planted") as raised:
        measure_claims([planted(measure=fail)], tmp_path, form=QUICK)
    assert raised.value.__notes__ == ["This happened in the measurement of C8, arm planted, seed 1."]
    assert stored_squares(tmp_path) == {0: 0}
    measure_claims([CLAIM], tmp_path, form=QUICK, resume=True)
    assert stored_squares(tmp_path) == {0: 0, 1: 1, 2: 4}


@pytest.mark.slow
def test_a_killed_process_is_reported_with_what_to_do(tmp_path):
    with pytest.raises(LostProcessError, match=r"A process died .* seed 1.*Continue with --resume and fewer --jobs"):
        measure_claims([planted(measure=die)], tmp_path, form=QUICK, jobs=2)
    measure_claims([CLAIM], tmp_path, form=QUICK, resume=True)
    assert stored_squares(tmp_path) == {0: 0, 1: 1, 2: 4}


@pytest.mark.slow
def test_ctrl_c_keeps_the_finished_cells(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        measure_claims([planted(measure=interrupt)], tmp_path, form=QUICK)
    assert stored_squares(tmp_path) == {0: 0}
    measure_claims([CLAIM], tmp_path, form=QUICK, resume=True)
    assert stored_squares(tmp_path) == {0: 0, 1: 1, 2: 4}


def test_data_that_cannot_be_loaded_are_reported_before_anything_is_measured(tmp_path):
    second = planted(id="C9", data=lambda form: ("no_such_data",))
    with pytest.raises(DataError, match="no_such_data"):
        measure_claims([CLAIM, second], tmp_path, form=QUICK)
    assert not list(tmp_path.iterdir())


def test_a_value_is_the_same_when_it_is_read_again():
    assert plain({"row": (1, 2.5), "miss": float("inf")}) == {"row": [1, 2.5], "miss": float("inf")}


def test_the_names_of_settings_travel_in_the_words_of_an_item(tmp_path):
    told = []
    watcher = Recorder()
    watcher.item_begins = told.append
    measure_claims([CLAIM], tmp_path, form=QUICK, watcher=watcher)
    assert re.fullmatch("C8, arm planted, seed 0", told[0])


def shared_cells(form, found):
    return [{"arm": "planted", "seed": 0}, {"shared": "planted", "seed": 3}]


def test_a_shared_cell_is_measured_once_for_all_claims(tmp_path):
    watcher, claims = Recorder(), [planted(cells=shared_cells), planted(id="C9", cells=shared_cells)]
    results = measure_claims(claims, tmp_path, form=QUICK, watcher=watcher)
    assert watcher.told == [(3, 0), "end", "end", "end"]
    shared = [results[name].found[{"shared": "planted", "seed": 3}] for name in ("C8", "C9")]
    assert shared[0] == shared[1]
    assert shared[0]["square"] == 9
    (tmp_path / "C9.json").unlink()
    again = Recorder()
    measure_claims(claims, tmp_path, form=QUICK, watcher=again, resume=True)
    assert again.told == [(2, 1), "end"], "a claim takes what another one has stored"


def test_a_shared_cell_that_is_under_way_for_one_claim_is_not_begun_for_another(tmp_path):
    claims = [planted(cells=shared_cells), planted(id="C9", cells=shared_cells)]
    results = {claim.id: read_to_continue(claim, QUICK, tmp_path, resume=False) for claim in claims}
    own, shared = shared_cells(None, None)
    under_way = [(claims[0], own), (claims[0], shared)]
    assert [(claim.id, cell) for claim, cell in next_cells(claims, results, QUICK, under_way)] == [("C9", own)]
