"""Makes the weights that the wheel holds: `python -m bn_keras.experiments.ship` trains what is missing and writes it.

Each file has a card beside it: `bn_keras.models.weights` reads both.
"""

import argparse
import dataclasses
import json
import pathlib
import shlex

import keras

from bn_keras.choices.norm_text import text_of
from bn_keras.experiments.data import load
from bn_keras.experiments.train import train
from bn_keras.experiments.training_recipe import TrainingRecipe, training_recipe
from bn_keras.lab.results import ResultsError
from bn_keras.models import preset
from bn_keras.models.norms import named_and_options
from bn_keras.models.weights import FOLDER, SUFFIX, Card, sha256, stem

LICENSES = {
    "digits": "CC BY 4.0 (UCI Machine Learning Repository: Alpaydin and Kaynak 1998)",
    "mnist": "CC BY-SA 3.0 (LeCun and Cortes)",
}
SMALL = {
    "steps": 1_500,
    "evaluate_every": 150,
    "schedule": "cosine",
    "weight_decay": 1e-4,
    "augment": ("shift", "rotate"),
}
SHIPPED = (
    training_recipe("mlp_sigmoid", "digits", steps=3_000, evaluate_every=300, schedule="cosine"),
    training_recipe("inception_small", "digits", width=0.25, **SMALL),
    training_recipe("resnet20", "digits", width=0.5, **SMALL),
    training_recipe("vgg_small", "digits", width=0.25, **SMALL),
    training_recipe("mlp_sigmoid", "mnist", steps=20_000, evaluate_every=1_000, schedule="cosine"),
    training_recipe("mlp_sigmoid", "mnist", norm=None, steps=20_000, evaluate_every=1_000, schedule="cosine"),
    training_recipe(
        "inception_small", "mnist", width=0.25, batch_size=128, schedule="cosine", warmup=200, weight_decay=1e-4,
        augment=("shift", "rotate"), steps=4_680, evaluate_every=468,
    ),
)  # fmt: skip


def command_of(recipe: TrainingRecipe) -> str:
    """The command that trains a recipe.

    >>> command_of(training_recipe("mlp_sigmoid", "mnist", steps=500, norm=None, augment=("shift",)))
    'bn-keras train mlp_sigmoid --data mnist --norm none --augment shift --steps 500'
    """
    usual = training_recipe(recipe.preset, recipe.data, steps=recipe.steps)
    words = ["bn-keras", "train", recipe.preset, "--data", recipe.data]
    for field in dataclasses.fields(recipe):
        value = getattr(recipe, field.name)
        if field.name in ("preset", "data") or (value == getattr(usual, field.name) and field.name != "steps"):
            continue
        for text in texts_of(field.name, value):
            words += ["--option" if field.name == "options" else "--" + field.name.replace("_", "-"), text]
    return shlex.join(words)


def texts_of(field: str, value: object) -> list[str]:
    """The values of an option on the command line."""
    if field == "options":
        return [f"{key}={each!r}" for key, each in value.items()]
    if field == "augment":
        return [",".join(value)]
    if field == "norm":
        return [text_of(value)]
    return [f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)]


def ship(recipe: TrainingRecipe, run: pathlib.Path, folder: pathlib.Path, data_dir: str | None = None) -> Card:
    """Trains a recipe, or continues its run, and writes its weights and their card.

    Raises:
        ResultsError: When the run did not end well, when it was not evaluated on the whole test set, and for data whose
            licence is not known.
    """
    if recipe.data not in LICENSES:
        raise ResultsError(f"The licence of {recipe.data!r} is not in LICENSES. Add it, or ship other weights.")
    data = load(recipe.data, data_dir)
    results = train(recipe, run, data=data, resume=True)
    if results["outcome"] == "diverged" or recipe.evaluation_examples:
        raise ResultsError(f"{str(run)!r} diverged, or was not evaluated on all test images. Change the recipe.")
    model = keras.saving.load_model(run / "model.keras")
    name, options = named_and_options(recipe.norm)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{stem(recipe.preset, recipe.data, name)}{SUFFIX}"
    model.save_weights(path)
    preprocessing = data.preprocessing()
    card = Card(
        preset=recipe.preset,
        data=recipe.data,
        norm=name,
        norm_options=options,
        classes=data.classes,
        input_shape=tuple(data.input_shape),
        width=recipe.width,
        options={**preset(recipe.preset).options, **recipe.options},
        preprocessing_layer=None if preprocessing is None else keras.saving.serialize_keras_object(preprocessing),
        recipe=recipe.to_dict(),
        accuracy=results["evaluations"][-1]["accuracy"],
        test_examples=data.test.examples,
        parameters=model.count_params(),
        sha256=sha256(path),
        bytes=path.stat().st_size,
        license=LICENSES[recipe.data],
        command=command_of(recipe),
    )
    (folder / f"{stem(recipe.preset, recipe.data, name)}.json").write_text(
        json.dumps(dataclasses.asdict(card), indent=1) + "\n", encoding="utf-8"
    )
    return card


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Trains what is missing of the shipped weights, and writes them.")
    parser.add_argument("--data-dir", help="where tensorflow-datasets keeps its data sets")
    parser.add_argument("--runs", type=pathlib.Path, default=pathlib.Path("runs"), help="where the runs are kept")
    parser.add_argument("--only", default="", help="a part of the name, such as digits")
    arguments = parser.parse_args()
    for recipe in SHIPPED:
        name = stem(recipe.preset, recipe.data, named_and_options(recipe.norm)[0])
        if arguments.only in name:
            card = ship(recipe, arguments.runs / name, FOLDER, arguments.data_dir)
            print(f"{name}: accuracy {card.accuracy:.2%} on {card.test_examples:,} images, {card.bytes:,} bytes")


if __name__ == "__main__":
    main()
