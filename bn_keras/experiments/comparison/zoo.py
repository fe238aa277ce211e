"""The comparisons of the model zoo: `python -m bn_keras.experiments.comparison.zoo` makes the runs that are missing."""

import argparse
import dataclasses
import pathlib
import shlex

from bn_keras.choices.norm_text import text_of
from bn_keras.experiments.comparison.compare import compare
from bn_keras.experiments.comparison.recipe import Recipe, default_recipe

SMALL = {"width": 0.125, "batch_size": 32}
GROUPS = ("group", {"groups": 4})
ZOO = (
    default_recipe("mlp_sigmoid", "mnist", steps=20_000),
    # A run takes more than three minutes here, so there are five seeds.
    default_recipe("inception_small", "mnist", steps=4_000, evaluate_every=80, seeds=5, **SMALL),
    # CIFAR-10 at 16×16, so that a baseline can train until it is flat, and 16 trials of each arm fit into hours.
    default_recipe(
        "inception_small", "cifar10_jpeg", image_size=16, steps=24_000, evaluate_every=240, seeds=5, **SMALL
    ),
    default_recipe(
        "resnet20", "cifar10_jpeg", norms=(None, "batch", GROUPS, "layer"), image_size=16, width=0.25, batch_size=32,
        steps=16_000, evaluate_every=160, seeds=5,
    ),
    # Batches of 4, where the moments of batch norm are noisy: the norms that do without them. A second doubling, to
    # 32,000 steps, would take six hours.
    default_recipe(
        "inception_small", "mnist", norms=(None, "batch", GROUPS, ("standardized", {"groups": 4})), image_size=14,
        width=0.125, batch_size=4, steps=8_000, evaluate_every=160, seeds=5, extensions=1,
    ),
)  # fmt: skip


def place_of(recipe: Recipe) -> pathlib.PurePosixPath:
    """The folder of a comparison within the zoo.

    >>> str(place_of(ZOO[-1]))
    'inception_small/mnist_batch_4'
    """
    batch = f"_batch_{recipe.batch_size}" if recipe.is_of_small_batches else ""
    return pathlib.PurePosixPath(recipe.preset, recipe.data + batch)


def compare_command(recipe: Recipe) -> str:
    """The command that runs a comparison.

    >>> compare_command(default_recipe("mlp_sigmoid", "mnist", steps=20_000, norms=(None, "layer")))
    'bn-keras compare mlp_sigmoid --data mnist --norms none,layer --steps 20000'
    """
    usual = default_recipe(recipe.preset, recipe.data, quick=recipe.sketch, steps=recipe.steps)
    words = ["bn-keras", "compare", recipe.preset, "--data", recipe.data] + ["--quick"] * recipe.sketch
    for field in dataclasses.fields(Recipe):
        value = getattr(recipe, field.name)
        if field.name in ("preset", "data", "sketch") or (
            value == getattr(usual, field.name) and field.name != "steps"
        ):
            continue
        option = "rates" if field.name == "learning_rates" else field.name.replace("_", "-")
        words += [f"--{option}", text_of_value(field.name, value)]
    return shlex.join(words)


def text_of_value(field: str, value: object) -> str:
    """The value of an option on the command line."""
    if field == "norms":
        return ",".join(map(text_of, value))
    if field == "learning_rates":
        return ",".join(str(rate).removesuffix(".0") for rate in value)
    return str(value)


def main() -> None:
    """The command line."""
    from bn_keras.lab.watcher import Printing

    parser = argparse.ArgumentParser(description="Makes the runs of the model zoo that are missing.")
    parser.add_argument("--data-dir", help="where tensorflow-datasets keeps its data sets")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("models"), help="the folder of the zoo")
    parser.add_argument("--only", default="", help="a part of the name, such as resnet20 or mnist")
    arguments = parser.parse_args()
    for recipe in ZOO:
        place = place_of(recipe)
        if arguments.only in str(place):
            compare(
                recipe, arguments.out / place, data_dir=arguments.data_dir, resume=True, watcher=Printing(str(place))
            )


if __name__ == "__main__":
    main()
