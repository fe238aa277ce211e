"""The command `bn-keras bench`."""

import inspect

import click

from bn_keras.bench.cases import GROUPS
from bn_keras.choices.names import PEERS
from bn_keras.cli.errors import explained, needs
from bn_keras.cli.start import load_keras
from bn_keras.cli.values import Name, Out, ranged


@click.command()
@click.option(
    "--group",
    "groups",
    type=Name(GROUPS),
    multiple=True,
    metavar="GROUP",
    help="One of the groups below; may be repeated.",
)
@click.option(
    "--peer", "peers", type=Name(PEERS), multiple=True, metavar="PEER", help="bn_keras, keras, …; may be repeated."
)
@click.option("--rounds", type=ranged("rounds"), default=15, show_default=True, help="Turns of each peer.")
@click.option(
    "--out", type=Out(folder=True), default="benchmarks", show_default=True, metavar="DIR", help="For results.json."
)
@click.option("--resume", is_flag=True, help="Continue the benchmark in --out.")
@click.option("--quick", is_flag=True, help="Measure tiny inputs in 2 rounds, to see that everything runs.")
def bench(groups, peers, rounds, out, resume, quick):
    """Measure the layers beside their peers, in turns.

    Leave the machine alone meanwhile. `bn-keras page benchmark --results DIR` writes the page and its pictures.

    The groups:
    """
    load_keras()
    with needs("lab"):
        from bn_keras.bench.run import BenchError
        from bn_keras.bench.run import bench as measure
        from bn_keras.cli.terminal import Progress, console
        from bn_keras.lab.results import RESULTS
    kept = f"{out}/{RESULTS} keeps the finished cases; the same command with --resume continues."
    rounds = 2 if quick else rounds
    with explained(BenchError, kept), Progress(console(stderr=True)) as progress:
        results = measure(out, groups=groups, peers=peers, rounds=rounds, quick=quick, resume=resume, watcher=progress)
    show(results)
    click.echo(f"\nEvery round: {out}/{RESULTS}   Page: bn-keras page benchmark --results {out}")


def show(results):
    """Prints a table for each group, and on standard error which peers have no figures."""
    from bn_keras.bench import report
    from bn_keras.cli.terminal import console, print_table

    terminal = console()
    for group, columns, rows in report.sections(results):
        print_table(terminal, GROUPS[group].title, columns, rows)
    for line in report.omissions(results):
        click.echo(f"Left out: {line}", err=True)


bench.help = inspect.cleandoc(bench.help) + "".join(f"\n\n{name}: {group.title}." for name, group in GROUPS.items())
