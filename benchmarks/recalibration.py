"""How near batch norm's statistics come to those of the data: recalibrated, by PyTorch, and as moving averages.

    python -m benchmarks.recalibration [--out docs/recalibration.md] [--batch 64 --batch 37] [--examples 1000]

The network is small and trained on scikit-learn's digits. The truth is its float64 copy, which gets all examples as
one batch. Every figure is the worst over all channels of a layer.
"""

import argparse
import functools
import pathlib
import platform
import sys

import keras
import numpy as np
import tensorflow as tf

from benchmarks.accuracy import versions
from benchmarks.accuracy_peers import found, replicas
from bn_keras import BatchNorm
from bn_keras.experiments.data import load
from bn_keras.surgery.convert import to_keras, to_local, to_sync
from bn_keras.surgery.recalibrate import recalibrate

EPSILON, MOMENTUM, FILTERS = 1e-3, 0.99, 16
LAYERS = {"norm_1": "first layer", "norm_3": "third layer"}
EXAMPLES, BATCHES, EPOCHS = 1000, [64, 37], 10
EVEN = 50


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
    model.fit(x, y, batch_size=BATCHES[0], epochs=epochs, verbose=0)
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
        f"`recalibrate`, batches of {size}{where}": functools.partial(recalibrated, given, x, size, strategy)
        for where, (strategy, given) in strategies.items()
    }
    if found("torch"):
        ways[f"PyTorch `update_bn`, batches of {size}"] = functools.partial(by_torch, model, x, size)
    return ways


def all_ways(model, x, sizes, strategies):
    """And those that take the exact statistics, or averages."""
    ways = {}
    for size in sizes:
        for where, (strategy, given) in strategies.items():
            name = f"`recalibrate(…, sequential=True)`, batches of {size}{where}"
            ways[name] = functools.partial(recalibrated, given, x, size, strategy, sequential=True)
    for size in sizes:
        ways |= single_passes(model, x, size, strategies)
    for epochs in (1, 10):
        for name, copy in (("bn_keras", to_local), ("Keras", to_keras)):
            text = f"moving average of {name}, {epochs} epoch{'s' * (epochs > 1)} of batches of {sizes[0]}"
            ways[text] = functools.partial(averaged, copy(model), x, sizes[0], epochs)
    return ways


def measured(ways, truth):
    """`{name: figures}`."""
    results = {}
    for name, way in ways.items():
        print(name, file=sys.stderr, flush=True)
        results[name] = errors(way(), truth)
    return results


def table(results):
    columns = [f"{layer}, {figure}" for layer in LAYERS.values() for figure in ("mean", "variance")]
    rows = [["", *columns], ["---", *["---:"] * len(columns)]]
    rows += [[name, *(f"{each:.1e}" for each in figures)] for name, figures in results.items()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def page(arguments):
    """The whole page, as Markdown."""
    two, sizes = replicas(), arguments.batch
    digits = load("digits")
    x, y = (each[: arguments.examples] for each in (digits.train_images / np.float32(16), digits.train_labels))
    ours, theirs = (trained(norm, x, y, arguments.epochs) for norm in (BatchNorm, keras.layers.BatchNormalization))
    strategies = {"": (tf.distribute.get_strategy(), ours), ", 2 replicas": (two, to_sync(ours))}
    exact = measured(all_ways(ours, x, sizes, strategies), of_the_whole(ours, x))
    for name, model in (("bn_keras", ours), ("Keras", theirs)):
        exact[f"what training left, {name}"] = errors(statistics_of(model), of_the_whole(model, x))
    single = {}
    for size in [*sizes, EVEN]:
        ways = single_passes(ours, x, size, strategies)
        single |= measured(ways, of_one_pass(ours, batches_of(x, size)))
    return f"""# How exact recalibrated statistics are

A network of three times convolution, batch norm and ReLU is trained for {arguments.epochs} epochs on {len(x):,} of
scikit-learn's 8×8 digits, in batches of {BATCHES[0]} with a momentum of {MOMENTUM}. Then the statistics of its batch
norms over these images are taken anew, its weights as they are. Figures are the worst of {FILTERS} channels: of the
mean |μ − μ*| / σ*, of the variance |σ²/σ*² − 1|. The last batches are of other sizes: {last_batches(len(x), sizes)}.

## From what the layers get in inference

The truth is a float64 copy of the network that gets all images as one batch. `sequential=True` measures layer
after layer. In one pass every batch is normalized by its own moments, as in the paper and PyTorch's `update_bn`:
exact for the first layer, while the deeper ones see something else than in inference. PyTorch counts all batches
alike, whatever their sizes. The moving averages start from 0 and 1 and see the same batches again each epoch, with
fixed weights; "what training left" is from after the training, whose weights moved meanwhile.

{table(exact)}

## From what one pass can see

The truth is the same float64 copy, which normalizes each batch by its own moments, and takes mean and variance of
all that each layer was given. Batches of {EVEN} are all of one size: what remains of PyTorch's difference is that it
averages the unbiased variances within batches, and leaves out what the batches differ by.

{table(single)}

---
Made by `{command(arguments)}`, with fixed seeds. Not to be edited. Two replicas are two logical
processors, each with a half of every batch and synchronized batch norm.
Versions: {versions()}, Python {platform.python_version()} on {platform.machine()}.{left_out()}
"""


def last_batches(count, sizes):
    return " and ".join(f"{count % size or size} instead of {size}" for size in sizes)


def left_out():
    return "" if found("torch") else "\nLeft out, as not installed: PyTorch (`pip install torch`)."


def command(arguments):
    given = [f"--batch {size}" for size in arguments.batch if arguments.batch != BATCHES]
    given += [f"--examples {arguments.examples}"] * (arguments.examples != EXAMPLES)
    given += [f"--epochs {arguments.epochs}"] * (arguments.epochs != EPOCHS)
    return " ".join(["python -m benchmarks.recalibration", *given])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=EXAMPLES, help=f"of the digits, default: {EXAMPLES}")
    parser.add_argument("--batch", type=int, action="append", help=f"sizes of batches, default: {BATCHES}")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help=f"of training, default: {EPOCHS}")
    parser.add_argument("--out", type=pathlib.Path, help="where to write the page (default: only print it)")
    arguments = parser.parse_args()
    arguments.batch = arguments.batch or BATCHES
    text = page(arguments)
    print(text)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
