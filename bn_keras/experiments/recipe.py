"""What is trained, on what, how long, how often and at which learning rates."""

import dataclasses
import math

from bn_keras.experiments.fields import (
    RecipeError,
    is_int,
    is_real,
    make_plain,
    require,
    require_int,
    require_rate,
    require_seed,
)
from bn_keras.experiments.optimizers import OPTIMIZERS
from bn_keras.experiments.training_recipe import TrainingRecipe
from bn_keras.models import preset


@dataclasses.dataclass(frozen=True)
class Recipe:
    """One comparison: every arm is trained at every learning rate with every seed.

    Args:
        preset: The network, one of `bn_keras.models.list_presets()`.
        data: The name of a data set of images, as in `bn_keras.experiments.load`.
        width: Multiplies the number of units or channels of the network's hidden layers.
        optimizer: `"sgd"`, `"momentum"` (SGD with momentum 0.9), `"adam"` or `"adamw"`.
        batch_size: Examples per step.
        learning_rates: Those that both arms are trained at.
        steps: Optimizer steps of each run, a multiple of `evaluate_every`.
        evaluate_every: Steps between two evaluations; each such interval is one compiled call.
        norm_momentum: The `momentum` of the moving averages in the arm with batch norm. Keras'
            0.99 needs hundreds of steps to follow a network that learns quickly; 0.9 needs tens.
        evaluation_examples: How many of the test images an evaluation uses, from the first
            on; `None` for all.
        seeds: One run each; a seed sets the initial weights and the order of the examples,
            both the same in all arms.

    Raises:
        RecipeError: A `ValueError` that names the field, what was expected and what came.

    >>> Recipe(preset="mlp_sigmoid", data="digits", learning_rates=(0.1,), steps=100,
    ...        evaluate_every=50, seeds=(0,)).optimizer
    'sgd'
    """

    preset: str
    data: str
    width: float = 1.0
    optimizer: str = "sgd"
    batch_size: int = 60
    learning_rates: tuple[float, ...] = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
    steps: int = 10_000
    evaluate_every: int = 100
    evaluation_examples: int | None = None
    norm_momentum: float = 0.9
    seeds: tuple[int, ...] = (0, 1, 2)

    def __post_init__(self):
        make_plain(self)
        preset(self.preset)
        for name in ("learning_rates", "seeds"):
            value = getattr(self, name)
            if not isinstance(value, tuple) or not value or len(set(value)) < len(value):
                raise RecipeError(name, "one or more different numbers", value)
        require("data", isinstance(self.data, str) and self.data, "the name of a data set", self.data)
        require("optimizer", self.optimizer in OPTIMIZERS, f"one of {', '.join(OPTIMIZERS)}", self.optimizer)
        momentum = self.norm_momentum
        require("norm_momentum", is_real(momentum) and 0 <= momentum <= 1, "a number in [0, 1]", momentum)
        require("width", is_real(self.width) and 0 < self.width <= 16, "a number in (0, 16]", self.width)
        for rate in self.learning_rates:
            require_rate("learning_rates", rate)
        for seed in self.seeds:
            require_seed("seeds", seed)
        for name, least in (("batch_size", 2), ("steps", 1), ("evaluate_every", 1)):
            require_int(self, name, least)
        if self.evaluation_examples is not None:
            require_int(self, "evaluation_examples", 1)
        if self.steps % self.evaluate_every:
            expected = f"a multiple of evaluate_every={self.evaluate_every}"
            raise RecipeError("steps", expected, self.steps)

    def training(self, arm: str) -> TrainingRecipe:
        """The recipe of the runs of an arm, `"none"` or `"batch"`; a run brings its own learning rate and seed."""
        return TrainingRecipe(
            preset=self.preset,
            data=self.data,
            norm=None if arm == "none" else (arm, {"momentum": self.norm_momentum}),
            width=self.width,
            optimizer=self.optimizer,
            learning_rate=self.learning_rates[0],
            batch_size=self.batch_size,
            steps=self.steps,
            evaluate_every=self.evaluate_every,
            evaluation_examples=self.evaluation_examples,
            seed=self.seeds[0],
        )

    def to_dict(self):
        """Plain values, as JSON gives them back."""
        lists = {"learning_rates": list(self.learning_rates), "seeds": list(self.seeds)}
        return dataclasses.asdict(self) | lists


# Fully connected networks have the paper's recipe, the others one for images.
FULLY_CONNECTED = ("linear_deep", "mlp_relu_deep", "mlp_sigmoid")
IMAGES = {
    "optimizer": "momentum",
    "batch_size": 64,
    "learning_rates": (0.003, 0.01, 0.03, 0.1, 0.3),
    "width": 0.25,
    "steps": 1_000,
    "evaluate_every": 25,
    "evaluation_examples": 2_000,
}


def default_recipe(preset, data="digits", **changes):
    """The recipe of a preset's own, with any field changed.

    A changed `steps` brings along an `evaluate_every` that divides it.

    >>> default_recipe("mlp_sigmoid", steps=500).evaluate_every
    5
    """
    fields = ({} if preset in FULLY_CONNECTED else IMAGES) | changes
    if "steps" in changes and "evaluate_every" not in changes and is_int(changes["steps"]):
        fields["evaluate_every"] = max(1, math.gcd(changes["steps"], max(1, changes["steps"] // 100)))
    return Recipe(preset=preset, data=data, **fields)
