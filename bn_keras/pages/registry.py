"""Every generated page, and how a page is written to its file."""

import dataclasses
import difflib
import importlib
import pathlib
import re

from bn_keras.lab.watcher import Watcher


class PageError(Exception):
    """An unknown page, or options or a path that it cannot have; the message says what to do."""


@dataclasses.dataclass(frozen=True)
class Request:
    """What the function of a page is given.

    Attributes:
        results: The folder of stored results; `None` neither reads nor stores any.
        quick: Whether a measured page measures small inputs, to see that everything runs.
        watcher: Shows the progress of a measured page.
    """

    results: pathlib.Path | None = None
    quick: bool = False
    watcher: Watcher = dataclasses.field(default_factory=Watcher)


@dataclasses.dataclass(frozen=True)
class Page:
    """A generated page.

    Attributes:
        name: Its name on the command line.
        summary: What it shows, in a line.
        path: Where it goes in the repository: a file, or a folder for a page of several files.
        function: `module:function` below `bn_keras.pages`. The function takes a `Request` and returns the text, or
            `{name: text}` for the files of a folder; a picture may be bytes.
        extra: The extra of the package that it needs; `""` for none.
        results: The folder of stored results in the repository that it follows from; `""` for none. A page that also
            measures stores its results there, and measures only what is missing or out of date.
        measures: Whether it measures on this machine, which takes minutes.
        marks: The name of the two marks that it goes between, in a file that has other text too; `""` for a whole file.
    """

    name: str
    summary: str
    path: str
    function: str
    extra: str = ""
    results: str = ""
    measures: bool = False
    marks: str = ""

    def make(self, request: Request) -> str | dict[str, str | bytes]:
        """The text, or the texts by file name."""
        module, _, name = self.function.partition(":")
        return getattr(importlib.import_module(f"bn_keras.pages.{module}"), name)(request)

    @property
    def command(self) -> str:
        return f"bn-keras page {self.name}"


PAGES = {
    page.name: page
    for page in (
        Page("accuracy", "how exact the layers are beside Keras, tf_keras and PyTorch", "docs/accuracy.md",
             "accuracy:text", extra="lab", measures=True),
        Page("benchmark", "how fast the layers are beside their peers, with pictures", "benchmarks",
             "benchmark:files", extra="lab", results="benchmarks"),
        Page("claims", "what the measurements say of each claim about normalization, with pictures", "docs/claims",
             "claims:files", extra="lab", results="bn_keras/experiments/claims/results"),
        Page("folding", "the networks of keras.applications, converted and folded", "docs/folding.md",
             "folding:text", extra="lab", measures=True),
        Page("options", "which options of BatchNorm can be combined", "docs/options.md",
             "options:text"),
        Page("int8", "networks in int8 beside float32: size, latency and accuracy", "docs/int8.md",
             "int8:text", extra="lab,export", results="benchmarks/int8", measures=True),
        Page("performance", "the table of training steps beside Keras", "docs/performance.md",
             "benchmark:performance", results="benchmarks", marks="performance"),
        Page("recalibration", "recalibrated statistics beside moving averages and PyTorch's", "docs/recalibration.md",
             "recalibration:text", extra="lab", measures=True),
        Page("replicas", "the same run on one device, on replicas and on workers", "docs/replicas.md",
             "replicas:text", extra="lab", measures=True),
        Page("serving", "exported networks in TensorFlow, LiteRT and ONNX Runtime", "docs/serving.md",
             "serving:text", extra="lab,export", measures=True),
        Page("speedups", "the table in the README: what each norm does to the speed of training", "README.md",
             "zoo:speedups", extra="lab", results="models", marks="speedups"),
        Page("surgery", "models of KerasHub and of users, converted, folded, frozen, recalibrated", "docs/surgery.md",
             "surgery:text", extra="lab,dev", results="benchmarks/surgery", measures=True),
        Page("throughput", "examples per second of bn-keras train beside Keras' fit, and of the input",
             "docs/throughput.md", "throughput:text", extra="lab", measures=True),
        Page("verdicts", "the table in the README: the verdict on each claim", "README.md",
             "claims:verdicts", extra="lab", results="bn_keras/experiments/claims/results", marks="verdicts"),
        Page("zoo", "what each norm does to the training of each preset, with pictures", "models",
             "zoo:files", extra="lab", results="models"),
    )
}  # fmt: skip


def page_named(name: str) -> Page:
    """The page of that name.

    Raises:
        PageError: For an unknown name; the message names the nearest ones.
    """
    if name not in PAGES:
        near = " or ".join(map(repr, difflib.get_close_matches(name, PAGES, n=3)))
        raise PageError(
            f"Unknown page {name!r}. " + (f"Did you mean {near}?" if near else f"Pages: {', '.join(PAGES)}.")
        )
    return PAGES[name]


def repository(start: pathlib.Path) -> pathlib.Path | None:
    """The clone of the repository that a folder is in; `None` outside of one."""
    return next((each for each in (start, *start.parents) if is_repository(each)), None)


def is_repository(folder: pathlib.Path) -> bool:
    setup = folder / "setup.cfg"
    return (
        setup.is_file() and re.search(r"^name = bn_keras$", setup.read_text(encoding="utf-8"), re.MULTILINE) is not None
    )


def check_out(page: Page, out: pathlib.Path) -> None:
    """Raises a `PageError` where the page cannot be written to `out`, so that nothing is measured in vain."""
    if page.marks:
        if not out.is_file():
            raise PageError(f"There is no file {str(out)!r}. The page {page.name!r} fills a part of an existing file.")
        parts_around(page, out)
    elif pathlib.Path(page.path).suffix and out.is_dir():
        raise PageError(f"{str(out)!r} is a folder. The page {page.name!r} is one file: name it with --out.")
    elif not pathlib.Path(page.path).suffix and out.is_file():
        raise PageError(f"{str(out)!r} is a file. The page {page.name!r} has several files: name a folder with --out.")


def write(page: Page, out: pathlib.Path, request: Request) -> list[pathlib.Path]:
    """Makes a page and writes it.

    Args:
        page: One of `PAGES`.
        out: The file to write, or the folder of a page of several files.
        request: What the page's function is given.

    Returns:
        The paths of the written files.

    Raises:
        PageError: When the page cannot be written to `out`.
    """
    check_out(page, out)
    made = page.make(request)
    texts = {out: made} if isinstance(made, str) else {out / name: text for name, text in made.items()}
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(text, bytes):
            path.write_bytes(text)
        else:
            path.write_text(complete(page, path, text, request.quick), encoding="utf-8")
    return list(texts)


def complete(page: Page, path: pathlib.Path, text: str, quick: bool = False) -> str:
    """What the file holds: a Markdown page opens with a notice; a part of a file keeps the text around it."""
    if path.suffix != ".md":
        return text
    text = notice(page, quick) + text
    if not page.marks:
        return text
    before, after = parts_around(page, path)
    return before + text + after


def notice(page: Page, quick: bool = False) -> str:
    """The first line of a generated page, or of a generated part of one."""
    return f"<!-- Written by `{page.command}{' --quick' if quick else ''}`. Do not edit. -->\n"


def parts_around(page: Page, path: pathlib.Path) -> tuple[str, str]:
    """What a file holds up to the first mark, and from the second one on."""
    begin, end = f"<!-- {page.marks} -->\n", f"<!-- /{page.marks} -->"
    text = path.read_text(encoding="utf-8")
    before, first, rest = text.partition(begin)
    _, second, after = rest.partition(end)
    if not first or not second:
        raise PageError(f"{str(path)!r} has no lines {begin.strip()} and {end}. Put them where the page goes.")
    return before + first, second + after
