"""What `recalibrate` has to find in a row of Dense, ReLU and batch norm: NumPy, float64, from all inputs at once."""

import keras
import numpy as np


def row(norm, **arguments):
    """Two batch norms, the first on what no other is before, with weights and data that make them differ."""
    layers = [keras.Input((5,)), keras.layers.Dense(4), norm(name="first", **arguments), keras.layers.ReLU()]
    return keras.Sequential([*layers, keras.layers.Dense(3), norm(name="second", **arguments), keras.layers.ReLU()])


def examples(size):
    """Correlated, of different sizes, drifting, and far from 0."""
    random = np.random.default_rng(0)
    x = random.normal(size=(size, 5)) @ random.normal(size=(5, 5)) * [0.3, 1, 2, 4, 8] + [30, 0, -5, 9, 1]
    return (x * np.linspace(0.5, 2, size)[:, np.newaxis]).astype("float32")


def parts(x, sizes):
    return np.split(x, np.cumsum(sizes)[:-1])


def inputs_of_norms(model, x):
    """By name, what each batch norm is given, with those before it normalizing by the moments of `x`."""
    inputs, x = {}, np.asarray(x, np.float64)
    for layer in model.layers:
        if isinstance(layer, keras.layers.Dense):
            x = x @ layer.kernel.numpy().astype(np.float64) + layer.bias.numpy()
        elif isinstance(layer, keras.layers.ReLU):
            x = np.maximum(x, 0)
        else:
            inputs[layer.name] = x
            x = (x - x.mean(0)) / np.sqrt(x.var(0) + layer.epsilon) * layer.gamma.numpy() + layer.beta.numpy()
    return inputs


def population(model, batches):
    """Mean and biased variance of each batch norm's inputs in all batches, which are normalized one by one.

    A batch of one says nothing of the layers after the first: its output there is β.
    """
    inputs = [inputs_of_norms(model, batch) for batch in batches]
    large = [each for each in inputs if len(each["first"]) > 1]
    whole = {
        name: np.concatenate([each[name] for each in (inputs if name == "first" else large)]) for name in inputs[0]
    }
    return {name: (x.mean(0), x.var(0)) for name, x in whole.items()}


def algorithm_2(model, batches):
    """The average over batches of their means and, of those that have one, unbiased variances; as in `population`."""
    inputs = [inputs_of_norms(model, batch) for batch in batches]
    large = [each for each in inputs if len(each["first"]) > 1]
    found = {}
    for name in inputs[0]:
        counted = inputs if name == "first" else large
        means, sizes = [each[name].mean(0) for each in counted], [len(each[name]) for each in counted]
        variances, large_sizes = [each[name].var(0, ddof=1) for each in large], [len(each[name]) for each in large]
        found[name] = np.average(means, axis=0, weights=sizes), np.average(variances, axis=0, weights=large_sizes)
    return found


def difference(model, truth):
    """The largest of all batch norms from the truth: of means in deviations, of variances relative."""
    worst = 0.0
    for name, (mean, variance) in truth.items():
        layer = model.get_layer(name)
        of_mean = np.abs(layer.moving_mean.numpy() - mean) / np.sqrt(variance)
        of_variance = np.abs(layer.moving_variance.numpy() / variance - 1)
        worst = max(worst, of_mean.max(), of_variance.max())
    return float(worst)
