"""Pieces of Markdown: tables, sentences and lists of facts."""

from collections.abc import Iterable, Mapping, Sequence


def three_digits(value: float) -> str:
    """A positive number with three digits, or all digits before the point where there are more.

    >>> three_digits(0.12345), three_digits(999.6), three_digits(1234.5)
    ('0.123', '1,000', '1,234')
    """
    return f"{value:,.0f}" if value >= 999.5 else f"{value:.3g}"


def counted(number: int, word: str) -> str:
    """A number and its word.

    >>> counted(1, "seed"), counted(24_000, "step")
    ('1 seed', '24,000 steps')
    """
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], left: int | None = None) -> str:
    """A table. The first `left` columns are aligned to the left and the others to the right; `None` aligns none.

    >>> print(table(["layer", "ms"], [["BatchNorm", 1.5]], left=1))
    | layer | ms |
    | --- | ---: |
    | BatchNorm | 1.5 |
    """
    left = len(columns) if left is None else left
    rule = ["---"] * left + ["---:"] * (len(columns) - left)
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in [columns, rule, *rows])


def table_of(rows: Sequence[Mapping[str, object]]) -> str:
    """A table of rows that name their columns, all in the same order."""
    return table(list(rows[0]), [list(row.values()) for row in rows])


def sentence(line: str) -> str:
    """A line with a capital first letter and a full stop."""
    return line[0].upper() + line[1:] + ("" if line.endswith(".") else ".")


def facts(values: Mapping[str, object]) -> str:
    """Names and values in one line, without the values that are `None`.

    >>> facts({"cores": 2, "memory": None, "system": "Linux"})
    'cores 2, system Linux'
    """
    return ", ".join(f"{name} {value}" for name, value in values.items() if value is not None)


def size(shape: Sequence[int]) -> str:
    """A shape in words: `(32, 56, 56)` is 32×56×56."""
    return "×".join(map(str, shape))
