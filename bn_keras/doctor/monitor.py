"""A Keras callback that writes the gap of each batch norm while a model trains."""

import csv
import pathlib
import typing

import keras
import tensorflow as tf

from bn_keras.doctor.data import batches_of, refuse_list_for_one_input
from bn_keras.doctor.gaps import LayerGap, gap_of
from bn_keras.doctor.measuring import measure, norms_of
from bn_keras.layers.checks import checked_count

COLUMNS = ("epoch", "step", "layer", "mean_gap", "mean_noise", "variance_ratio", "batch_noise")


class NormalizationMonitor(keras.callbacks.Callback):
    r"""Writes how far the moving statistics of each batch norm are from the data, while a model trains.

    The callback runs the same batches through the model as `predict` does, at the end of each epoch or every
    `every_steps` steps. For each batch norm with m channels it compares what the layer gets with its moving statistics:

    $$ \text{gap} = \sqrt{\frac1m \sum_c \frac{(\text{moving mean}_c - \mu_c)^2}{\sigma^2_c + \epsilon}} $$

    In inference a gap of one layer reaches the layers after it; `examine` tells them apart. A gap that grows says that
    the statistics lag behind the weights: lower `momentum`, or `recalibrate` after the training. `history` is a dict
    from the name of a layer to its list of `LayerGap`, one for each measurement. The model does not change. Under a
    `tf.distribute` strategy with several workers the chief alone measures and writes.

    Args:
        data: Array of inputs; pair `(inputs, labels)` of arrays, of which the labels are not used; dict or list of
            arrays for several inputs; or batches, as for `examine`.
        log_dir: Str or path of a directory for TensorBoard, or `None`. It gets the scalars `norm_gap/LAYER` and
            `norm_variance_ratio/LAYER`. Defaults to `None`.
        filename: Str or path of a CSV file that gets a line per layer and measurement, or `None`. Each `fit` starts the
            file anew. `epoch` and `step` count those that are done. Defaults to `None`.
        every_steps: Int ≥ 1, the number of training steps between two measurements, or `None` to measure at the end of
            each epoch. With `steps_per_execution`, the first call that reaches the step measures. Defaults to `None`.
        batch_size: Int ≥ 1, the number of examples in a batch that is cut from arrays. Defaults to `32`.
        steps: Int ≥ 1, the number of batches to read. They stay in memory. Defaults to `4`.

    Raises:
        TypeError, ValueError: For data of another kind or numbers out of range, when the callback is made; for a model
            without batch norm, when the training begins.

    References:
        [Ioffe and Szegedy 2015](https://arxiv.org/abs/1502.03167), section 3.1.

    Example:

    >>> from bn_keras import BatchNorm
    >>> x = np.random.default_rng(0).normal(3, 2, (128, 4)).astype("float32")
    >>> model = keras.Sequential([keras.Input((4,)), BatchNorm(momentum=0.5, name="norm"), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> monitor = NormalizationMonitor(x)
    >>> _ = model.fit(x, x[:, :1], epochs=3, callbacks=[monitor], verbose=0)
    >>> first, *_, last = monitor.history["norm"]
    >>> last.mean_gap < first.mean_gap
    True
    """

    def __init__(
        self,
        data: typing.Any,
        *,
        log_dir: str | pathlib.Path | None = None,
        filename: str | pathlib.Path | None = None,
        every_steps: int | None = None,
        batch_size: int = 32,
        steps: int = 4,
    ):
        super().__init__()
        if every_steps is not None:
            checked_count("every_steps", every_steps)
        self.batches = batches_of(data, batch_size, steps)
        self.log_dir, self.filename, self.every_steps = log_dir, filename, every_steps
        self.history: dict[str, list[LayerGap]] = {}
        self.epoch = self.step = self.begun = 0
        self.writer: typing.Any = None

    def on_train_begin(self, logs=None):
        if not norms_of(self.model):
            raise ValueError(
                f"The model {self.model.name!r} has no batch norm that is built: there is nothing to monitor. Remove "
                "NormalizationMonitor from `callbacks`, or build the model before `fit`."
            )
        refuse_list_for_one_input(self.model, self.batches[0].x)
        self.history, self.epoch, self.step, self.begun = {}, 0, 0, 0
        if self.filename is not None and is_chief(self.strategy()):
            with open(self.filename, "w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerow(COLUMNS)
        if self.log_dir is not None and is_chief(self.strategy()):
            self.writer = tf.summary.create_file_writer(str(self.log_dir))

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch, self.begun = epoch, self.step

    def on_train_batch_end(self, batch, logs=None):
        # With `steps_per_execution` a call is several steps, of which the last call of an epoch may count too many.
        done = min(batch + 1, (self.params or {}).get("steps") or batch + 1)
        before, self.step = self.step, self.begun + done
        if self.every_steps is not None and self.step // self.every_steps > before // self.every_steps:
            self.record()

    def on_epoch_end(self, epoch, logs=None):
        self.epoch = epoch + 1
        if self.every_steps is None:
            self.record()

    def on_train_end(self, logs=None):
        if self.writer is not None:
            self.writer.close()
            self.writer = None

    def record(self) -> None:
        """Measures the gaps now and writes them."""
        if not is_chief(self.strategy()):
            return
        found = measure(self.model, self.batches, "inference")
        sizes = [batch.size for batch in self.batches]
        gaps = [gap_of(layer, found, sizes) for layer in norms_of(self.model) if layer in found.moments]
        for gap in gaps:
            self.history.setdefault(gap.layer, []).append(gap)
        if self.filename is not None:
            with open(self.filename, "a", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows(self.line(gap) for gap in gaps)
        if self.writer is not None:
            with self.writer.as_default(step=self.step):
                for gap in gaps:
                    tf.summary.scalar(f"norm_gap/{gap.layer}", gap.mean_gap)
                    tf.summary.scalar(f"norm_variance_ratio/{gap.layer}", gap.variance_ratio)
            self.writer.flush()

    def strategy(self) -> tf.distribute.Strategy:
        return getattr(self.model, "distribute_strategy", None) or tf.distribute.get_strategy()

    def line(self, gap: LayerGap) -> list:
        numbers = (gap.mean_gap, gap.mean_noise, gap.variance_ratio, gap.batch_noise)
        return [self.epoch, self.step, gap.layer, *(f"{number:.6g}" for number in numbers)]


def is_chief(strategy) -> bool:
    """Whether this process writes files: there is one worker, or this is the first one."""
    resolver: typing.Any = getattr(strategy, "cluster_resolver", None)
    task = getattr(resolver, "task_type", None)
    if not task:
        return True
    chiefs = {"chief", "master"} & set(resolver.cluster_spec().jobs)
    return task in chiefs if chiefs else (task, resolver.task_id) == ("worker", 0)
