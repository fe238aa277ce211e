"""One training loop: one device, several replicas or several workers, data in memory or streamed."""

import dataclasses
import math
import time
from collections.abc import Callable, Iterator

import keras
import numpy as np
import tensorflow as tf

from bn_keras.choices.fields import RecipeError
from bn_keras.experiments.augmentation import make_augmentation
from bn_keras.experiments.data import Data
from bn_keras.experiments.data.arrays import ArraySplit
from bn_keras.experiments.data.stream import StreamSplit
from bn_keras.experiments.feed import make_feed
from bn_keras.experiments.memory import check_batch_memory
from bn_keras.experiments.network import build_network, dtype_policy
from bn_keras.experiments.optimizers import make_optimizer, make_schedule
from bn_keras.experiments.steps import Parts, compile_count, compile_interval
from bn_keras.experiments.training_recipe import TrainingRecipe

EVALUATION_BATCH = 500
EVALUATION_VALUES = 2**25  # of the inputs of a batch: large images come in smaller batches
# A call of the compiled interval cannot be interrupted, so a long interval is several calls.
STEPS_PER_CALL = 100
# A random state starts with seed + index · 2³² + replica · 2⁴⁸, so that no two layers and replicas share one.
LAYER_STRIDE, REPLICA_STRIDE = 2**32, 2**48


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Where a run stands after `step` steps.

    Args:
        step: The number of steps.
        seconds: The time spent in training steps so far, without evaluations and tracing.
        loss: The mean training loss since the evaluation before; `None` before the first step.
        accuracy: The share of right answers on the validation examples, or on the test examples where the recipe holds
            out no others; in inference mode.
    """

    step: int
    seconds: float
    loss: float | None
    accuracy: float


class Trainer:
    """Trains one network, each time from its first step, with one compiled step.

    Args:
        recipe: A `TrainingRecipe`.
        data: A `Data`, which `load` returns.
        strategy: A strategy of `tf.distribute`; `None` for one device. Defaults to `None`.
        make_network: Function that makes a model from the recipe and the data. Defaults to `build_network`, which
            builds the recipe's preset.

    Raises:
        RecipeError: If the recipe does not fit the data or the number of replicas.

    >>> from bn_keras.experiments import load, training_recipe
    >>> trainer = Trainer(training_recipe("mlp_sigmoid", steps=20, evaluate_every=10), load("digits"))
    >>> [evaluation.step for evaluation in trainer.run(seed=1)]
    [0, 10, 20]
    """

    def __init__(
        self,
        recipe: TrainingRecipe,
        data: Data,
        strategy: tf.distribute.Strategy | None = None,
        make_network: Callable[[TrainingRecipe, Data], keras.Model] = build_network,
    ):
        self.recipe, self.make_network = recipe, make_network
        self.data = data if recipe.validation_examples is None else data.with_validation(recipe.validation_examples)
        self.strategy = strategy or tf.distribute.get_strategy()
        check_batch(recipe, self.strategy.num_replicas_in_sync)
        check_augmentation(recipe, self.data)
        with self.strategy.scope(), dtype_policy(recipe.dtype):
            self.model = make_network(recipe, self.data)
            check_batch_memory(recipe, self.model, self.strategy)
            self.schedule = make_schedule(recipe.schedule, recipe.steps, recipe.warmup)
            self.optimizer = make_optimizer(
                recipe.optimizer,
                self.schedule,
                self.model,
                recipe.weight_decay,
                scale_loss=recipe.dtype == "mixed_float16",
            )
            with dtype_policy("float32"):
                self.augmentation = make_augmentation(recipe.augment, data.input_shape, data.largest)
        self.first_state = [variable.numpy() for variable in self.optimizer.variables]
        self.feed = make_feed(self.data.train, recipe.batch_size, self.strategy)
        parts = Parts(self.model, self.optimizer, self.augmentation, self.strategy, recipe)
        self.train_interval = compile_interval(parts, self.feed)
        self.count_right = compile_count(self.model)
        self.spread_random_states = compile_spread(self.random_states(), self.strategy)

    def run(self, learning_rate: float | None = None, seed: int | None = None) -> Iterator[Evaluation]:
        """Yields an `Evaluation` before the first step and after each interval.

        The run ends early when the loss is no longer finite; the last evaluation tells by its loss.

        Args:
            learning_rate: The peak of the schedule. Default: that of the recipe.
            seed: Default: that of the recipe.
        """
        self.start(learning_rate, seed)
        yield Evaluation(0, 0.0, None, self.evaluate())
        yield from self.resume(0, 0.0)

    def start(self, learning_rate: float | None = None, seed: int | None = None) -> None:
        """Sets the first weights, an optimizer that knows nothing, and the first batch."""
        recipe = self.recipe
        self.seed = recipe.seed if seed is None else seed
        keras.utils.set_random_seed(self.seed)
        with dtype_policy(recipe.dtype):
            weights = first_weights(recipe, self.data, self.make_network)
        # Steps for nothing, as no run shall be charged for compilation: the first call traces,
        # and setting a seed makes TensorFlow forget what it had compiled.
        self.feed.start(self.seed, 0)
        self.train_interval(self.feed.draw(1), tf.constant(1))
        self.model.set_weights(weights)
        for variable, value in zip(self.optimizer.variables, self.first_state, strict=True):
            variable.assign(value)
        self.schedule.peak.assign(recipe.learning_rate if learning_rate is None else learning_rate)
        for index, state in enumerate(self.random_states()):
            state.assign([self.seed + index * LAYER_STRIDE, 0])
        self.begin_at(0)

    def begin_at(self, step: int) -> None:
        """Continues with the batch of a step; the weights and the other states are those of that step already."""
        self.feed.start(self.seed, step)
        if self.strategy.num_replicas_in_sync > 1:
            self.spread_random_states()

    def random_states(self) -> list[keras.Variable]:
        """The states of the random generators of dropout and augmentation."""
        augmentation = self.augmentation.variables if self.augmentation else []
        return [variable for variable in [*self.model.variables, *augmentation] if is_random_state(variable)]

    def resume(self, step: int, seconds: float, watch=lambda share: None) -> Iterator[Evaluation]:
        """Yields an `Evaluation` after each interval from a step on.

        Args:
            step: The steps that are done.
            seconds: The seconds that they took.
            watch: Called with the share of the interval that is done, in [0, 1].
        """
        recipe = self.recipe
        while step < recipe.steps:
            total, done = 0.0, 0
            while done < recipe.evaluate_every:
                count = min(STEPS_PER_CALL, recipe.evaluate_every - done)
                loss, spent = self.advance(count)
                total, seconds, done = total + loss, seconds + spent, done + count
                watch(done / recipe.evaluate_every)
            step += done
            loss = total / done
            yield Evaluation(step, seconds, loss, self.evaluate())
            if not math.isfinite(loss):
                return

    def advance(self, steps: int) -> tuple[float, float]:
        """Trains for a number of steps in one compiled call; returns the sum of the losses and the seconds."""
        batches = self.feed.draw(steps)
        started = time.perf_counter()
        return float(self.train_interval(batches, tf.constant(steps))), time.perf_counter() - started

    def evaluate(self, split: ArraySplit | StreamSplit | None = None) -> float:
        """The share of right answers on a split, of which the first `evaluation_examples` count.

        Args:
            split: Default: the validation examples, or the test examples where there are none.
        """
        right, count = 0, 0
        for inputs, labels in self.evaluation_batches(split or self.data.validation or self.data.test):
            right += int(self.count_right(inputs, labels))
            count += int(np.prod(labels.shape))
        return right / count

    def evaluation_batches(self, split: ArraySplit | StreamSplit):
        """The examples of a split that count, in batches."""
        count = min(self.recipe.evaluation_examples or split.examples, split.examples)
        size = max(1, min(EVALUATION_BATCH, EVALUATION_VALUES // math.prod(self.data.input_shape)))
        if split.inputs is None:
            yield from split.once(size).unbatch().take(count).batch(size)
            return
        for start in range(0, count, size):
            own = slice(start, min(start + size, count))
            yield tf.constant(split.inputs[own]), tf.constant(split.labels[own])


NORMS_OF_KERNELS = ("g", "depthwise_g", "pointwise_g")


def first_weights(
    recipe: TrainingRecipe, data: Data, make_network: Callable[[TrainingRecipe, Data], keras.Model] = build_network
) -> list[np.ndarray]:
    """The weights of a new network, with the recipe's gain on its kernels.

    The size of a kernel within `WeightNorm` is that of its `g`.
    """
    model = make_network(recipe, data)
    kernels = [weight.name.endswith("kernel") or weight.name in NORMS_OF_KERNELS for weight in model.weights]
    if recipe.initial_gain != 1 and not any(kernels):
        raise RecipeError("initial_gain", f"1 for {recipe.preset!r}, which has no kernels", recipe.initial_gain)
    values = zip(model.get_weights(), kernels, strict=True)
    return [value * np.asarray(recipe.initial_gain, value.dtype) if kernel else value for value, kernel in values]


def compile_spread(states: list[keras.Variable], strategy: tf.distribute.Strategy) -> Callable[[], None]:
    """A function that gives each replica random states of its own; Keras gives all replicas the same."""

    def spread():
        replica = tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group, tf.int64)
        for state in states:
            own = state.value[0] % REPLICA_STRIDE + replica * REPLICA_STRIDE
            state.value.assign([own, state.value[1]])

    return tf.function(lambda: strategy.run(spread))


def is_random_state(variable: keras.Variable) -> bool:
    """Whether a variable is the state of a `keras.random.SeedGenerator`."""
    return variable.name == "seed_generator_state"


def check_batch(recipe: TrainingRecipe, replicas: int) -> None:
    """Requires two examples or more, and the same number, for each part of each replica."""
    parts = replicas * recipe.accumulate
    if recipe.batch_size % parts or recipe.batch_size < 2 * parts:
        expected = f"a multiple of {parts} (replicas={replicas} × accumulate={recipe.accumulate}), at least {2 * parts}"
        raise RecipeError("batch_size", expected, recipe.batch_size)
    if replicas > 1 and recipe.dtype == "mixed_float16":
        raise RecipeError("dtype", "mixed_bfloat16 or float32 on several replicas", recipe.dtype)


def check_augmentation(recipe: TrainingRecipe, data: Data) -> None:
    """Requires images for augmentation."""
    if recipe.augment and len(data.input_shape) != 3:
        raise RecipeError("augment", f"empty for {data.name!r}, which has no images", recipe.augment)
