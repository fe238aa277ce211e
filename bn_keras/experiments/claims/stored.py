"""Stored measurements of a claim: one file, rewritten after every cell."""

import dataclasses
import pathlib
from collections.abc import Sequence

from bn_keras.experiments.claims.catalog import claim_named
from bn_keras.experiments.claims.claim import Cell, Claim, Finding, Form, Found, Values, key_of, plain
from bn_keras.lab.machine import provenance
from bn_keras.lab.results import ResultsError, ResultsFile, check_same

FILE = ResultsFile("bn-keras claims", entries="cells", fields=("claim", "form", "protocol"))
# The results of the full form.
SHIPPED = pathlib.Path(__file__).with_name("results")


@dataclasses.dataclass
class Stored:
    """The measurements of a claim and the file that keeps them.

    Attributes:
        path: The file.
        results: Its content; plain values.
    """

    path: pathlib.Path
    results: dict

    @property
    def form(self) -> Form:
        """The form that was measured."""
        return Form(**self.results["form"])

    @property
    def found(self) -> Found:
        """The measurements by their settings."""
        return Found((entry["cell"], entry["values"]) for entry in self.results["cells"])

    @property
    def seconds(self) -> float:
        """The time of all cells together, on one core each."""
        return sum(entry["values"]["seconds"] for entry in self.results["cells"])

    def put(self, cell: Cell, values: Values) -> None:
        """Stores a measurement."""
        self.results["cells"].append({"cell": cell, "values": values})
        FILE.write(self.results, self.path)


def path_of(claim: Claim, folder: pathlib.Path) -> pathlib.Path:
    """The file of a claim in a folder of results."""
    return folder / f"{claim.id}.json"


def protocol_of(claim: Claim) -> Values:
    """How a claim measures and judges; stored before its first measurement."""
    return plain({"rule": claim.rule, "method": claim.method, **claim.settings})


def changes_between(before: Values, now: Values) -> list[str]:
    """The names whose values differ, with both values."""
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    return [f"{name} was {before.get(name)!r} and is now {now.get(name)!r}" for name in names]


def read_to_continue(claim: Claim, form: Form, folder: pathlib.Path, resume: bool) -> Stored:
    """The measurements of a claim that a folder holds; none where there are none yet.

    Cells that the claim no longer asks for are dropped.

    Raises:
        ResultsError: When measurements are missing, and those that are there have another protocol or other versions.
    """
    path = path_of(claim, folder)
    results = FILE.read_to_resume(path, resume)
    if results is None:
        head = {"claim": claim.id, "form": dataclasses.asdict(form), "protocol": protocol_of(claim), **provenance()}
        return Stored(path, head | {"cells": []})
    check_same(path, results, {"claim": claim.id})
    check_same(path, results["form"], dataclasses.asdict(form))
    stored = Stored(path, results)
    if claim.missing(form, stored.found):
        check_unchanged(claim, stored)
    wanted = {key_of(cell) for cell in claim.cells(form, stored.found)}
    results["cells"] = [entry for entry in results["cells"] if key_of(entry["cell"]) in wanted]
    return stored


def check_unchanged(claim: Claim, stored: Stored) -> None:
    """Refuses to mix the measurements of two protocols, or of two versions of a package, in one file."""
    changes = protocol_changes(claim, stored) + changes_between(stored.results["versions"], provenance()["versions"])
    if changes:
        raise ResultsError(
            f"{str(stored.path)!r} is unfinished, and since it was begun these have changed: {'; '.join(changes)}. "
            "Finish it with the version that began it, or measure anew in another directory with --out."
        )


def protocol_changes(claim: Claim, stored: Stored) -> list[str]:
    """What has changed in the protocol of a claim since its first measurement."""
    return changes_between(stored.results["protocol"], protocol_of(claim))


def finding_of(claim: Claim, stored: Stored) -> Finding:
    """The finding by the present rule; notes name what has changed in the protocol since the measurements."""
    finding = claim.judge(stored.form, stored.found)
    notes = (f"Changed since these measurements: {change}." for change in protocol_changes(claim, stored))
    return dataclasses.replace(finding, notes=(*notes, *finding.notes))


def read_claim(claim: Claim, folder: pathlib.Path) -> Stored:
    """The complete measurements of a claim.

    Raises:
        ResultsError: When there are none, or cells are missing.
    """
    stored = Stored(path_of(claim, folder), FILE.read(path_of(claim, folder)))
    missing = claim.missing(stored.form, stored.found)
    if missing:
        raise ResultsError(
            f"{str(stored.path)!r} lacks {len(missing)} measurements. Finish it with `bn-keras claims {claim.id} "
            "--resume`."
        )
    return stored


def finished_in(folder: pathlib.Path, claims: Sequence[Claim], form: Form) -> list[tuple[Claim, Stored]]:
    """Those of some claims whose measurements in a form are complete in a folder."""
    paths = [(claim, path_of(claim, folder)) for claim in claims]
    found = [(claim, Stored(path, FILE.read(path))) for claim, path in paths if path.exists()]
    return [(claim, stored) for claim, stored in found if stored.form == form and not claim.missing(form, stored.found)]


def read_shipped(name: str) -> tuple[Claim, Stored]:
    """A claim and its full results, which the package brings along.

    Args:
        name: `"C1"` to `"C15"`.

    Returns:
        The `Claim`, and its measurements.
    """
    claim = claim_named(name)
    return claim, read_claim(claim, SHIPPED)
