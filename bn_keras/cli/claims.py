"""The command `bn-keras claims`."""

import pathlib

import click

from bn_keras.choices.names import CLAIMS
from bn_keras.choices.ranges import Range
from bn_keras.cli.errors import explained, needs
from bn_keras.cli.start import load_keras
from bn_keras.cli.values import DataName, Number, Out, completed, shortened
from bn_keras.lab.machine import most_jobs

EXAMPLES = """\b
Examples:
  bn-keras claims --list                            the claims and their ids
  bn-keras claims C8 C12 --quick                    two claims on small sizes, about a minute, no network
  bn-keras claims --data-dir data --out claims      all claims in full: about 90 minutes on two cores
  bn-keras claims --out claims --resume             continue after an interruption
"""
COLUMNS = ("id", "claim", "verdict", "number")


class ClaimId(click.ParamType):
    """The id of a claim; small letters will do."""

    name = "id"

    def convert(self, value, param, ctx):
        if value.upper() not in CLAIMS:
            self.fail(f"expected C1 to C{len(CLAIMS)}; received {shortened(value)}.", param, ctx)
        return value.upper()

    def shell_complete(self, ctx, param, incomplete):
        return completed(CLAIMS, incomplete.upper())


@click.command(epilog=EXAMPLES)
@click.argument("ids", type=ClaimId(), nargs=-1, metavar="[ID]...")
@click.option("--list", "listed", is_flag=True, help="Print the ids and titles, and measure nothing.")
@click.option("--quick", is_flag=True, help="Small sizes: less than a minute for each claim, and no network.")
@click.option(
    "--out",
    type=Out(folder=True),
    default="claims",
    show_default=True,
    metavar="DIR",
    help="For the results and the pictures.",
)
@click.option("--resume", is_flag=True, help="Continue the results in --out: measure only what is missing.")
@click.option(
    "--jobs",
    type=Number(Range(int, 1, most_jobs())),
    metavar="N",
    help="Processes, each with one thread.  [default: the number of cores; 1 with --quick]",
)
@click.option(
    "--data-dir",
    type=click.Path(exists=True, file_okay=False),
    help="Where tensorflow-datasets keeps its data sets.  [default: its own directory]",
)
@click.option(
    "--images",
    type=DataName(),
    metavar="NAME",
    help="The data set of colour images, without --quick.  [default: cifar10]",
)
def claims(ids, listed, quick, out, resume, jobs, data_dir, images):
    """Test claims about normalization by measurement.

    Without an ID, the command tests all claims. Each claim has a rule that turns the measurements into a verdict:
    holds, holds under conditions, or does not hold here. The command stores the measurements of C8 in DIR/C8.json, and
    draws DIR/C8.svg and DIR/C8.png. All finished claims in DIR make the page DIR/index.html.
    """
    if quick and images:
        raise click.UsageError("--images is for the full form. Leave out --images or --quick.")
    if listed:
        for name in dict.fromkeys(ids or CLAIMS):
            click.echo(f"{name:<4} {CLAIMS[name]}")
        return
    load_keras()
    with needs("lab"):
        from bn_keras.experiments.claims import catalog
        from bn_keras.experiments.claims.claim import Form
        from bn_keras.experiments.claims.page import write_page
        from bn_keras.experiments.claims.stored import finished_in
        from bn_keras.lab.machine import cores

        claims_by_id = {claim.id: claim for claim in map(catalog.claim_named, ids)}
        chosen = list(claims_by_id.values()) or catalog.all_claims()
        form = Form(quick=True) if quick else Form(images=images or Form.images)
        results = measure(
            chosen,
            out,
            form=form,
            data_dir=data_dir,
            jobs=jobs or (1 if quick else cores()),
            resume=resume,
        )
        show(chosen, results)
        paths = [path for claim in chosen for path in draw(claim, results[claim.id])]
        page = write_page(finished_in(pathlib.Path(out).expanduser(), catalog.all_claims(), form), out)
    pictures = [f"  {path}" for path in paths if path.suffix == ".png"]
    click.echo("\n" + "\n".join(["Pictures:", *pictures, "Page:", f"  {page}"]))


def measure(chosen, out, *, form, data_dir, jobs, resume):
    """The measurements of the claims, with the progress on the terminal; errors of the data name --quick."""
    from bn_keras import experiments
    from bn_keras.cli.terminal import Progress, console
    from bn_keras.experiments.claims.run import LostProcessError, measure_claims

    kept = f"{out} keeps the finished measurements; the same command with --resume continues."
    # One process loses the cell under way after Ctrl-C, so it waits for its end; several are ended at once.
    with explained((), kept), Progress(console(), patient=jobs == 1) as progress:
        try:
            return measure_claims(chosen, out, form=form, data_dir=data_dir, jobs=jobs, resume=resume, watcher=progress)
        except (experiments.DataError, FileNotFoundError) as error:
            words = f"{error} Nothing was measured. --quick measures small sizes and needs no data set."
            kind = click.UsageError if isinstance(error, experiments.DataError) else click.ClickException
            raise kind(words) from None
        except LostProcessError as error:
            raise click.ClickException(str(error)) from None


def show(chosen, results):
    """Prints the table of the verdicts, then the reasons, conditions and notes of each claim."""
    from bn_keras.cli.terminal import console, print_table
    from bn_keras.experiments.claims.stored import finding_of

    terminal = console()
    findings = [(claim, finding_of(claim, results[claim.id])) for claim in chosen]
    rows = [(claim.id, claim.title, finding.verdict, finding.number) for claim, finding in findings]
    print_table(terminal, "The verdicts", COLUMNS, rows)
    for claim, finding in findings:
        terminal.print(f"{claim.id}: {finding.because}", markup=False)
        terminal.print(f"  Published: {claim.literature}", markup=False)
        if finding.conditions:
            terminal.print(f"  Conditions: {finding.conditions}", markup=False)
        for note in finding.notes:
            terminal.print(f"  Note: {note}", markup=False)


def draw(claim, stored) -> list[pathlib.Path]:
    """Draws the figure of a claim beside its measurements, as SVG and PNG."""
    from bn_keras.lab.plot import save
    from bn_keras.lab.results import digest_of

    figure = claim.draw(stored.form, stored.found)
    paths = [stored.path.with_suffix(suffix) for suffix in (".svg", ".png")]
    for path in paths:
        save(figure, path, digest_of(stored.path))
    return paths
