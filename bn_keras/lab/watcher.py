"""How a long measurement tells what it is doing."""

import time
from collections.abc import Sequence


class Watcher:
    """Follows a measurement of many items; this one stays silent. Override the methods to show the progress."""

    def begin(self, unit: str, total: int, done: int = 0, notes: Sequence[str] = ()) -> None:
        """The measurement starts: `total` items, each called a `unit`, of which `done` are stored already."""

    def item_begins(self, name: str) -> None:
        """The measurement of an item starts."""

    def item_advances(self, share: float, note: str) -> None:
        """A `share` from 0 to 1 of the item is done; the note says how it stands."""

    def item_ends(self, note: str) -> None:
        """The item is measured; the note says what came out."""


class Printing(Watcher):
    """Prints a line for each item that ends, with the time of day.

    Args:
        title: What each line starts with.
    """

    def __init__(self, title: str):
        self.title = title

    def begin(self, unit: str, total: int, done: int = 0, notes: Sequence[str] = ()) -> None:
        self.unit, self.total, self.done = unit, total, done
        for note in notes:
            self.tell(note)

    def item_begins(self, name: str) -> None:
        self.name = name

    def item_ends(self, note: str) -> None:
        self.done += 1
        self.tell(f"{self.unit} {self.done} of {self.total}: {self.name}: {note}")

    def tell(self, text: str) -> None:
        print(f"{time.strftime('%H:%M:%S')} {self.title}: {text}", flush=True)
