"""A claim about normalization: its question, its measurements, and the rule that judges them."""

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping, Sequence

import matplotlib.figure

from bn_keras.experiments.data import Data

HOLDS, CONDITIONALLY, FAILS = "holds", "holds under conditions", "does not hold here"
VERDICTS = (HOLDS, CONDITIONALLY, FAILS)

# The settings of one measurement, plain values; its arm, seed and sizes among them.
Cell = dict[str, object]
# A cell with this setting is the same measurement in every claim that asks for it.
SHARED = "shared"
# What a measurement gives, plain values.
Values = dict[str, object]
Load = Callable[..., Data]


@dataclasses.dataclass(frozen=True)
class Form:
    """How much is measured.

    Attributes:
        quick: Whether to take small sizes, which need no network and less than a minute for each claim; a bool.
        images: The colour images of the full form: the name of a data set; a str.
    """

    quick: bool = False
    images: str = "cifar10"


def key_of(cell: Cell) -> str:
    """The settings of a cell as one text."""
    return json.dumps(cell, sort_keys=True)


class Found:
    """The cells that are measured, with their values."""

    def __init__(self, pairs: Iterable[tuple[Cell, Values]] = ()):
        self.pairs = {key_of(cell): (cell, values) for cell, values in pairs}

    def __contains__(self, cell: Cell) -> bool:
        return key_of(cell) in self.pairs

    def __getitem__(self, cell: Cell) -> Values:
        return self.pairs[key_of(cell)][1]

    def where(self, **settings) -> list[tuple[Cell, Values]]:
        """The cells with these settings, in the order of the measurement."""
        return [
            (cell, values)
            for cell, values in self.pairs.values()
            if all(cell.get(name) == value for name, value in settings.items())
        ]

    def values(self, name: str, **settings) -> list:
        """One value of each cell with these settings."""
        return [values[name] for _, values in self.where(**settings)]

    def has(self, cells: Sequence[Cell]) -> bool:
        """Whether all of these cells are measured."""
        return all(cell in self for cell in cells)


@dataclasses.dataclass(frozen=True)
class Finding:
    """What the measurements say.

    Attributes:
        verdict: One of `VERDICTS`; a str.
        number: The figure that decides, with its spread over the seeds; a str.
        because: A sentence that applies the rule to the figures; a str.
        columns: The columns of the table; strings.
        rows: The rows of the table; tuples of strings.
        conditions: Where the claim holds, of a claim that holds under conditions; a str.
        notes: What a reader has to know, such as runs that diverged; strings.
    """

    verdict: str
    number: str
    because: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    conditions: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self):
        if self.verdict not in VERDICTS:
            raise ValueError(f"`verdict` must be one of {', '.join(VERDICTS)}. Received: {self.verdict!r}.")
        if (self.verdict == CONDITIONALLY) != bool(self.conditions):
            raise ValueError(f"`conditions` go with {CONDITIONALLY!r}. Received: {self.conditions!r} {self.verdict!r}.")


@dataclasses.dataclass(frozen=True)
class Claim:
    """A claim and the experiment that tests it.

    Attributes:
        id: `"C1"` to `"C15"`; a str.
        title: The claim in a few words; a str.
        question: What the experiment asks; a str that ends with a question mark.
        method: What it trains or computes, on what, with how many seeds; sentences.
        rule: How the verdict follows from the figures. It is written before the runs; sentences.
        refuted_by: The result that would refute the claim; a sentence.
        literature: The published figures; sentences.
        source: Where the claim is made; a str.
        caption: What the figure shows; sentences.
        data: Returns the names of the data sets of a form.
        cells: Returns all cells that a form needs, as far as they follow from those that are measured. A second stage
            appears when the first one is complete.
        measure: Measures a cell. It is given a function that loads data by name, with an `image_size` if one is wanted.
        judge: Applies the rule.
        draw: Draws the figure.
        settings: The constants that change a measurement and are not in its cell; plain values by name.
    """

    id: str
    title: str
    question: str
    method: str
    rule: str
    refuted_by: str
    literature: str
    source: str
    caption: str
    data: Callable[[Form], Sequence[str]]
    cells: Callable[[Form, Found], list[Cell]]
    measure: Callable[[Cell, Load], Values]
    judge: Callable[[Form, Found], Finding]
    draw: Callable[[Form, Found], matplotlib.figure.Figure]
    settings: Mapping[str, object] = dataclasses.field(default_factory=dict)

    def missing(self, form: Form, found: Found) -> list[Cell]:
        """The cells that are still to be measured."""
        return [cell for cell in self.cells(form, found) if cell not in found]


def no_data(form: Form) -> Sequence[str]:
    """For claims that draw their inputs at random."""
    return ()


def plain(values: Mapping[str, object]) -> Values:
    """Values as JSON gives them back, so that a result is the same whether it was just measured or read."""
    return json.loads(json.dumps(values))
