"""The command `bn-keras compare`."""

import contextlib

import click

from bn_keras.cli.errors import explained, needs

OPTION_OF_FIELD = {"learning_rates": "--rates", "options": "--option"}


class NumberList(click.ParamType):
    """Numbers separated by commas."""

    def __init__(self, kind):
        self.kind = kind
        self.name = f"{kind.__name__},…"

    def convert(self, value, param, ctx):
        if isinstance(value, tuple):
            return value
        try:
            return tuple(self.kind(part) for part in value.split(","))
        except ValueError:
            words = "whole numbers" if self.kind is int else "numbers"
            self.fail(f"expected {words} separated by commas, such as 1,2,3; received {value!r}.", param, ctx)


@click.command()
@click.argument("preset", default="mlp_sigmoid")
@click.option("--data", default="digits", show_default=True, help="digits, or a data set of tensorflow-datasets.")
@click.option(
    "--data-dir",
    type=click.Path(exists=True, file_okay=False),
    help="Where tensorflow-datasets keeps its data sets.  [default: its own directory]",
)
@click.option("--rates", "learning_rates", type=NumberList(float), help="Learning rates to sweep.")
@click.option("--seeds", type=NumberList(int), help="Seeds, one run each.  [default: 0,1,2]")
@click.option("--steps", type=int, help="Optimizer steps of each run.")
@click.option("--evaluate-every", type=int, metavar="STEPS", help="Steps between two evaluations.")
@click.option("--evaluation-examples", type=int, metavar="N", help="Evaluate on the first N test images.")
@click.option("--batch-size", type=int, help="Examples per step.")
@click.option("--optimizer", help="sgd, momentum or adam.")
@click.option("--width", type=float, help="Factor on the units or channels of the hidden layers.")
@click.option("--norm-momentum", type=float, help="Momentum of batch norm's moving averages.")
@click.option("--out", default="comparison", show_default=True, metavar="DIR", help="For results.json and curves.png.")
@click.option("--resume", is_flag=True, help="Continue the comparison in --out.")
def compare(preset, data, data_dir, out, resume, **changes):
    """Train PRESET with and without batch norm and compare.

    Both arms train at every learning rate with every seed. The target is the best accuracy of the arm without norm. The
    command prints how many steps and seconds each arm needs to reach it: once at the same learning rate, once at each
    arm's own best rate.
    """
    with needs("lab"):
        from bn_keras import experiments
        from bn_keras.cli.terminal import Progress, console

        recipe = recipe_of(preset, data, {field: value for field, value in changes.items() if value is not None})
        kept = f"{out} keeps the finished runs; the same command with --resume continues."
        usage = (experiments.DataError, experiments.NetworkError)
        with explained(usage, kept), Progress(console(), patient=True) as progress:
            results = experiments.compare(recipe, out, data_dir=data_dir, resume=resume, watcher=progress)
        show(results)
        experiments.draw(results, f"{out}/curves.png")
    click.echo(f"\nEvery curve: {out}/results.json   Picture: {out}/curves.png")


def recipe_of(preset, data, changes):
    """The recipe; a refused value becomes a usage error that names the option."""
    from bn_keras import experiments

    with usage_error():
        return experiments.default_recipe(preset, data, **changes)


@contextlib.contextmanager
def usage_error():
    """Turns a refused value of a recipe into a usage error that names the option."""
    from bn_keras import experiments

    try:
        yield
    except experiments.RecipeError as error:
        option = OPTION_OF_FIELD.get(error.field, "--" + error.field.replace("_", "-"))
        raise click.UsageError(f"{option} must be {error.expected}. Received: {error.received!r}.") from None
    except (ValueError, TypeError) as error:  # a layer raises a TypeError for an option of a wrong type
        raise click.UsageError(str(error)) from None


def show(results):
    """Prints the answers, the sweep and the warnings."""
    from bn_keras.cli.terminal import console, print_table
    from bn_keras.experiments import report

    recipe, terminal = results["recipe"], console()
    terminal.print(f"\n[bold]{recipe['preset']} on {recipe['data']}[/bold], {report.target_line(results)}.")
    rows = report.answer_rows(results)
    for pair in (rows[:2], rows[2:]):
        title = f"Steps and seconds to the target, {pair[0][0]}"
        print_table(terminal, title, report.ANSWER_COLUMNS[1:], [row[1:] for row in pair])
    print_table(terminal, "Best accuracy at every learning rate", report.SWEEP_COLUMNS, report.sweep_rows(results))
    terminal.print(report.sensitivity_line(results).capitalize() + ".")
    for line in report.warnings(results):
        terminal.print(f"[yellow]Note:[/yellow] {line}")
