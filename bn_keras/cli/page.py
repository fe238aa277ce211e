"""The command `bn-keras page`."""

import pathlib

import click

from bn_keras.cli.errors import explained, needs
from bn_keras.cli.start import load_keras
from bn_keras.cli.values import Out, completed
from bn_keras.pages import registry
from bn_keras.pages.registry import PAGES, Page, PageError, Request

FOLDER = click.Path(exists=True, file_okay=False, path_type=pathlib.Path)


@click.command()
@click.argument("name", required=False, shell_complete=lambda context, parameter, typed: completed(PAGES, typed))
@click.option(
    "--out",
    type=Out(),
    metavar="PATH",
    help="The file to write, or the folder of a page with pictures.  [default: its place in the repository]",
)
@click.option(
    "--results",
    type=FOLDER,
    metavar="DIR",
    help="Stored results to make the page from. A page of several files is written beside them.  "
    "[default: the repository's; none with --quick]",
)
@click.option("--quick", is_flag=True, help="Measure small inputs, to see that everything runs. Needs --out.")
def page(name, out, results, quick):  # fmt: skip
    """Write the generated page NAME, or list all pages.

    A page that follows from stored results or from the code takes seconds. The other pages measure on this machine;
    leave it alone meanwhile. One that stores its results measures only what is missing or out of date.
    """
    if name is None:
        if out or results or quick:
            raise click.UsageError("--out, --results and --quick go with the NAME of a page.")
        for each in PAGES.values():
            click.echo(listed(each))
        return
    out = out and pathlib.Path(out)
    with explained(PageError, "The page was not written. Results that it stores are kept."):
        chosen = registry.page_named(name)
        check_options(chosen, out, results, quick)
        out = out or results or in_repository(chosen, chosen.path, "--out")
        registry.check_out(chosen, out)
        if chosen.results and not quick:
            results = results or in_repository(chosen, chosen.results, "--results")
        load_keras()
        with needs(chosen.extra):
            if chosen.measures:
                written = measure_and_write(chosen, out, results, quick)
            else:
                written = registry.write(chosen, out, Request(results=results))
    for path in written:
        click.echo(path)


def listed(page: Page) -> str:
    """A page in two lines."""
    needed = f", needs the extra {page.extra}" if page.extra else ""
    return f"{page.name:<14} {page.path}: {page.summary}\n{'':<14} ({source_of(page)}{needed})"


def source_of(page: Page) -> str:
    """Where the figures of a page come from."""
    if page.measures:
        return f"measures, stores results in {page.results}/" if page.results else "measures"
    return f"from {page.results}/" if page.results else "from the code"


def check_options(page: Page, out: pathlib.Path | None, results: pathlib.Path | None, quick: bool) -> None:
    """Raises a `PageError` for options that the page does not have."""
    if results and not page.results:
        raise PageError(f"The page {page.name!r} does not follow from stored results. Leave out --results.")
    if results and page.marks and not out:
        raise PageError(f"The page {page.name!r} fills a part of an existing file: name it with --out.")
    if quick and not page.measures:
        raise PageError(f"The page {page.name!r} measures nothing. Leave out --quick.")
    if quick and not out:
        raise PageError(f"--quick measures small inputs, which do not belong into {page.path}. Name a file with --out.")


def in_repository(page: Page, path: str, option: str) -> pathlib.Path:
    """A path of the clone that the current folder is in."""
    here = pathlib.Path.cwd()
    root = registry.repository(here)
    if root is None:
        raise PageError(
            f"The page {page.name!r} uses {path} in a clone of the repository, and {str(here)!r} is not inside one. "
            f"Change into a clone, or name another place with {option}."
        )
    return root / path


def measure_and_write(page: Page, out: pathlib.Path, results: pathlib.Path | None, quick: bool) -> list[pathlib.Path]:
    from bn_keras.cli.terminal import Progress, console

    with Progress(console(stderr=True)) as progress:
        return registry.write(page, out, Request(results, quick, progress))
