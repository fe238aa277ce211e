"""How many random cases a file runs, as a filter that refuses too many would go unseen otherwise."""

import pytest

from tests.properties.tolerances import TOLERANCES, cases_seen, worst_seen


def check_count(request, layers, at_least):
    """Requires a number of cases, if the whole file was run, and prints the largest errors.

    Args:
        request: That of the last test of the file.
        layers: The first words of the names that `check` is called with in this file.
        at_least: The number of cases.
    """
    here = [item for item in request.session.items if item.path == request.path and isinstance(item, pytest.Function)]
    whole = {name for name in vars(request.module) if name.startswith("test_")}
    if request.config.getoption("fast") or {item.originalname for item in here} != whole:
        pytest.skip("only a part of the file was run")
    seen = {name: count for name, count in cases_seen.items() if name.startswith(layers)}
    print(f"\n{sum(seen.values())} cases: {seen}")
    for (row, name, quantity), worst in sorted(worst_seen.items()):
        print(f"{row:16} {name:26} {quantity:16} {worst:8.2f} of {TOLERANCES[row][quantity]}")
    assert sum(seen.values()) >= at_least, seen
