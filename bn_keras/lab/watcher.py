"""How a long measurement tells what it is doing."""

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
