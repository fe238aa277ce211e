"""The command `bn-keras train`."""

import click

from bn_keras.choices import norm_text
from bn_keras.choices.fields import check_lengths
from bn_keras.choices.names import AUGMENTATIONS, DTYPES, OPTIMIZERS, SCHEDULES, STRATEGIES
from bn_keras.cli.compare import options_named, usage_error
from bn_keras.cli.errors import explained, needs
from bn_keras.cli.start import load_keras
from bn_keras.cli.values import PRESET, DataName, Name, Names, NormText, Out, Pair, ranged

EXAMPLES = """\b
Examples:
  bn-keras train mlp_sigmoid                        on 8x8 digits, seconds, no network
  bn-keras train inception_small --data mnist --width 0.25 --epochs 5
  bn-keras train resnet20 --data folder:photos --image-size 32 --norm group:groups=8
"""


@click.command(epilog=EXAMPLES)
@click.argument("preset", type=PRESET)
@click.option(
    "--data",
    type=DataName(),
    default="digits",
    show_default=True,
    metavar="NAME",
    help="digits, a data set of tensorflow-datasets, folder:PATH (images in class folders) or text:PATH.",
)
@click.option(
    "--data-dir",
    type=click.Path(exists=True, file_okay=False),
    help="Where tensorflow-datasets keeps its data sets.  [default: its own directory]",
)
@click.option(
    "--image-size", type=ranged("image_size"), metavar="PIXELS", help="Resize the images of a folder to this size."
)
@click.option(
    "--norm",
    type=NormText(norm_text.norm_of, "name[:key=value,…]"),
    help="none, batch, sync, layer, …, with options: group:groups=8.",
)
@click.option("--option", "options", type=Pair(), multiple=True, help="An argument of the preset, such as depth=50.")
@click.option("--width", type=ranged("width"), help="Factor on the units or channels of the hidden layers.")
@click.option("--initial-gain", type=ranged("initial_gain"), help="Factor on the first values of all kernels.")
@click.option("--steps", type=ranged("steps"), help="Optimizer steps.")
@click.option("--epochs", type=ranged("epochs"), help="Passes over the training examples, in place of --steps.")
@click.option(
    "--evaluate-every",
    type=ranged("evaluate_every"),
    metavar="STEPS",
    help="Steps between two evaluations and checkpoints.",
)
@click.option(
    "--evaluation-examples",
    type=ranged("evaluation_examples"),
    metavar="N",
    help="Evaluate on the first N test examples.",
)
@click.option(
    "--validation-examples",
    type=ranged("validation_examples"),
    metavar="N",
    help="Hold out N training examples; use test examples at the end.",
)
@click.option("--batch-size", type=ranged("batch_size"), help="Examples per step, over all replicas and workers.")
@click.option("--optimizer", type=Name(OPTIMIZERS), metavar="NAME", help="sgd, momentum, adam or adamw.")
@click.option("--learning-rate", type=ranged("learning_rate"), help="The peak of the schedule.")
@click.option(
    "--schedule", type=Name(SCHEDULES), metavar="NAME", help="constant, cosine, linear, exponential or piecewise."
)
@click.option(
    "--warmup", type=ranged("warmup"), metavar="STEPS", help="Steps in which the learning rate rises to its peak."
)
@click.option("--weight-decay", type=ranged("weight_decay"), help="Decoupled weight decay of the kernels.")
@click.option("--clip-norm", type=ranged("clip_norm", none=True), help="Limit of the norm of all gradients; or none.")
@click.option(
    "--accumulate",
    type=ranged("accumulate"),
    metavar="PARTS",
    help="Parts of a batch, one after the other, for less memory.",
)
@click.option("--augment", type=Names(AUGMENTATIONS), help="flip, shift, rotate, zoom, contrast, brightness.")
@click.option("--dtype", type=Name(DTYPES), metavar="NAME", help="float32, mixed_bfloat16, mixed_float16 or float64.")
@click.option("--seed", type=ranged("seed"), help="Weights, order of the examples, augmentation and dropout.")
@click.option("--target", type=ranged("target"), metavar="ACCURACY", help="End the run at this accuracy, such as 0.99.")
@click.option(
    "--strategy",
    type=Name(STRATEGIES),
    metavar="NAME",
    default="one",
    show_default=True,
    help="one device; mirrored: replicas on this machine; multiworker: workers of TF_CONFIG or Slurm.",
)
@click.option(
    "--replicas", type=ranged("replicas"), help="Replicas of --strategy mirrored.  [default: one for each GPU]"
)
@click.option(
    "--join-timeout",
    type=ranged("join_timeout"),
    default=300,
    show_default=True,
    help="Seconds to wait for all workers.",
)
@click.option(
    "--restarts", type=ranged("restarts"), default=3, show_default=True, help="Restarts after another worker is lost."
)
@click.option(
    "--out",
    type=Out(folder=True),
    default="run",
    show_default=True,
    metavar="DIR",
    help="For the model, checkpoints and logs.",
)
@click.option("--resume", is_flag=True, help="Continue the run in --out.")
def train(preset, data, data_dir, out, resume, strategy, replicas, join_timeout, restarts, epochs, **changes):
    """Train PRESET, with any normalization or none.

    The folder --out receives results.json, log.csv, events for TensorBoard, the last three checkpoints and model.keras,
    which takes raw examples. A killed run continues with --resume.
    """
    given = [field for field in changes if click.get_current_context().get_parameter_source(field).name != "DEFAULT"]
    changes = {field: changes[field] for field in given} | {"options": dict(changes["options"])}
    check_together(strategy, replicas, epochs, changes)
    load_keras()
    with needs("lab"):
        from bn_keras import experiments
        from bn_keras.cli.terminal import Progress, console

        # Values that depend on the number of steps wait for the data, which says how many an epoch has.
        waiting = ("warmup", "evaluate_every") if epochs is not None else ()
        recipe = recipe_of(preset, data, {field: value for field, value in changes.items() if field not in waiting})
        kept = f"{out} keeps the last checkpoints; the same command with --resume continues."
        usage = (experiments.DataError, experiments.NetworkError)
        with explained(usage, kept), options_named(), Progress(console(), patient=True) as progress:
            replicas_here = strategy_of(strategy, replicas, join_timeout)
            loaded = experiments.load(data, data_dir, image_size=recipe.image_size)
            if epochs is not None:
                recipe = recipe_of(preset, data, changes | lengths(loaded, recipe, epochs, changes))
            results = attempt(recipe, out, replicas_here, loaded, resume, progress, restarts)
    show(results, out)


def check_together(strategy, replicas, epochs, changes):
    """Refuses options that do not fit each other, before anything is loaded."""
    if epochs is not None and "steps" in changes:
        raise click.UsageError("--epochs and --steps exclude each other. Give one of them.")
    if replicas is not None and strategy != "mirrored":
        raise click.UsageError(f"--replicas is for --strategy mirrored. Received: --strategy {strategy}.")
    lengths = ("steps", "evaluate_every", "warmup", "batch_size", "accumulate")
    with usage_error():
        check_lengths(**{field: changes.get(field) for field in lengths})


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
