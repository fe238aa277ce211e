"""The values of options: each is checked when it is read, and the shell can complete its names."""

import pathlib
from collections.abc import Callable, Iterable

import click
from click.shell_completion import CompletionItem

from bn_keras.choices import norm_text
from bn_keras.choices.names import DATA, NORMS, PRESETS, suggestion
from bn_keras.choices.ranges import RANGES, Range


def completed(names: Iterable[str], incomplete: str, before: str = "") -> list[CompletionItem]:
    """The names that start with the text typed so far; `before` is what stands before it in the same word."""
    return [CompletionItem(before + name) for name in names if name.startswith(incomplete)]


class Number(click.ParamType):
    """A number in a range.

    Args:
        allowed: The range.
        none: Whether the word `none` stands for no limit.
    """

    def __init__(self, allowed: Range, none: bool = False):
        self.allowed, self.none = allowed, none
        self.name = "integer" if allowed.kind is int else "number"

    def convert(self, value, param, ctx):
        if self.none and isinstance(value, str) and value.strip().lower() == "none":
            return None
        try:
            number = self.allowed.kind(value)
        except ValueError:
            number = None
        if number not in self.allowed:
            words = f"{self.allowed.words}, or none" if self.none else self.allowed.words
            self.fail(f"expected {words}; received {shortened(value)}.", param, ctx)
        return number


def ranged(field: str, none: bool = False) -> Number:
    """The type of an option whose range has a name in `RANGES`."""
    return Number(RANGES[field], none)


class Name(click.ParamType):
    """One of several names.

    Args:
        names: The names.
        expected: What an error says of them in place of a long list.
    """

    name = "name"

    def __init__(self, names: Iterable[str], expected: str = ""):
        self.names = tuple(names)
        self.expected = expected or f"one of {', '.join(self.names)}"

    def convert(self, value, param, ctx):
        if value not in self.names:
            near = suggestion(value, self.names)
            self.fail(f"expected {self.expected}; received {shortened(value)}.{near}", param, ctx)
        return value

    def shell_complete(self, ctx, param, incomplete):
        return completed(self.names, incomplete)


PRESET = Name(PRESETS, "one of the networks that `bn-keras presets` lists")


class Names(click.ParamType):
    """Different names, separated by commas."""

    name = "name,…"

    def __init__(self, names: Iterable[str]):
        self.names = tuple(names)

    def convert(self, value, param, ctx):
        if isinstance(value, tuple):
            return value
        given = tuple(part.strip() for part in value.split(",") if part.strip())
        unknown = [name for name in given if name not in self.names]
        if unknown or len(set(given)) < len(given):
            near = suggestion(unknown[0], self.names) if unknown else ""
            names = ", ".join(self.names)
            self.fail(f"expected different names of {names}; received {shortened(value)}.{near}", param, ctx)
        return given

    def shell_complete(self, ctx, param, incomplete):
        before, comma, last = incomplete.rpartition(",")
        return completed(self.names, last, before + comma)


class DataName(click.ParamType):
    """The name of a data set, or the path of one that exists.

    `load` knows more names than the list, and says so where it does not know one.

    Args:
        suffix: The end of the names of files that the option takes too, such as `.npz`; `""` for none.
    """

    name = "data"

    def __init__(self, suffix: str = ""):
        self.suffix = suffix

    def convert(self, value, param, ctx):
        if self.suffix and value.endswith(self.suffix):
            if not pathlib.Path(value).is_file():
                self.fail(f"there is no file {value!r}.", param, ctx)
            return value
        kind, colon, path = value.partition(":")
        plain = value.isprintable() and not any(sign.isspace() for sign in value)
        if not ((kind in ("folder", "text") and path) if colon else (value and plain)):
            self.fail(
                "expected digits, folder:PATH, text:PATH or the name of a set of tensorflow-datasets; "
                f"received {shortened(value)}.",
                param,
                ctx,
            )
        if colon and not pathlib.Path(path).expanduser().exists():
            what = {"folder": "folder", "text": "file"}[kind]
            self.fail(f"the {what} {path!r} does not exist. Check the path after '{kind}:'.", param, ctx)
        return value

    def shell_complete(self, ctx, param, incomplete):
        return completed(DATA, incomplete)


class Rates(click.ParamType):
    """The ends of the search for a learning rate."""

    name = "low,high"

    def convert(self, value, param, ctx):
        if isinstance(value, tuple):
            return value
        try:
            low, high = (float(part) for part in value.split(","))
        except ValueError:
            low = high = None
        allowed = RANGES["learning_rate"]
        if low not in allowed or high not in allowed or low >= high:
            self.fail(
                "expected the lowest and the highest rate, such as 0.001,10, both in (0, 1000000]; "
                f"received {shortened(value)}.",
                param,
                ctx,
            )
        return low, high


class NormText(click.ParamType):
    """A norm with options, or a list of them.

    Args:
        parse: `norm_text.norm_of` or `norm_text.norms_of`.
        name: The form, for the help.
    """

    def __init__(self, parse: Callable[[str], object], name: str):
        self.parse, self.name = parse, name
        self.several = parse is norm_text.norms_of

    def convert(self, value, param, ctx):
        if not isinstance(value, str):
            return value
        try:
            found = self.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        norms = found if self.several else (found,)
        for norm in norms:
            self.check(norm, param, ctx)
        names = [norm_text.text_of(norm) for norm in norms]
        if self.several and (len(set(names)) < max(2, len(names)) or "none" not in names):
            self.fail(
                "expected different norms, one of them none, the baseline, such as none,batch; "
                f"received {shortened(value)}.",
                param,
                ctx,
            )
        return found

    def check(self, norm, param, ctx):
        """Refuses an unknown name, and options of no norm."""
        name, options = norm if isinstance(norm, tuple) else (norm, {})
        if name is None and options:
            self.fail(f"expected none without options; received {norm_text.text_of(norm)!r}.", param, ctx)
        if name is not None and name not in NORMS:
            known = ", ".join(("none", *NORMS))
            self.fail(f"expected one of {known}; received {shortened(name)}.{suggestion(name, NORMS)}", param, ctx)

    def shell_complete(self, ctx, param, incomplete):
        before, comma, last = incomplete.rpartition(",") if self.several else ("", "", incomplete)
        return completed(("none", *NORMS), last, before + comma)


class Pair(click.ParamType):
    """An argument of a preset."""

    name = "key=value"

    def convert(self, value, param, ctx):
        if isinstance(value, tuple):
            return value
        try:
            return norm_text.option_of(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Out(click.ParamType):
    """The folder or file to write; an empty text would be the current folder.

    Args:
        folder: Whether it is a folder.
    """

    name = "path"

    def __init__(self, folder: bool = False):
        self.folder = folder

    def convert(self, value, param, ctx):
        if not value.strip():
            self.fail(f"expected a path; received {shortened(value)}. Use . for the current folder.", param, ctx)
        if self.folder and pathlib.Path(value).expanduser().is_file():
            self.fail(f"{value!r} is a file; expected a folder.", param, ctx)
        return value

    def shell_complete(self, ctx, param, incomplete):
        return [CompletionItem(incomplete, type="file")]


def shortened(value: object) -> str:
    """A value as an error shows it, not longer than a line."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
