"""`bn-keras claims` as it is typed, wrong too."""

import dataclasses
import json
import re

import pytest

from bn_keras import experiments
from bn_keras.choices.names import CLAIMS
from bn_keras.cli.claims import claims
from bn_keras.experiments.claims import catalog
from bn_keras.experiments.claims.claim import CONDITIONALLY
from bn_keras.experiments.claims.run import LostProcessError
from tests.cli.runner import typed
from tests.experiments.claims.planted import CLAIM, fail, interrupt, judge, planted


def words_of(printed):
    return re.sub(r"[\s│]+", " ", printed)


def doubtful(form, found):
    """The planted finding, under conditions."""
    return dataclasses.replace(judge(form, found), verdict=CONDITIONALLY, conditions="with three seeds only")


@pytest.fixture
def two_claims(monkeypatch):
    """The planted claim as C8, and another one as C9."""
    found = {"C8": CLAIM, "C9": planted(id="C9", title="Another sum", judge=doubtful)}
    original = catalog.claim_named
    monkeypatch.setattr(catalog, "claim_named", lambda name: found.get(name.upper()) or original(name))
    monkeypatch.setattr(catalog, "all_claims", lambda: list(found.values()))


def test_the_claims_are_listed_and_nothing_is_measured(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, printed = typed("claims", "--list")
    assert code == 0
    assert printed.splitlines() == [f"{claim.id:<4} {claim.title}" for claim in catalog.all_claims()]
    assert typed("claims", "c9", "C8", "c9", "--list") == (
        0,
        "".join(f"{name:<4} {CLAIMS[name]}\n" for name in ("C9", "C8")),
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_all_claims_are_measured_judged_and_drawn(two_claims, tmp_path):
    code, printed = typed("claims", "--quick", "--out", tmp_path / "out")
    assert code == 0, printed
    for words in (
        "measurement 1 of 4: C8, arm planted, seed 0: ",
        "measurement 6 of 6: C9, arm planted, seed 2: ",
        "The verdicts",
        "The squares add up to five holds 5",
        "Published: five",
        "Another",
        "holds under",
        "C8: The squares add up to 5.",
        "Conditions: with three seeds only",
        "Note: No run diverged.",
        "C9.png",
    ):
        assert words in words_of(printed), words
    made = {path.name for path in (tmp_path / "out").iterdir()}
    files = {f"{name}.{suffix}" for name in ("C8", "C9") for suffix in ("json", "png", "svg")}
    assert made == files | {"index.html"}
    assert json.loads((tmp_path / "out" / "C8.json").read_text())["form"] == {"quick": True, "images": "cifar10"}
    assert "drawn from C8.json, sha256 " in (tmp_path / "out" / "C8.svg").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_page_has_all_claims_that_are_finished_in_this_form(two_claims, tmp_path):
    def sections():
        return re.findall(r'<section id="(c\d)"', (tmp_path / "index.html").read_text(encoding="utf-8"))

    assert typed("claims", "C9", "--quick", "--out", tmp_path)[0] == 0
    assert sections() == ["c9"]
    assert typed("claims", "C8", "--quick", "--out", tmp_path)[0] == 0
    assert sections() == ["c8", "c9"]
    (tmp_path / "C8.json").unlink()
    assert typed("claims", "C8", "--images", "mine", "--jobs", "1", "--out", tmp_path)[0] == 0
    assert sections() == ["c8"]


@pytest.mark.slow
def test_results_are_not_overwritten_and_resume_continues(two_claims, tmp_path):
    again = ("claims", "C8", "c8", "--images", "mine", "--jobs", "1", "--out", tmp_path)
    assert typed(*again)[0] == 0
    code, printed = typed(*again)
    assert code == 1
    assert "exists already. Continue it with --resume" in words_of(printed)
    code, printed = typed(*again, "--resume")
    assert code == 0
    assert "measurement" not in printed
    assert printed.count("C8.png") == 1, "an id that is typed twice counts once"
    code, printed = typed("claims", "C8", "--quick", "--out", tmp_path, "--resume")
    assert code == 1
    assert "was made with quick=False, not True" in words_of(printed)


def test_jobs_are_the_cores_in_full_and_one_with_quick(two_claims, tmp_path, monkeypatch):
    from bn_keras.experiments.claims import run
    from bn_keras.lab import machine

    asked = []

    def killed(*arguments, jobs, **options):
        asked.append(jobs)
        raise LostProcessError("A process died.")

    monkeypatch.setattr(run, "measure_claims", killed)
    monkeypatch.setattr(machine, "cores", lambda: 7)
    for options in ([], ["--quick"], ["--quick", "--jobs", "3"]):
        code, printed = typed("claims", "C8", *options, "--out", tmp_path)
        assert code == 1
        assert "A process died." in printed
    assert asked == [7, 1, 3]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["C16"], "expected C1 to C15; received 'C16'. "),
        (["c"], "expected C1 to C15; received 'c'. "),
        (["8"], "expected C1 to C15; received '8'. "),
        (["C8", "--quik"], "--quick"),
        (["--jobs", "0"], "'--jobs': expected an int in [1, "),
        (["--images", "cifar10", "--quick"], "--images is for the full form. Leave out --images or --quick."),
        (["--data-dir", "/no/such"], "'/no/such' does not exist"),
    ],
)
def test_typed_wrong(arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, printed = typed("claims", *arguments)
    assert code == 2, printed
    assert words in words_of(printed)
    assert not list(tmp_path.iterdir()), "nothing is left behind"


def test_every_option_is_typed_wrong_here():
    marks = test_typed_wrong.pytestmark[0].args[1]
    tested = {word for arguments, _ in marks for word in arguments if word.startswith("--")}
    options = {option for each in claims.params for option in each.opts if option.startswith("--")}
    assert options - tested == {"--list", "--out", "--resume"}


def test_data_that_cannot_be_loaded_stop_everything_and_name_quick(two_claims, tmp_path, monkeypatch):
    needing = planted(data=lambda form: (form.images,))
    monkeypatch.setattr(catalog, "all_claims", lambda: [needing])
    code, printed = typed("claims", "--images", "cifr10", "--out", tmp_path / "out")
    assert code == 2
    assert "cifr10" in printed
    assert "Nothing was measured. --quick measures small sizes and needs no data set." in words_of(printed)
    monkeypatch.setattr(experiments.data.download, "reachable", lambda address, seconds: False)
    code, printed = typed("claims", "--data-dir", tmp_path, "--out", tmp_path / "out")
    assert code == 1
    assert "--quick measures small sizes" in words_of(printed)
    assert not (tmp_path / "out").exists()


def test_ctrl_c_and_errors_keep_the_finished_measurements(two_claims, tmp_path, monkeypatch):
    monkeypatch.setattr(catalog, "claim_named", lambda name: planted(measure=interrupt))
    code, printed = typed("claims", "C8", "--quick", "--out", tmp_path)
    assert code == 1
    assert "Interrupted." in printed
    assert "the same command with --resume continues" in words_of(printed)
    assert len(json.loads((tmp_path / "C8.json").read_text())["cells"]) == 1
    monkeypatch.setattr(catalog, "claim_named", lambda name: planted(measure=fail))
    with pytest.raises(AssertionError, match="planted"):
        typed("claims", "C8", "--quick", "--out", tmp_path, "--resume")
    (tmp_path / "file").write_text("")
    code, printed = typed("claims", "C8", "--quick", "--out", tmp_path / "file")
    assert code == 2
    assert "file" in printed
