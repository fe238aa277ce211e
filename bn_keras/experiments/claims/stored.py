"""Stored measurements of a claim: one file, rewritten after every cell."""

import dataclasses
import pathlib

from bn_keras.experiments.claims.catalog import claim_named
from bn_keras.experiments.claims.claim import Cell, Claim, Form, Found, Values, key_of
from bn_keras.lab.machine import provenance
from bn_keras.lab.results import ResultsError, ResultsFile, check_same

FILE = ResultsFile("bn-keras claims", entries="cells", fields=("claim", "form"))
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


def read_to_continue(claim: Claim, form: Form, folder: pathlib.Path, resume: bool) -> Stored:
    """The measurements of a claim that a folder holds; none where there are none yet.

    Cells that the claim no longer asks for are dropped.
    """
    path = path_of(claim, folder)
    results = FILE.read_to_resume(path, resume)
    if results is None:
        return Stored(path, {"claim": claim.id, "form": dataclasses.asdict(form), **provenance(), "cells": []})
    check_same(path, results, {"claim": claim.id})
    check_same(path, results["form"], dataclasses.asdict(form))
    stored = Stored(path, results)
    wanted = {key_of(cell) for cell in claim.cells(form, stored.found)}
    results["cells"] = [entry for entry in results["cells"] if key_of(entry["cell"]) in wanted]
    return stored


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


def read_shipped(name: str) -> tuple[Claim, Stored]:
    """A claim and its full results, which the package brings along.

    Args:
        name: `"C1"` to `"C15"`.

    Returns:
        The `Claim`, and its measurements.
    """
    claim = claim_named(name)
    return claim, read_claim(claim, SHIPPED)
