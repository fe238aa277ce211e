"""Cases that repeat others in every line of code that they reach: `--exhaustive` runs them, the default does not."""

import pytest


def marked(parameters, is_main):
    """The parameters of `pytest.mark.parametrize`, all but the main ones marked `exhaustive`.

    Args:
        parameters: A list of values, or of tuples where the test has several arguments.
        is_main: Function of a value, or of the values of a tuple.
    """

    def mark(parameter):
        values = parameter if isinstance(parameter, tuple) else (parameter,)
        return pytest.param(*values, marks=() if is_main(*values) else pytest.mark.exhaustive)

    return [mark(parameter) for parameter in parameters]
