"""How many cases there were, and the largest errors among them."""

import pathlib

import pytest

from tests.properties.tolerances import TOLERANCES, cases_seen, worst_seen

AT_LEAST = 2_000
FOLDER = pathlib.Path(__file__).parent


def test_there_were_enough_cases(request):
    """After all others of this folder, as its name is the last."""
    here = {item.path.name for item in request.session.items if item.path.parent == FOLDER}
    if request.config.option.keyword or here != {path.name for path in FOLDER.glob("test_*.py")}:
        pytest.skip("only a part of the cases was run")
    print(f"\n{sum(cases_seen.values())} cases: {dict(cases_seen)}")
    for (row, name, quantity), worst in sorted(worst_seen.items()):
        print(f"{row:16} {name:26} {quantity:16} {worst:8.2f} of {TOLERANCES[row][quantity]}")
    assert sum(cases_seen.values()) >= AT_LEAST, dict(cases_seen)
