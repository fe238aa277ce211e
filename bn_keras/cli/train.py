"""The command `bn-keras train`."""

import click

from bn_keras.cli.compare import usage_error
from bn_keras.cli.errors import explained, needs

EXAMPLES = """\b
Examples:
  bn-keras train mlp_sigmoid                        on 8x8 digits, seconds, no network
  bn-keras train inception_small --data mnist --width 0.25 --epochs 5
  bn-keras train resnet20 --data folder:photos --image-size 32 --norm group:groups=8
"""


class Names(click.ParamType):
    """Names separated by commas."""

    name = "name,…"

    def convert(self, value, param, ctx):
        return value if isinstance(value, tuple) else tuple(part.strip() for part in value.split(",") if part.strip())


class NormOption(click.ParamType):
    """A norm with options: NAME or NAME:key=value,key=value; "none" for no normalization."""

    name = "name[:key=value,…]"

    def convert(self, value, param, ctx):
        from bn_keras.experiments.norm_text import norm_of

        if not isinstance(value, str):
            return value
        try:
            return norm_of(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Pair(click.ParamType):
    """An argument of a preset."""

    name = "key=value"

    def convert(self, value, param, ctx):
        from bn_keras.experiments.norm_text import option_of

        if isinstance(value, tuple):
            return value
        try:
            return option_of(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command(epilog=EXAMPLES)
@click.argument("preset")
@click.option(
    "--data",
    default="digits",
    show_default=True,
    help="digits, a data set of tensorflow-datasets, folder:PATH (images in class folders) or text:PATH.",
)
@click.option(
    "--data-dir",
    type=click.Path(exists=True, file_okay=False),
    help="Where tensorflow-datasets keeps its data sets.  [default: its own directory]",
)
@click.option("--image-size", type=int, metavar="PIXELS", help="Resize the images of a folder to this size.")
@click.option("--norm", type=NormOption(), help="none, batch, sync, layer, …, with options: group:groups=8.")
@click.option("--option", "options", type=Pair(), multiple=True, help="An argument of the preset, such as depth=50.")
@click.option("--width", type=float, help="Factor on the units or channels of the hidden layers.")
@click.option("--initial-gain", type=float, help="Factor on the first values of all kernels.")
@click.option("--steps", type=int, help="Optimizer steps.")
@click.option("--epochs", type=int, help="Passes over the training examples, in place of --steps.")
@click.option("--evaluate-every", type=int, metavar="STEPS", help="Steps between two evaluations and checkpoints.")
@click.option("--evaluation-examples", type=int, metavar="N", help="Evaluate on the first N test examples.")
@click.option(
    "--validation-examples", type=int, metavar="N", help="Hold out N training examples; use test examples at the end."
)
@click.option("--batch-size", type=int, help="Examples per step, over all replicas and workers.")
@click.option("--optimizer", help="sgd, momentum, adam or adamw.")
@click.option("--learning-rate", type=float, help="The peak of the schedule.")
@click.option("--schedule", help="constant, cosine, linear, exponential or piecewise.")
@click.option("--warmup", type=int, metavar="STEPS", help="Steps in which the learning rate rises to its peak.")
@click.option("--weight-decay", type=float, help="Decoupled weight decay of the kernels.")
@click.option("--clip-norm", type=float, help="Limit of the norm of all gradients together.")
@click.option("--accumulate", type=int, metavar="PARTS", help="Parts of a batch, one after the other, for less memory.")
@click.option("--augment", type=Names(), help="flip, shift, rotate, zoom, contrast, brightness.")
@click.option("--dtype", help="float32, mixed_bfloat16, mixed_float16 or float64.")
@click.option("--seed", type=int, help="Weights, order of the examples, augmentation and dropout.")
@click.option("--target", type=float, metavar="ACCURACY", help="End the run at this accuracy, such as 0.99.")
@click.option(
    "--strategy",
    type=click.Choice(["one", "mirrored", "multiworker"]),
    default="one",
    show_default=True,
    help="One device; replicas on this machine; workers of TF_CONFIG or Slurm.",
)
@click.option("--replicas", type=int, help="Replicas of --strategy mirrored.  [default: one for each GPU]")
@click.option("--join-timeout", type=float, default=300, show_default=True, help="Seconds to wait for all workers.")
@click.option("--restarts", type=int, default=3, show_default=True, help="Restarts after another worker is lost.")
@click.option("--out", default="run", show_default=True, metavar="DIR", help="For the model, checkpoints and logs.")
@click.option("--resume", is_flag=True, help="Continue the run in --out.")
def train(preset, data, data_dir, out, resume, strategy, replicas, join_timeout, restarts, epochs, **changes):
    """Train PRESET, with any normalization or none.

    The folder --out receives results.json, log.csv, events for TensorBoard, the last three checkpoints and model.keras,
    which takes raw examples. A killed run continues with --resume.
    """
    if epochs is not None and changes["steps"] is not None:
        raise click.UsageError("--epochs and --steps exclude each other. Give one of them.")
    if epochs is not None and epochs < 1:
        raise click.UsageError(f"--epochs must be an int ≥ 1. Received: {epochs}.")
    changes["options"] = dict(changes["options"]) or None
    changes = {field: value for field, value in changes.items() if value is not None or field == "norm"}
    if click.get_current_context().get_parameter_source("norm").name == "DEFAULT":
        changes.pop("norm")
    with needs("lab"):
        from bn_keras import experiments
        from bn_keras.cli.terminal import Progress, console

        # Values that depend on the number of steps wait for the data, which says how many an epoch has.
        waiting = ("warmup", "evaluate_every") if epochs is not None else ()
        recipe = recipe_of(preset, data, {field: value for field, value in changes.items() if field not in waiting})
        kept = f"{out} keeps the last checkpoints; the same command with --resume continues."
        usage = (experiments.DataError, experiments.NetworkError, experiments.RecipeError)
        with explained(usage, kept), Progress(console(), patient=True) as progress:
            replicas_here = strategy_of(strategy, replicas, join_timeout)
            loaded = experiments.load(data, data_dir, image_size=recipe.image_size)
            if epochs is not None:
                recipe = recipe_of(preset, data, changes | lengths(loaded, recipe, epochs, changes))
            results = attempt(recipe, out, replicas_here, loaded, resume, progress, restarts)
    show(results, out)


def recipe_of(preset, data, changes):
    """The recipe; a refused value becomes a usage error that names the option."""
    from bn_keras import experiments

    with usage_error():
        return experiments.training_recipe(preset, data, **changes)


def strategy_of(kind, replicas, join_timeout):
    """The strategy; a cluster that does not come together is a failure, not a usage error."""
    from bn_keras import experiments

    try:
        return experiments.make_strategy(kind, replicas, join_timeout=join_timeout, tell=click.echo)
    except experiments.ClusterError as error:
        raise click.ClickException(str(error)) from None
    except ValueError as error:
        text = str(error).replace("`replicas`", "--replicas").replace("`join_timeout`", "--join-timeout")
        raise click.UsageError(text) from None


def lengths(data, recipe, epochs, changes):
    """Steps for a number of epochs; an evaluation after each unless the user says otherwise."""
    of_one = max(1, (data.train.examples - (recipe.validation_examples or 0)) // recipe.batch_size)
    steps, every = of_one * epochs, changes.get("evaluate_every", of_one)
    if every < 1:
        raise click.UsageError(f"--evaluate-every must be an int ≥ 1. Received: {every}.")
    every = min(every, steps)
    nearest = max(1, round(steps / every)) * every
    if nearest != steps:
        click.echo(
            f"{epochs:,} epochs are {steps:,} steps; the run has {nearest:,}, the nearest multiple of "
            f"--evaluate-every {every:,}."
        )
    return {"steps": nearest, "evaluate_every": every}


def attempt(recipe, out, strategy, data, resume, progress, restarts):
    """Trains; when another worker is lost, starts this one again from the last checkpoint."""
    from bn_keras import experiments
    from bn_keras.experiments.workers import restart

    try:
        return experiments.train(recipe, out, strategy=strategy, data=data, resume=resume, watcher=progress)
    except experiments.LostWorkerError as error:
        click.echo(str(error), err=True)
        restart(restarts)
        raise click.ClickException(f"Gave up after {restarts} restarts. Continue with --resume.") from None
    except experiments.ClusterError as error:
        raise click.ClickException(str(error)) from None


def show(results, out):
    """Prints how the run ended."""
    last = results["evaluations"][-1]
    if results["outcome"] == "diverged":
        raise click.ClickException(
            f"The loss was no longer finite at step {last['step']:,}. Lower --learning-rate, add --warmup or "
            "--clip-norm, or choose a normalization."
        )
    best = max(row["accuracy"] for row in results["evaluations"])
    test = results.get("test_accuracy")
    kind = "Test" if test is None else f"Test accuracy {test:.2%}.\nValidation"
    click.echo(
        f"\n{kind} accuracy {last['accuracy']:.2%} after {last['step']:,} steps and {last['seconds']:.2f} s of training"
        f" (best {best:.2%}).\nModel: {out}/model.keras   Every evaluation: {out}/log.csv"
    )
