"""Measurements of claims that take no time, for the tests of the page."""

import dataclasses
import pathlib

from bn_keras.experiments.claims import c08_explosion
from bn_keras.experiments.claims.claim import CONDITIONALLY, FAILS, HOLDS, Form, Found
from bn_keras.experiments.claims.stored import Stored, protocol_of

PROVENANCE = {
    "started": "2000-01-01T00:00:00+00:00",
    "machine": {"processor": "made up", "cores": 1, "memory": None, "system": "made up"},
    "versions": {"bn_keras": "0", "python": "0"},
}
GROWTH = {"relu": 1.21, "linear": 1.02, "relu with skips": 1.04, "relu without norm": 1.0}


def stored(path: pathlib.Path = pathlib.Path("C8.json"), **form) -> Stored:
    """Complete measurements of C8: gradients that grow by the same factor in every layer."""
    form = {"quick": True, "images": "cifar10"} | form
    cells = c08_explosion.cells(Form(**form), Found())
    entries = [{"cell": cell, "values": values_of(cell)} for cell in cells]
    head = {"claim": "C8", "form": form, "protocol": protocol_of(c08_explosion.CLAIM), **PROVENANCE}
    return Stored(path, head | {"cells": entries})


def values_of(cell):
    factor = GROWTH[cell["network"]] + 0.001 * cell["seed"]
    return {"gradient_norm": [factor ** (cell["depth"] - layer) for layer in range(cell["depth"])], "seconds": 0.5}


def claims_of_every_verdict():
    """Three claims, the last one with words that HTML has to escape."""

    def judged(verdict, **changes):
        def judge(form, found):
            finding = c08_explosion.judge(form, found)
            conditions = "at a batch of 8" if verdict == CONDITIONALLY else ""
            return dataclasses.replace(finding, verdict=verdict, conditions=conditions, **changes)

        return judge

    first = dataclasses.replace(c08_explosion.CLAIM, judge=judged(HOLDS))
    second = dataclasses.replace(
        first, id="C9", title="Second", judge=judged(CONDITIONALLY, notes=("A run diverged.",))
    )
    last = dataclasses.replace(first, id="C10", title='a<b & "c"', judge=judged(FAILS, rows=(("<i>",) * 5,)))
    return [(claim, stored()) for claim in (first, second, last)]
