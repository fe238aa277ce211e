"""Tables and progress on the terminal, in rich."""

import signal

import rich.box
import rich.console
import rich.progress
import rich.table

from bn_keras.lab.watcher import Watcher


def console(stderr=False):
    """A console on the standard output or error of this moment."""
    return rich.console.Console(stderr=stderr)


def print_table(terminal, title, columns, rows):
    terminal.print(f"\n{title}")
    foldable = [rich.table.Column(column, overflow="fold") for column in columns]
    table = rich.table.Table(*foldable, box=rich.box.SIMPLE_HEAD, collapse_padding=True)
    for row in rows:
        table.add_row(*row)
    terminal.print(table)


class Progress(Watcher):
    """A line for each finished item, and on a terminal a bar over all items.

    Args:
        terminal: A console of rich.
        patient: Whether Ctrl-C waits for `item_advances`: inside a compiled training interval Python would lose it. A
            second Ctrl-C interrupts at once.
    """

    def __init__(self, terminal, patient=False):
        self.terminal = terminal
        self.patient = patient
        self.bar = rich.progress.Progress(
            rich.progress.TextColumn("{task.description}", markup=False),
            rich.progress.BarColumn(),
            rich.progress.TextColumn("{task.percentage:>3.0f} %  left"),
            rich.progress.TimeRemainingColumn(),
            console=terminal,
            disable=not terminal.is_terminal,
        )
        self.task = self.bar.add_task("loading", total=None)

    def __enter__(self):
        self.interrupted, self.handler = False, signal.getsignal(signal.SIGINT)
        self.bar.start()
        return self

    def __exit__(self, *error):
        signal.signal(signal.SIGINT, self.handler)
        self.bar.stop()

    def interrupt(self, *signal_and_frame):
        if self.interrupted:
            raise KeyboardInterrupt
        self.interrupted = True

    def begin(self, unit, total, done=0, notes=()):
        if self.patient:
            signal.signal(signal.SIGINT, self.interrupt)
        self.unit, self.total, self.done = unit, total, done
        self.bar.reset(self.task, total=total, completed=done)
        for note in notes:
            self.terminal.print(note, markup=False)

    def item_begins(self, name):
        self.name = f"{self.unit} {self.done + 1} of {self.total}: {name}"
        self.bar.update(self.task, description=self.name)

    def item_advances(self, share, note):
        if self.interrupted:
            raise KeyboardInterrupt
        self.bar.update(self.task, completed=self.done + share, description=f"{self.name}, {note}")

    def item_ends(self, note):
        self.done += 1
        self.bar.update(self.task, completed=self.done)
        self.terminal.print(f"{self.name}: {note}", markup=False, soft_wrap=True)
