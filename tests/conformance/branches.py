"""One model with a branch for every distinct case: one trace, one file and one `fit` for all."""

import keras
import numpy as np
from keras import layers

from tests.conformance.cases import DISTINCT


def plain(case):
    return case.make(name=f"{case}_norm")


def branch(case, make):
    """The input of a case, what its layer is fed with, and the layer's output."""
    inputs = keras.Input(case.shape[1:], name=case.name)
    x = layers.Dense(case.shape[-1], name=f"{case}_before")(inputs)
    return inputs, make(case)(x)


def model_of_branches(make=plain, cases=DISTINCT):
    """Gives a column for each case, so that a loss over the columns trains every branch by itself."""
    inputs, outputs = zip(*(branch(case, make) for case in cases), strict=True)
    columns = [
        layers.Dense(1, name=f"{case}_after")(layers.Flatten()(y)) for case, y in zip(cases, outputs, strict=True)
    ]
    return keras.Model(dict(zip(map(str, cases), inputs, strict=True)), layers.Concatenate()(columns))


def examples(size, cases=DISTINCT, seed=0):
    """Inputs by the names of the cases, and a column of targets for each."""
    random = np.random.default_rng(seed)
    inputs = {case.name: random.normal(3, 2, (size, *case.shape[1:])).astype(np.float32) for case in cases}
    return inputs, random.normal(size=(size, len(cases))).astype(np.float32)


def weights_by_case(weights, cases=DISTINCT):
    """The weights of each branch's own layers."""
    return {case.name: [weight for weight in weights if is_of(weight, case)] for case in cases}


def is_of(weight, case):
    return any(part.rsplit("_", 1)[0] == case.name for part in weight.path.split("/"))
