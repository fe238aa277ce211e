"""The command line, `bn-keras`."""

import signal
import sys
import time

try:
    import click
    import rich.box
    import rich.console
    import rich.progress
    import rich.table

    from bn_keras import __version__, experiments
    from bn_keras.bench import pages as bench_pages
    from bn_keras.bench import report as bench_report
    from bn_keras.bench.cases import GROUPS
    from bn_keras.bench.results import RESULTS, ResultsError
    from bn_keras.bench.run import BenchError, Watcher, bench
    from bn_keras.cli_export import export
    from bn_keras.experiments import report
except ImportError as error:
    sys.exit(f"bn-keras needs the extra `lab` ({error}). Install it: pip install 'bn_keras[lab]'")

from bn_keras.models import build, list_presets, preset

OPTION_OF_FIELD = {"learning_rates": "--rates"}


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


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, package_name="bn_keras")
def cli():
    """Normalization for Keras: what it does to training, measured."""


@cli.command()
def presets():
    """List the networks that can be compared."""
    table = rich.table.Table("preset", "image", "parameters\nwithout norm", "with\nbatch norm", "what it is")
    for name in list_presets():
        entry = preset(name)
        counts = [f"{build(name, norm=norm).count_params():,}" for norm in (None, "batch")]
        table.add_row(name, "×".join(map(str, entry.input_shape)), *counts, entry.summary)
    rich.console.Console().print(table)


@cli.command()
@click.argument("preset", default="mlp_sigmoid")
@click.option("--data", default="digits", show_default=True, help="digits, or a set of tensorflow-datasets.")
@click.option(
    "--data-dir",
    type=click.Path(exists=True, file_okay=False),
    help="Where tensorflow-datasets keeps its sets.  [default: its own]",
)
@click.option("--rates", "learning_rates", type=NumberList(float), help="Learning rates to sweep.")
@click.option("--seeds", type=NumberList(int), help="One run each.  [default: 0,1,2]")
@click.option("--steps", type=int, help="Optimizer steps of each run.")
@click.option("--evaluate-every", type=int, metavar="STEPS", help="Steps between two evaluations.")
@click.option("--evaluation-examples", type=int, metavar="N", help="Evaluate on the first N test images.")
@click.option("--batch-size", type=int, help="Examples per step.")
@click.option("--optimizer", help="sgd, momentum or adam.")
@click.option("--width", type=float, help="Multiplies the units or channels of the hidden layers.")
@click.option("--norm-momentum", type=float, help="Of batch norm's moving averages.")
@click.option("--out", default="comparison", show_default=True, metavar="DIR", help="For results.json and curves.png.")
@click.option("--resume", is_flag=True, help="Go on from the finished runs in --out.")
def compare(preset, data, data_dir, out, resume, **changes):
    """Train PRESET with and without batch norm and compare.

    Both arms are trained at every learning rate with every seed. Two questions are answered,
    at the same learning rate and at each arm's own best: after how many steps, and seconds,
    is the accuracy there that the arm without norm reaches at its best?
    """
    recipe = recipe_of(preset, data, {field: value for field, value in changes.items() if value is not None})
    console = rich.console.Console()
    try:
        with Progress(console) as progress:
            results = experiments.compare(recipe, out, data_dir=data_dir, resume=resume, watcher=progress)
    except experiments.DataError as error:
        raise click.UsageError(str(error)) from None
    except (experiments.ResultsError, OSError) as error:
        raise click.ClickException(str(error)) from None
    except KeyboardInterrupt:
        raise click.ClickException(
            f"Interrupted. The finished runs are in {out}; the same command with --resume goes on from them."
        ) from None
    show(results, console)
    experiments.draw(results, f"{out}/curves.png")
    console.print(f"\nEvery curve: {out}/results.json   Picture: {out}/curves.png")


@cli.command()
@click.argument("directory", default="models")
def zoo(directory):
    """Write the pages of the zoo in DIRECTORY from the results in it."""
    try:
        for path in experiments.write_pages(directory):
            click.echo(path)
    except experiments.ResultsError as error:
        raise click.ClickException(str(error)) from None


@cli.command("bench")
@click.option("--group", "groups", multiple=True, metavar="GROUP", help="One of the groups below; may be repeated.")
@click.option("--peer", "peers", multiple=True, metavar="PEER", help="bn_keras, keras, …; may be repeated.")
@click.option("--rounds", type=click.IntRange(1), default=15, show_default=True, help="Turns of each peer.")
@click.option("--out", default="benchmarks", show_default=True, metavar="DIR", help="For results.json and its page.")
@click.option(
    "--readme",
    type=click.Path(exists=True, dir_okay=False),
    help="A page with the marks of the performance table, to be filled.",
)
@click.option("--resume", is_flag=True, help="Go on from the finished cases in --out.")
@click.option("--quick", is_flag=True, help="Tiny inputs and 2 rounds: whether everything runs.")
def run_bench(out, readme, rounds, quick, **choice):
    """Measure the layers beside their peers, in turns.

    Leave the machine alone meanwhile. The groups:
    """
    console, errors = rich.console.Console(), rich.console.Console(stderr=True)
    try:
        with BenchProgress(errors) as progress:
            results = bench(out, rounds=2 if quick else rounds, quick=quick, watcher=progress, **choice)
        written = bench_pages.write_pages(out, readme)
    except BenchError as error:
        raise click.UsageError(str(error)) from None
    except (ResultsError, OSError) as error:
        raise click.ClickException(str(error)) from None
    except KeyboardInterrupt:
        raise click.ClickException(
            f"Interrupted. The finished cases are in {out}/{RESULTS}; the same command with --resume goes on from them."
        ) from None
    for group, columns, rows in bench_report.sections(results):
        print_table(console, GROUPS[group].title, columns, rows)
    for line in bench_report.left_out(results):
        errors.print(f"Left out: {line}", markup=False)
    console.print(f"\nEvery round: {out}/{RESULTS}   Page: {written[0]}")


run_bench.help += "".join(f"\n\n{name}: {group.title}." for name, group in GROUPS.items())


def recipe_of(preset, data, changes):
    """The recipe of what was typed; what it cannot have is told in the words of the command line."""
    try:
        return experiments.default_recipe(preset, data, **changes)
    except experiments.RecipeError as error:
        option = OPTION_OF_FIELD.get(error.field, "--" + error.field.replace("_", "-"))
        raise click.UsageError(f"{option} must be {error.expected}. Received: {error.received!r}.") from None
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def show(results, console):
    """Prints the answers, the sweep and what to be careful about."""
    recipe = results["recipe"]
    console.print(f"\n[bold]{recipe['preset']} on {recipe['data']}[/bold], {report.target_line(results)}.")
    columns = report.ANSWER_COLUMNS[1:]
    rows = report.answer_rows(results)
    for pair in (rows[:2], rows[2:]):
        print_table(console, f"Steps and seconds to the target, {pair[0][0]}", columns, [row[1:] for row in pair])
    print_table(console, "Best accuracy at every learning rate", report.SWEEP_COLUMNS, report.sweep_rows(results))
    console.print(report.sensitivity_line(results).capitalize() + ".")
    for line in report.warnings(results):
        console.print(f"[yellow]Note:[/yellow] {line}")


def print_table(console, title, columns, rows):
    console.print(f"\n{title}")
    foldable = [rich.table.Column(column, overflow="fold") for column in columns]
    table = rich.table.Table(*foldable, box=rich.box.SIMPLE_HEAD, collapse_padding=True)
    for row in rows:
        table.add_row(*row)
    console.print(table)


class Progress:
    """A bar over all steps of all runs; on no terminal, a line for each run."""

    def __init__(self, console):
        self.console = console
        self.bar = rich.progress.Progress(
            rich.progress.TextColumn("{task.description}"),
            rich.progress.BarColumn(),
            rich.progress.TextColumn("{task.percentage:>3.0f} %  left"),
            rich.progress.TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )

    def __enter__(self):
        self.interrupted, self.handler = False, signal.getsignal(signal.SIGINT)
        self.bar.start()
        return self

    def __exit__(self, *error):
        signal.signal(signal.SIGINT, self.handler)
        self.bar.stop()

    def interrupt(self, *signal_and_frame):
        """Ctrl-C waits for the end of the interval, where Python cannot lose it; a second one does not."""
        if self.interrupted:
            raise KeyboardInterrupt
        self.interrupted = True

    def begin(self, recipe, runs, done):
        signal.signal(signal.SIGINT, self.interrupt)
        self.steps, self.runs, self.done = recipe.steps, runs, done
        self.task = self.bar.add_task("loading", total=runs * recipe.steps, completed=done * recipe.steps)

    def run_begins(self, arm, learning_rate, seed):
        self.name = f"{report.LABELS[arm]}, lr {learning_rate:g}, seed {seed}"
        self.bar.update(self.task, description=f"run {self.done + 1} of {self.runs}: {self.name}")

    def evaluated(self, evaluation):
        if self.interrupted:
            raise KeyboardInterrupt
        self.bar.update(
            self.task,
            completed=self.done * self.steps + evaluation.step,
            description=f"run {self.done + 1} of {self.runs}: {self.name}, {evaluation.accuracy:6.2%}",
        )

    def run_ended(self, run):
        self.done += 1
        self.bar.update(self.task, completed=self.done * self.steps)
        if not self.console.is_terminal:
            end = f"diverged at step {run['diverged_at']:,}" if run["diverged_at"] else f"{run['accuracy'][-1]:.2%}"
            self.console.print(f"run {self.done} of {self.runs}: {self.name}: {end}, {run['seconds'][-1]:.1f} s")


class BenchProgress(Watcher):
    """A line for each case that is finished; on a terminal, what is being measured and the time left."""

    def __init__(self, console):
        self.console = console
        self.status = console.status("starting")

    def __enter__(self):
        if self.console.is_terminal:
            self.status.start()
        return self

    def __exit__(self, *error):
        self.status.stop()

    def begin(self, cases, done, missing):
        self.cases, self.done, self.done_before = cases, done, done
        self.started = time.monotonic()
        for peer, packages in missing.items():
            self.console.print(f"{peer} is left out: it needs {' and '.join(packages)}. See `bench` in setup.cfg.")

    def case_begins(self, group, case):
        what = f"{group} {bench_report.size(case.shape)} {bench_report.mode_text(case)}"
        self.name = f"case {self.done + 1} of {self.cases}: {what}"
        seconds = time.monotonic() - self.started
        measured = self.done - self.done_before
        left = f", about {seconds / measured * (self.cases - self.done) / 60:.0f} min left" if measured else ""
        self.status.update(self.name + left)

    def case_ended(self, entry):
        self.done += 1
        self.console.print(f"{self.name}: {bench_report.summary(entry)}", markup=False)


cli.add_command(export)
main = cli
