"""What is compared, on what, and how much tuning every arm gets."""

import dataclasses
import hashlib
import inspect
import json
from collections.abc import Mapping

from bn_keras.choices.fields import RecipeError, make_plain, require, require_in_ranges
from bn_keras.choices.norm_text import text_of
from bn_keras.choices.ranges import RANGES
from bn_keras.experiments.comparison.space import Space, Trial
from bn_keras.experiments.training_recipe import TrainingRecipe, training_recipe
from bn_keras.models import preset
from bn_keras.models.norms import KERNEL_KINDS, KINDS, named_and_options

BASELINE = "none"
TUNING_SEED = 0
EVALUATIONS = 100
SMALL_BATCH = 16  # from here on the moments of a batch are hardly noisy


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The settings of one comparison of norms: what is compared, on what, and how much tuning every arm gets.

    Args:
        preset: Str, the network: one of `bn_keras.models.list_presets()`.
        data: Str, the name of a data set, as in `bn_keras.experiments.load`.
        norms: Tuple of the arms: `None`, which is the baseline, and one norm or more. Each is a name or a pair of a
            name and a dict of options. Defaults to `(None, "batch")`.
        width: Float that multiplies the number of units or channels of the network's hidden layers. Defaults to `1.0`.
        image_size: Int, the height and width in pixels that images are resized to; `None` keeps their size. Defaults to
            `None`.
        optimizer: Str: `"sgd"`, `"momentum"` (SGD with momentum 0.9), `"adam"` or `"adamw"`. Defaults to `"momentum"`.
        batch_size: Int, the examples per step. Defaults to `64`.
        learning_rates: Tuple of two floats, the lowest and the highest learning rate of the search. Defaults to
            `(0.001, 10.0)`.
        steps: Int, the optimizer steps of each run: a multiple of `evaluate_every`, at least 4 times as many. They are
            doubled while the baseline is not flat. Defaults to `1000`.
        evaluate_every: Int, the steps between two evaluations. Defaults to `10`.
        validation_examples: Int, how many training examples are held out for tuning, targets and crossings. Defaults to
            `5000`.
        norm_momentum: Float, the `momentum` of the norms that have moving averages. Keras' 0.99 needs hundreds of steps
            to follow a network that learns quickly; 0.9 needs tens. Defaults to `0.9`.
        trials: Int, how many settings are tried for each arm. Defaults to `16`.
        seeds: Int, how many new seeds each winner runs with. Defaults to `10`.
        extensions: Int, how many times the steps may be doubled, and how many times the space may be widened. Defaults
            to `2`.
        sketch: Bool, whether the results are labelled as a sketch. Defaults to `False`.

    Raises:
        RecipeError: A `ValueError` that names the field, the expected values and the received value.
        ValueError, TypeError: If `bn_keras.models.norm` does not know a norm.

    >>> Recipe(preset="mlp_sigmoid", data="digits", validation_examples=300).arms
    ('none', 'batch')
    """

    preset: str
    data: str
    norms: tuple[str | tuple[str, dict] | None, ...] = (None, "batch")
    width: float = 1.0
    image_size: int | None = None
    optimizer: str = "momentum"
    batch_size: int = 64
    learning_rates: tuple[float, float] = (0.001, 10.0)
    steps: int = 1_000
    evaluate_every: int = 10
    validation_examples: int = 5_000
    norm_momentum: float = 0.9
    trials: int = 16
    seeds: int = 10
    extensions: int = 2
    sketch: bool = False

    def __post_init__(self):
        make_plain(self)
        preset(self.preset)
        self._check_arms()
        rates = self.learning_rates
        pair = isinstance(rates, tuple) and len(rates) == 2
        require("learning_rates", pair, "a pair: the lowest and the highest learning rate of the search", rates)
        for rate in rates:
            require("learning_rates", rate in RANGES["learning_rate"], RANGES["learning_rate"].words, rate)
        require("learning_rates", rates[0] < rates[1], "a lower and a higher learning rate", rates)
        require_in_ranges(
            self, "norm_momentum", "trials", "seeds", "extensions", "steps", "evaluate_every", "validation_examples"
        )
        require("sketch", isinstance(self.sketch, bool), "True or False", self.sketch)
        every = self.evaluate_every
        fits = self.steps % every == 0 and self.steps >= 4 * every
        require("steps", fits, f"a multiple of evaluate_every={every}, at least 4 of them", self.steps)
        for arm in self.arms:
            self.training(arm, Trial(rates[0], 0.0, 0.0, 1.0), self.steps, TUNING_SEED)  # checks the rest

    def _check_arms(self):
        norms = self.norms
        expected = "a tuple of different norms, one of them None, the baseline"
        require("norms", isinstance(norms, tuple), expected, norms)
        for norm in norms:
            if callable(named_and_options(norm)[0]):
                raise RecipeError("norms", "names, or names with a dict of options, so that they can be stored", norms)
        require("norms", len(set(self.arms)) == len(norms) >= 2 and BASELINE in self.arms, expected, self.arms)

    @property
    def arms(self) -> tuple[str, ...]:
        """The names of the arms, the baseline first."""
        names = [text_of(norm) for norm in self.norms]
        return tuple(sorted(names, key=lambda name: name != BASELINE))

    @property
    def is_of_small_batches(self) -> bool:
        """Whether the comparison asks what a norm does with batches of a few examples."""
        return self.batch_size < SMALL_BATCH

    @property
    def data_in_words(self) -> str:
        """The data set, and the batch where it is small.

        >>> Recipe(preset="mlp_sigmoid", data="digits", validation_examples=300, batch_size=4).data_in_words
        'digits in batches of 4'
        """
        return f"{self.data} in batches of {self.batch_size}" if self.is_of_small_batches else self.data

    @property
    def space(self) -> Space:
        """What the tuning searches before it is widened."""
        return Space(learning_rate=self.learning_rates)

    def norm_of_arm(self, arm: str) -> str | tuple[str, dict] | None:
        """The norm of an arm, with the recipe's momentum where it has moving averages."""
        norm = next(norm for norm in self.norms if text_of(norm) == arm)
        name, options = named_and_options(norm)
        if name is None or name in KERNEL_KINDS or "momentum" not in inspect.signature(KINDS[name][0]).parameters:
            return norm
        return (name, {"momentum": self.norm_momentum} | options)

    def training(self, arm: str, trial: Trial, steps: int, seed: int) -> TrainingRecipe:
        """The recipe of one run."""
        return training_recipe(
            self.preset,
            self.data,
            norm=self.norm_of_arm(arm),
            width=self.width,
            image_size=self.image_size,
            optimizer=self.optimizer,
            learning_rate=trial.learning_rate,
            warmup=round(trial.warmup * steps),
            weight_decay=trial.weight_decay,
            initial_gain=trial.initial_gain,
            batch_size=self.batch_size,
            steps=steps,
            evaluate_every=self.evaluate_every,
            validation_examples=self.validation_examples,
            seed=seed,
        )

    @property
    def hash(self) -> str:
        """Sixteen digits that differ where a field differs; a field at its default does not count."""
        defaults = Recipe(self.preset, self.data).to_dict()
        named = {"preset", "data"}
        values = self.to_dict().items()
        return hash_of({field: value for field, value in values if field in named or value != defaults[field]})

    def to_dict(self) -> dict:
        """Plain values, as JSON gives them back."""
        norms = [list(norm) if isinstance(norm, tuple) else norm for norm in self.norms]
        return dataclasses.asdict(self) | {"norms": norms, "learning_rates": list(self.learning_rates)}

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> "Recipe":
        """The recipe that `to_dict` gave."""
        norms = tuple(tuple(norm) if isinstance(norm, list) else norm for norm in values["norms"])
        return cls(**{**values, "norms": norms, "learning_rates": tuple(values["learning_rates"])})


def hash_of(values: Mapping[str, object]) -> str:
    """Sixteen digits that differ where plain values differ."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


FULLY_CONNECTED = ("linear_deep", "mlp_relu_deep", "mlp_sigmoid")
QUICK = {"trials": 4, "seeds": 3, "extensions": 0, "sketch": True}


def default_recipe(preset: str, data: str = "digits", *, quick: bool = False, **changes) -> Recipe:
    """Returns the default recipe of a preset, with any field changed.

    A changed `steps` brings along an `evaluate_every` that divides it.

    Args:
        preset: Str, as in `Recipe`.
        data: Str, as in `Recipe`. Defaults to `"digits"`.
        quick: Bool, whether to make a sketch: four trials, three seeds and no extensions. Defaults to `False`.
        **changes: Other fields of `Recipe`.

    Returns:
        A `Recipe`.

    Raises:
        RecipeError: As `Recipe` does.

    >>> default_recipe("mlp_sigmoid", steps=500).evaluate_every
    5
    """
    fields = {"steps": 1_000, "width": 0.25, "validation_examples": 300 if data == "digits" else 5_000}
    if preset in FULLY_CONNECTED:
        fields |= {"optimizer": "sgd", "batch_size": 60, "learning_rates": (0.01, 100.0), "steps": 3_000, "width": 1.0}
    fields |= (QUICK if quick else {}) | changes
    steps = fields["steps"]
    if "evaluate_every" not in changes and steps in RANGES["steps"]:
        fields["evaluate_every"] = next(
            every for every in range(max(1, steps // EVALUATIONS), 0, -1) if steps % every == 0
        )
    return Recipe(preset=preset, data=data, **fields)
