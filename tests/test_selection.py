"""Which cases of a test run without `--exhaustive`."""

import types

import pytest

from tests.conftest import usual


def cases(count, *marks):
    """Stand-ins for the cases of a function, the third one marked `exhaustive`."""
    found = []
    for number in range(count):
        by_name = {mark.name: mark for mark in marks} | ({"exhaustive": pytest.mark.exhaustive} if number == 2 else {})
        found.append(types.SimpleNamespace(number=number, get_closest_marker=by_name.get))
    return found


def numbers(found):
    return [each.number for each in found]


def test_all_but_the_exhaustive_ones_run():
    assert numbers(usual(cases(5))) == [0, 1, 3, 4]
    assert usual(cases(5, pytest.mark.exhaustive)) == []


@pytest.mark.parametrize(
    ("count", "expected"), [(1, [0]), (2, [0, 5]), (4, [0, 3, 5, 7]), (9, [0, 1, 3, 4, 5, 6, 7, 8])]
)
def test_a_sample_is_spread_over_the_cases_from_the_first_one_on(count, expected):
    assert numbers(usual(cases(9, pytest.mark.sample(count)))) == expected
