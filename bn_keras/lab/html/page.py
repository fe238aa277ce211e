"""The parts of a page, as plain data. Every text is plain text: the template escapes it."""

import dataclasses
import re

GOOD, PARTLY, BAD = "good", "partly", "bad"
SIGNS = {GOOD: "✓", PARTLY: "◐", BAD: "✗"}
# A cell of a table that is a figure, such as "1.2×" or "1,200 (900–1,500)", or words that stand in for one.
FIGURE = re.compile(r"[-+−×±<>≥≤]?\s?(\d|∞)|–$|$|never$|misses$|neither gets there")
# A longer cell is prose, even where it begins with a figure.
SHORT = 40
# A longer cell is a phrase of several words.
WORD = 14


@dataclasses.dataclass(frozen=True)
class Link:
    """A link within the page.

    Attributes:
        text: The words; a str.
        target: The id of a section; a str.
    """

    text: str
    target: str


@dataclasses.dataclass(frozen=True)
class Mark:
    """A judgement: its words, a sign and a colour.

    Attributes:
        text: The words; a str.
        kind: `GOOD`, `PARTLY` or `BAD`; a str.
    """

    text: str
    kind: str

    def __post_init__(self):
        if self.kind not in SIGNS:
            raise ValueError(f"`kind` must be one of {', '.join(SIGNS)}. Received: {self.kind!r}.")

    @property
    def sign(self) -> str:
        """The sign, for readers who do not see the colour."""
        return SIGNS[self.kind]


@dataclasses.dataclass(frozen=True)
class Command:
    """A command within a table or a sentence; a line breaks only between its words.

    Attributes:
        text: The command as it is typed; a str.
    """

    text: str


Inline = str | Link | Mark | Command


@dataclasses.dataclass(frozen=True)
class Paragraph:
    """A paragraph.

    Attributes:
        text: The words; a str.
    """

    text: str


@dataclasses.dataclass(frozen=True)
class Items:
    """A list with bullets.

    Attributes:
        items: The items; strings.
    """

    items: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Facts:
    """Names and what belongs to each.

    Attributes:
        pairs: The names and the values; tuples of a str and a str, a `Link`, a `Mark` or a
            `Command`.
    """

    pairs: tuple[tuple[str, Inline], ...]


@dataclasses.dataclass(frozen=True)
class Code:
    """A command or stored text, as it is typed or stored.

    Attributes:
        text: The text; a str.
        name: What a screen reader calls it; a str.
    """

    text: str
    name: str


@dataclasses.dataclass(frozen=True)
class Table:
    """A table whose first column names the rows.

    Attributes:
        caption: What the table shows; a str.
        columns: The heads of the columns; strings.
        rows: The rows; tuples of strings, `Link`, `Mark` or `Command`, one for each column.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Inline, ...], ...]

    def __post_init__(self):
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"`rows` must have {len(self.columns)} cells each. Received: {row!r}.")

    @property
    def alignments(self) -> tuple[str, ...]:
        """How each column is set: `"figures"`, aligned to the right, or `"words"`, `"phrases"`, `"prose"` by length."""
        columns = zip(*self.rows, strict=True) if self.rows else [()] * len(self.columns)
        return tuple(map(alignment_of, columns))


def alignment_of(column: tuple[Inline, ...]) -> str:
    """How a column is set, by its cells."""
    if column and all(map(is_figure, column)):
        return "figures"
    longest = max((len(cell) for cell in column if isinstance(cell, str)), default=0)
    return "prose" if longest > SHORT else "phrases" if longest > WORD else "words"


def is_figure(cell: Inline) -> bool:
    """Whether a cell is a figure, which is aligned to the right.

    >>> is_figure("1.21 (1.20–1.23)"), is_figure("–"), is_figure("batch")
    (True, True, False)
    """
    return isinstance(cell, str) and len(cell) <= SHORT and bool(FIGURE.match(cell))


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture with a caption.

    Attributes:
        svg: The SVG of a Matplotlib figure, as `bn_keras.lab.plot.svg` returns it; a str.
        name: What a screen reader calls the picture; a str.
        caption: What the picture shows; a str.
    """

    svg: str
    name: str
    caption: str


@dataclasses.dataclass(frozen=True)
class Details:
    """Parts that are folded away.

    Attributes:
        summary: The words that unfold them; a str.
        blocks: The parts; a tuple.
    """

    summary: str
    blocks: tuple["Block", ...]


Block = Paragraph | Items | Facts | Code | Table | Picture | Details


@dataclasses.dataclass(frozen=True)
class Section:
    """A section with its own heading.

    Attributes:
        id: The anchor of the section, unique on the page: letters, digits and hyphens, a letter first; a str.
        heading: The heading; a str.
        blocks: The parts; a tuple.
    """

    id: str
    heading: str
    blocks: tuple[Block, ...]

    def __post_init__(self):
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]*", self.id):
            raise ValueError(f"`id` must be letters, digits and hyphens, a letter first. Received: {self.id!r}.")


@dataclasses.dataclass(frozen=True)
class Page:
    """A whole page.

    Attributes:
        title: The title; a str.
        lead: The paragraph below the title; a str.
        sections: The sections; a tuple.
        contents: Whether a list of the sections comes first; a bool. Defaults to `True`.
    """

    title: str
    lead: str
    sections: tuple[Section, ...]
    contents: bool = True

    def __post_init__(self):
        ids = [section.id for section in self.sections]
        twice = sorted({each for each in ids if ids.count(each) > 1})
        if twice:
            raise ValueError(f"`sections` must have different ids. Received twice: {', '.join(twice)}.")
