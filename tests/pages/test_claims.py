"""The Markdown page of the claims: commands that measure them again, and all machines."""

import dataclasses
import pathlib

from bn_keras.experiments.claims import c08_explosion, c11_batch_size
from bn_keras.experiments.claims.stored import Stored
from bn_keras.pages.claims import link_to, machines, verdict_table
from tests.experiments.claims.reported import claims_of_every_verdict, stored


def test_a_verdict_has_its_link_its_interval_and_the_command_that_measures_it():
    claim = c08_explosion.CLAIM
    measured = stored(quick=False)
    (row,) = verdict_table([(claim, measured)]).splitlines()[2:]
    assert row.startswith("| [C8](#c8) | ")
    assert link_to(claim, "docs/claims/README.md") == "[C8](docs/claims/README.md#c8)"
    assert claim.judge(measured.form, measured.found).number in row
    assert row.endswith("| `bn-keras claims C8` |")


def test_the_command_names_the_images_of_the_results():
    claim = dataclasses.replace(c08_explosion.CLAIM, data=c11_batch_size.data)
    table = verdict_table([(claim, stored(quick=False, images="cifar10_jpeg"))])
    assert table.endswith("| `bn-keras claims C8 --images cifar10_jpeg` |")


def test_every_machine_is_named_with_the_claims_that_it_measured():
    measured = claims_of_every_verdict()
    claim, second = measured[1]
    other = second.results | {"machine": {"processor": "another", "cores": 64, "memory": None}}
    measured[1] = claim, Stored(pathlib.Path("C9.json"), other)
    assert [(machine, ids) for machine, _, ids in machines(measured)] == [
        ("processor made up, cores 1, system made up", "C8, C10"),
        ("processor another, cores 64", "C9"),
    ]
