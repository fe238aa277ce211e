"""The command `bn-keras compare`."""

import contextlib

import click

from bn_keras.choices import norm_text
from bn_keras.choices.fields import RecipeError, check_lengths
from bn_keras.choices.names import OPTIMIZERS
from bn_keras.cli.errors import explained, needs
from bn_keras.cli.start import load_keras
from bn_keras.cli.values import PRESET, DataName, Name, NormText, Out, Rates, ranged

OPTION_OF_FIELD = {"learning_rates": "--rates", "options": "--option", "learning_rate": "--rates"}
EXAMPLES = """\b
Examples:
  bn-keras compare mlp_sigmoid --quick              a sketch on 8x8 digits, about two minutes, no network
  bn-keras compare inception_small --data mnist --norms none,batch,layer --out runs/mnist
  bn-keras compare resnet20 --data cifar10 --norms none,batch,group:groups=4 --out runs/cifar10
"""


@click.command(epilog=EXAMPLES)
@click.argument("preset", type=PRESET, default="mlp_sigmoid")
@click.option(
    "--data",
    type=DataName(),
    default="digits",
    show_default=True,
    metavar="NAME",
    help="digits, or a data set of tensorflow-datasets.",
)
@click.option(
    "--data-dir",
    type=click.Path(exists=True, file_okay=False),
    help="Where tensorflow-datasets keeps its data sets.  [default: its own directory]",
)
@click.option(
    "--norms",
    type=NormText(norm_text.norms_of, "norm,…"),
    help="The arms, such as none,batch,group:groups=4.  [default: none,batch]",
)
@click.option("--quick", is_flag=True, help="A sketch: 4 trials, 3 seeds, nothing is extended.")
@click.option("--trials", type=ranged("trials"), help="Settings that are tried for each arm.  [default: 16]")
@click.option("--seeds", type=ranged("seeds"), metavar="N", help="New seeds for each winner.  [default: 10]")
@click.option("--rates", "learning_rates", type=Rates(), help="The range of learning rates to search.")
@click.option(
    "--steps", type=ranged("steps"), help="Optimizer steps of each run; doubled while the baseline is not flat."
)
@click.option(
    "--extensions",
    type=ranged("extensions"),
    metavar="N",
    help="How often the steps and the space may grow.  [default: 2]",
)
@click.option("--evaluate-every", type=ranged("evaluate_every"), metavar="STEPS", help="Steps between two evaluations.")
@click.option(
    "--validation-examples",
    type=ranged("validation_examples"),
    metavar="N",
    help="Training images held out for tuning and targets.",
)
@click.option("--batch-size", type=ranged("batch_size"), help="Examples per step.")
@click.option("--optimizer", type=Name(OPTIMIZERS), metavar="NAME", help="sgd, momentum, adam or adamw.")
@click.option(
    "--image-size", type=ranged("image_size"), metavar="PIXELS", help="Resize the images to this height and width."
)
@click.option("--width", type=ranged("width"), help="Factor on the units or channels of the hidden layers.")
@click.option("--norm-momentum", type=ranged("norm_momentum"), help="Momentum of moving averages.  [default: 0.9]")
@click.option(
    "--out",
    type=Out(folder=True),
    default="comparison",
    show_default=True,
    metavar="DIR",
    help="For the runs, the pictures and the page.",
)
@click.option("--resume", is_flag=True, help="Continue the comparison in --out, or share it with other processes.")
def compare(preset, data, data_dir, out, resume, quick, **changes):
    """Tune PRESET without and with each norm, and compare.

    Every arm tries the same settings; the winners run with new seeds. The target is the best validation accuracy of the
    network without norm. The command prints how many steps and seconds each arm needs to reach it, with intervals.
    """
    given = {field: value for field, value in changes.items() if value is not None}
    with usage_error():
        check_lengths(steps=given.get("steps"), evaluate_every=given.get("evaluate_every"))
    load_keras()
    with needs("lab"):
        from bn_keras import experiments
        from bn_keras.cli.terminal import Progress, console
        from bn_keras.experiments.comparison.page import write_page

        recipe = recipe_of(preset, data, quick, given)
        kept = f"{out} keeps the finished runs; the same command with --resume continues."
        usage = (experiments.DataError, experiments.NetworkError)
        with explained(usage, kept), options_named(), Progress(console(), patient=True) as progress:
            comparison = experiments.compare(recipe, out, data_dir=data_dir, resume=resume, watcher=progress)
        show(comparison)
        paths = experiments.draw(comparison, out)
        page = write_page(comparison, out)
    pictures = [f"  {path}" for path in paths if path.suffix == ".png"]
    click.echo("\n" + "\n".join(["Pictures:", *pictures, "Page:", f"  {page}"]))


def recipe_of(preset, data, quick, changes):
    """The recipe; a refused value becomes a usage error that names the option."""
    from bn_keras import experiments

    with usage_error():
        return experiments.default_recipe(preset, data, quick=quick, **changes)


@contextlib.contextmanager
def options_named():
    """Turns a refused field of a recipe into a usage error that names the option."""
    try:
        yield
    except RecipeError as error:
        option = OPTION_OF_FIELD.get(error.field, "--" + error.field.replace("_", "-"))
        raise click.UsageError(f"{option} must be {error.expected}. Received: {error.received!r}.") from None


@contextlib.contextmanager
def usage_error():
    """Turns a refused value of a recipe into a usage error."""
    try:
        with options_named():
            yield
    except (ValueError, TypeError) as error:  # a layer raises a TypeError for an option of a wrong type
        raise click.UsageError(str(error)) from None


def show(comparison):
    """Prints the answers, what they stand on, and the doubts."""
    from bn_keras.cli.terminal import console, print_table
    from bn_keras.experiments.comparison import report

    terminal = console()
    terminal.print(f"\n[bold]{report.title(comparison)}[/bold]. {report.target_line(comparison)}")
    tables = (
        ("Steps to the target", report.SPEED_COLUMNS, report.speed_rows(comparison)),
        ("Steps to the harder target", report.SPEED_COLUMNS, report.speed_rows(comparison, hard=True)),
        ("The winners", report.SETTING_COLUMNS, report.setting_rows(comparison)),
        ("Best accuracy", report.ACCURACY_COLUMNS, report.accuracy_rows(comparison)),
        ("Cost", report.COST_COLUMNS, report.cost_rows(comparison)),
    )
    for title, columns, rows in tables:
        print_table(terminal, title, columns, rows)
    for line in report.verdicts(comparison):
        terminal.print(line)
    for line in report.notes(comparison):
        terminal.print(f"[yellow]Note:[/yellow] {line}")
