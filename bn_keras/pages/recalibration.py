"""The page of recalibration: how far running statistics are from those of the data.

It compares `recalibrate`, PyTorch's `update_bn` and moving averages on a small network trained on scikit-learn's
digits. The reference is a float64 copy of the network, which gets all examples as one batch. Every figure is the worst
over all channels of a layer.
"""

import dataclasses
import functools
import platform

import keras
import numpy as np
import tensorflow as tf

from bn_keras.experiments.data import load
from bn_keras.lab.machine import installed, versions
from bn_keras.lab.markdown import facts, table
from bn_keras.layers import BatchNorm
from bn_keras.pages.accuracy import OPTIONAL
from bn_keras.pages.accuracy_peers import replicas
from bn_keras.pages.registry import Request
from bn_keras.surgery.convert import to_keras, to_local, to_sync
from bn_keras.surgery.recalibrate import recalibrate

EPSILON, MOMENTUM, FILTERS = 1e-3, 0.99, 16
LAYERS = {"norm_1": "first layer", "norm_3": "third layer"}
TRAINING_BATCH, EVEN = 64, 50


@dataclasses.dataclass(frozen=True)
class Settings:
    """How many digits are used, in batches of which sizes, and the epochs of training."""

    examples: int = 1000
    batches: tuple[int, ...] = (64, 36)
    epochs: int = 10


QUICK = Settings(examples=102, batches=(20,), epochs=1)


def network(norm):
    """Three times convolution, batch norm and ReLU, and a classifier."""
    layers = [keras.Input((8, 8, 1))]
    for i in (1, 2, 3):
        layers += [keras.layers.Conv2D(FILTERS, 3, padding="same", name=f"conv_{i}")]
        layers += [norm(momentum=MOMENTUM, epsilon=EPSILON, name=f"norm_{i}"), keras.layers.ReLU()]
    return keras.Sequential([*layers, keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(10)])


def trained(norm, x, y, epochs):
    keras.utils.set_random_seed(0)
    model = network(norm)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(x, y, batch_size=TRAINING_BATCH, epochs=epochs, verbose=0)
    return model


def inputs_of_norms(model, x):
    """What each batch norm is given, in float64, with those before it normalizing by the moments of `x`."""
    inputs, x = {}, tf.constant(x, tf.float64)
    for layer in model.layers:
        if "norm" in layer.name:
            inputs[layer.name] = values = x.numpy()
            normalized = (values - values.mean((0, 1, 2))) / np.sqrt(values.var((0, 1, 2)) + EPSILON)
            x = tf.constant(normalized * layer.gamma.numpy() + layer.beta.numpy())
        else:
            double = type(layer).from_config(layer.get_config() | {"dtype": "float64"})
            double.build(x.shape)
            double.set_weights(layer.get_weights())
            x = double(x)
    return inputs


def moments(batches):
    values = np.concatenate(batches)
    return values.mean((0, 1, 2)), values.var((0, 1, 2))


def of_the_whole(model, x):
    """The truth: mean and variance of what each layer gets in inference by the statistics of all the data."""
    return {name: moments([values]) for name, values in inputs_of_norms(model, x).items()}


def of_one_pass(model, batches):
    """What a single pass can see: each batch normalized by its own moments, and all elements counted alike."""
    inputs = [inputs_of_norms(model, batch) for batch in batches]
    return {name: moments([each[name] for each in inputs]) for name in inputs[0]}


def errors(statistics, truth):
    """Of the mean in deviations, and of the variance, for each layer of the table."""
    figures = []
    for name in LAYERS:
        (mean, variance), (true_mean, true_variance) = statistics[name], truth[name]
        figures += [np.abs(mean - true_mean) / np.sqrt(true_variance), np.abs(variance / true_variance - 1)]
    return [float(each.max()) for each in figures]


def statistics_of(model):
    norms = {name: model.get_layer(name) for name in LAYERS}
    return {name: (norm.moving_mean.numpy(), norm.moving_variance.numpy()) for name, norm in norms.items()}


def batches_of(x, size):
    return [x[i : i + size] for i in range(0, len(x), size)]


def recalibrated(model, x, size, strategy, **arguments):
    data = tf.data.Dataset.from_tensor_slices(x).batch(size)
    with strategy.scope():
        return statistics_of(recalibrate(model, data, report=None, **arguments))


def averaged(model, x, size, epochs):
    """Moving averages from the start, over batches in training mode, with all weights as they are."""
    for layer in model.layers:
        if "norm" in layer.name:
            layer.moving_mean.assign(np.zeros(FILTERS))
            layer.moving_variance.assign(np.ones(FILTERS))
    step = tf.function(lambda x: model(x, training=True), reduce_retracing=True)
    for _ in range(epochs):
        for batch in batches_of(x, size):
            step(tf.constant(batch))
    return statistics_of(model)


def by_torch(model, x, size):
    """`torch.optim.swa_utils.update_bn` on the same network with the same weights."""
    import torch

    parts = []
    for i in (1, 2, 3):
        kernel, bias = model.get_layer(f"conv_{i}").get_weights()
        conv, norm = torch.nn.Conv2d(kernel.shape[2], FILTERS, 3, padding=1), torch.nn.BatchNorm2d(FILTERS, eps=EPSILON)
        gamma, beta, *_ = model.get_layer(f"norm_{i}").get_weights()
        kernel = kernel.transpose(3, 2, 0, 1)
        with torch.no_grad():
            for theirs, ours in zip([*conv.parameters(), *norm.parameters()], [kernel, bias, gamma, beta], strict=True):
                theirs.copy_(torch.from_numpy(ours))
        parts += [conv, norm, torch.nn.ReLU()]
    network = torch.nn.Sequential(*parts)
    loader = [torch.from_numpy(batch.transpose(0, 3, 1, 2)) for batch in batches_of(x, size)]
    torch.optim.swa_utils.update_bn(loader, network)
    norms = {f"norm_{i}": network[3 * i - 2] for i in (1, 2, 3)}
    return {name: (norms[name].running_mean.numpy(), norms[name].running_var.numpy()) for name in LAYERS}


def single_passes(model, x, size, strategies):
    """The ways that go through the data once, by name: functions."""
    ways = {
        f"`recalibrate`, batches of {size}{where}": functools.partial(recalibrated, replica_model, x, size, strategy)
        for where, (strategy, replica_model) in strategies.items()
    }
    if installed("torch"):
        ways[f"PyTorch `update_bn`, batches of {size}"] = functools.partial(by_torch, model, x, size)
    return ways


def all_ways(model, x, sizes, strategies):
    """And those that take the exact statistics, or averages."""
    ways = {}
    for size in sizes:
        for where, (strategy, replica_model) in strategies.items():
            name = f"`recalibrate(…, sequential=True)`, batches of {size}{where}"
            ways[name] = functools.partial(recalibrated, replica_model, x, size, strategy, sequential=True)
    for size in sizes:
        ways |= single_passes(model, x, size, strategies)
    for epochs in (1, 10):
        for name, copy in (("bn_keras", to_local), ("Keras", to_keras)):
            text = f"moving average of {name}, {epochs} epoch{'s' * (epochs > 1)} of batches of {sizes[0]}"
            ways[text] = functools.partial(averaged, copy(model, report=None), x, sizes[0], epochs)
    return ways


def measure(ways, truth, watcher):
    """`{name: figures}`."""
    watcher.begin("way", len(ways))
    results = {}
    for name, way in ways.items():
        watcher.item_begins(name)
        results[name] = errors(way(), truth)
        watcher.item_ends(", ".join(f"{each:.1e}" for each in results[name]))
    return results


def table_of_errors(results):
    columns = ["", *(f"{layer}, {figure}" for layer in LAYERS.values() for figure in ("mean", "variance"))]
    rows = [[name, *(f"{each:.1e}" for each in figures)] for name, figures in results.items()]
    return table(columns, rows, left=1)


def text(request: Request) -> str:
    """The page; it must be the first use of TensorFlow in the process, as it makes logical devices."""
    settings, watcher = QUICK if request.quick else Settings(), request.watcher
    two, sizes = replicas(), settings.batches
    digits = load("digits")
    x, y = (each[: settings.examples] for each in (digits.train.inputs / np.float32(16), digits.train.labels))
    ours, theirs = (trained(norm, x, y, settings.epochs) for norm in (BatchNorm, keras.layers.BatchNormalization))
    strategies = {"": (tf.distribute.get_strategy(), ours), ", 2 replicas": (two, to_sync(ours, report=None))}
    exact = measure(all_ways(ours, x, sizes, strategies), of_the_whole(ours, x), watcher)
    for name, model in (("bn_keras", ours), ("Keras", theirs)):
        exact[f"what training left, {name}"] = errors(statistics_of(model), of_the_whole(model, x))
    single = {}
    for size in [*sizes, EVEN]:
        ways = single_passes(ours, x, size, strategies)
        single |= measure(ways, of_one_pass(ours, batches_of(x, size)), watcher)
    return f"""# How exact recalibrated statistics are

{introduction(settings, len(x))}
## From what the layers get in inference

{INFERENCE}
{table_of_errors(exact)}

## From what one pass can see

{ONE_PASS.format(even=EVEN)}
{table_of_errors(single)}

---
The seeds are fixed. Two replicas are two logical processors, each with half of every batch and synchronized batch norm.
Versions: {facts(versions(*OPTIONAL))}, Python {platform.python_version()} on {platform.machine()}.{omissions()}
"""


def introduction(settings, examples):
    last = " and ".join(f"{examples % size or size} instead of {size}" for size in settings.batches)
    return INTRODUCTION.format(
        epochs=settings.epochs, examples=examples, batch=TRAINING_BATCH, momentum=MOMENTUM, channels=FILTERS, last=last
    )


def omissions():
    return "" if installed("torch") else "\nLeft out, because it is not installed: PyTorch (`pip install torch`)."


INTRODUCTION = """\
A network of three blocks of convolution, batch norm and ReLU trains for {epochs} epochs on {examples:,} of
scikit-learn's 8×8 digits, in batches of {batch} with a momentum of {momentum}. Then its running statistics are computed
anew over the same images, with fixed weights. Figures are the worst of {channels} channels: |μ − μ*| / σ* for the mean,
|σ²/σ*² − 1| for the variance. The last batch of an epoch is smaller: {last}.
"""

INFERENCE = """\
The reference is a float64 copy of the network that gets all images as one batch. `sequential=True` measures layer after
layer. In one pass, each batch is normalized by its own moments, as in the paper and in PyTorch's `update_bn`: that is
exact for the first layer, but the deeper layers see other inputs than in inference. PyTorch counts all batches alike,
whatever their sizes. The moving averages start from 0 and 1 and see the same batches every epoch, with fixed weights.
"What training left" are the statistics after training, which moved the weights meanwhile.
"""

ONE_PASS = """\
The reference is the same float64 copy with each batch normalized by its own moments: the mean and variance of all
inputs that a layer gets. Batches of {even} all have one size. PyTorch still differs on them, because it averages the
unbiased variances within batches and leaves out the variance between batches.
"""
