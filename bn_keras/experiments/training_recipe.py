"""What one run trains, on what and how."""

import dataclasses
import math
from collections.abc import Mapping

from bn_keras.choices.fields import RecipeError, check_lengths, make_plain, require, require_in_ranges
from bn_keras.choices.names import AUGMENTATIONS, DTYPES, OPTIMIZERS, SCHEDULES
from bn_keras.choices.ranges import RANGES
from bn_keras.models import preset
from bn_keras.models.norms import check_norm


@dataclasses.dataclass(frozen=True)
class TrainingRecipe:
    """The settings of one training run, apart from the machines that it runs on.

    Args:
        preset: Str, the network: one of `bn_keras.models.list_presets()`.
        data: Str: `"digits"`, an image classification set of tensorflow-datasets, `"folder:PATH"` or `"text:PATH"`.
        norm: Str or `None`, one of `bn_keras.models.norms()`; or a pair of a name and a dict of options. Defaults to
            `"batch"`.
        options: Dict of further arguments of the preset. Defaults to `{}`.
        width: Float that multiplies the number of units or channels of the network's hidden layers. Defaults to `1.0`.
        initial_gain: Float that multiplies the first values of all kernels. Defaults to `1.0`.
        image_size: Int, the height and width in pixels that images of a folder are resized to; `None` keeps their size.
            Defaults to `None`.
        optimizer: Str: `"sgd"`, `"momentum"` (SGD with momentum 0.9), `"adam"` or `"adamw"`. Defaults to `"momentum"`.
        learning_rate: Float, the peak of the schedule. Defaults to `0.1`.
        schedule: Str: `"constant"`, `"cosine"`, `"linear"`, `"exponential"` (to a hundredth) or `"piecewise"` (a tenth
            after half of the steps, a hundredth after three quarters). Defaults to `"constant"`.
        warmup: Int, the steps over which the learning rate rises linearly to its peak. Defaults to `0`.
        weight_decay: Float, decoupled as in Keras; biases and the scales and offsets of normalization layers do not
            decay. Defaults to `0.0`.
        clip_norm: Float, the limit of the global norm of the gradients; `None` for no limit. Defaults to `None`.
        batch_size: Int, the examples per step over all replicas of all workers. Defaults to `64`.
        accumulate: Int, the parts that each replica cuts its share of the batch into, to need less memory.
            Normalization over the batch takes its statistics from each part. Defaults to `1`.
        augment: Tuple of augmentations: `"flip"`, `"shift"`, `"rotate"`, `"zoom"`, `"contrast"`, `"brightness"`.
            Defaults to `()`.
        dtype: Str: `"float32"`, `"mixed_bfloat16"`, `"mixed_float16"` or `"float64"`. Defaults to `"float32"`.
        steps: Int, the optimizer steps, a multiple of `evaluate_every`. Defaults to `1000`.
        evaluate_every: Int, the steps between two evaluations. Defaults to `100`.
        evaluation_examples: Int, how many of the test examples an evaluation uses, from the first on; `None` for all.
            Defaults to `None`.
        validation_examples: Int, how many training examples to hold out for the evaluations, the same ones in every
            run; the run then uses the test examples at its end alone. `None` evaluates on the test examples. Defaults
            to `None`.
        target: Float in (0, 1], the accuracy at which the run ends; `None` for no target. Defaults to `None`.
        seed: Int, the seed of the initial weights, the order of the examples, the augmentations and the dropout.
            Defaults to `0`.

    Raises:
        RecipeError: A `ValueError` that names the field, the expected values and the received value.

    >>> TrainingRecipe(preset="mlp_sigmoid", data="digits", steps=100, evaluate_every=50).norm
    'batch'
    """

    preset: str
    data: str
    norm: str | tuple[str | None, dict] | None = "batch"
    options: Mapping[str, object] = dataclasses.field(default_factory=dict)
    width: float = 1.0
    initial_gain: float = 1.0
    image_size: int | None = None
    optimizer: str = "momentum"
    learning_rate: float = 0.1
    schedule: str = "constant"
    warmup: int = 0
    weight_decay: float = 0.0
    clip_norm: float | None = None
    batch_size: int = 64
    accumulate: int = 1
    augment: tuple[str, ...] = ()
    dtype: str = "float32"
    steps: int = 1_000
    evaluate_every: int = 100
    evaluation_examples: int | None = None
    validation_examples: int | None = None
    target: float | None = None
    seed: int = 0

    def __post_init__(self):
        make_plain(self)
        preset(self.preset)
        require("data", isinstance(self.data, str) and bool(self.data), "the name of a data set", self.data)
        self._check_network()
        self._check_optimizer()
        require_in_ranges(
            self, "batch_size", "accumulate", "steps", "evaluate_every", "warmup", "evaluation_examples",
            "validation_examples", "target", "seed",
        )  # fmt: skip
        check_lengths(
            steps=self.steps,
            evaluate_every=self.evaluate_every,
            warmup=self.warmup,
            batch_size=self.batch_size,
            accumulate=self.accumulate,
        )

    def _check_network(self):
        if callable(self.norm):
            raise RecipeError("norm", "a name, or a name and a dict of options, so that it can be stored", self.norm)
        check_norm(self.norm)
        known = preset(self.preset).options
        words = f"among {', '.join(known)}, the options of {self.preset!r}"
        words = words if known else f"left out: {self.preset!r} has no options"
        require("options", set(self.options) <= set(known), words, dict(self.options))
        require_in_ranges(self, "width", "initial_gain", "image_size")
        require("dtype", self.dtype in DTYPES, f"one of {', '.join(DTYPES)}", self.dtype)
        names = self.augment
        known = isinstance(names, tuple) and set(names) <= set(AUGMENTATIONS) and len(set(names)) == len(names)
        require("augment", known, f"different names of {', '.join(AUGMENTATIONS)}", names)

    def _check_optimizer(self):
        require("optimizer", self.optimizer in OPTIMIZERS, f"one of {', '.join(OPTIMIZERS)}", self.optimizer)
        require("schedule", self.schedule in SCHEDULES, f"one of {', '.join(SCHEDULES)}", self.schedule)
        require_in_ranges(self, "learning_rate", "weight_decay", "clip_norm")

    def to_dict(self) -> dict:
        """Plain values, as JSON gives them back."""
        norm = list(self.norm) if isinstance(self.norm, tuple) else self.norm
        return dataclasses.asdict(self) | {"norm": norm, "options": dict(self.options), "augment": list(self.augment)}

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> "TrainingRecipe":
        """The recipe that `to_dict` gave."""
        return cls(**values)


TRAINING_DEFAULTS = {
    "mlp_sigmoid": {"optimizer": "sgd", "learning_rate": 1.0, "batch_size": 60},
    "transformer_small": {"norm": "layer", "optimizer": "adamw", "learning_rate": 1e-3, "clip_norm": 1.0},
}


def training_recipe(preset: str, data: str = "digits", **changes) -> TrainingRecipe:
    """Returns the default recipe of a preset, with any field changed.

    If `changes` has `steps` and no `evaluate_every`, the recipe gets an `evaluate_every` that divides the steps.

    Args:
        preset: Str, one of `bn_keras.models.list_presets()`.
        data: Str, the name of a data set, as in `bn_keras.experiments.load`. Defaults to `"digits"`.
        **changes: Other fields of `TrainingRecipe`.

    Returns:
        A `TrainingRecipe`.

    Raises:
        RecipeError: For a field out of range.
        ValueError, TypeError: For an unknown preset, and for an unknown field.

    >>> training_recipe("mlp_sigmoid", steps=500).evaluate_every
    50
    """
    fields = TRAINING_DEFAULTS.get(preset, {}) | changes
    steps = fields.get("steps")
    if steps in RANGES["steps"] and "evaluate_every" not in fields:
        fields["evaluate_every"] = math.gcd(int(steps), max(1, int(steps) // 10))
    return TrainingRecipe(preset=preset, data=data, **fields)
