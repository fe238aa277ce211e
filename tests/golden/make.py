"""Writes the golden files: models as this version saves them, which every later version has to load.

    python -m tests.golden.make [NAME …]

Each case has a folder in `tests/golden/files`: `model.keras`, `model.weights.h5`, `saved_model.tar.gz`, and
`expected.npz` with an input, the output of inference, the output of training and the weights after that step.
`versions.json` names the versions that wrote the folder. A file is never written again: a change that breaks one
breaks the files of users. A new layer gets a new case, and a new option gets a case with a new name.
"""

import argparse
import dataclasses
import json
import pathlib
import shutil
import tempfile

import keras
import numpy as np
import tensorflow as tf

import bn_keras
from bn_keras import (
    Affine,
    BatchNorm,
    ConditionalNorm,
    DecorrelatedBatchNorm,
    DomainBatchNorm,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    RMSNorm,
    SyncBatchNorm,
    WeightNorm,
    WeightStandardization,
    models,
)

FILES = pathlib.Path(__file__).parent / "files"
BATCH = 6
PER_CHANNEL = {"axis": 1, "epsilon": 0.01}


@dataclasses.dataclass(frozen=True)
class Case:
    """A layer with its arguments and those of its call, or a preset; `shape` is that of one example."""

    shape: tuple
    layer: type | None = None
    arguments: dict = dataclasses.field(default_factory=dict)
    preset: str | None = None
    call: dict = dataclasses.field(default_factory=dict)

    def build(self) -> keras.Model:
        if self.preset:
            return models.build(self.preset, input_shape=self.shape, **self.arguments)
        x, layer = keras.Input(self.shape, name="x"), self.layer(name="norm", **self.arguments)
        if self.call:
            return keras.Model(x, layer(x, **self.call))
        if self.layer is ConditionalNorm:  # the model has one input, and the condition follows from it
            return keras.Model(x, layer([x, keras.layers.GlobalMaxPooling1D()(x)]))
        return keras.Sequential([x, layer])


def wrapped(layer: keras.layers.Layer) -> dict:
    """A layer as the configuration of a wrapper holds it: each model makes its own of it."""
    return keras.saving.serialize_keras_object(layer)


CASES = {
    "batch_norm": Case((4, 3), BatchNorm, {"axis": 1, "momentum": 0.7, "epsilon": 0.01, "unbiased": False}),
    "batch_norm_relu": Case((4, 4, 5), BatchNorm, {"activation": "relu", "momentum": 0.8, "center": False}),
    "batch_norm_two_axes": Case((3, 2, 4), BatchNorm, {"axis": [1, 3], "scale": False}),
    "batch_norm_average_of_all": Case((4,), BatchNorm, {"momentum": None}),
    "batch_norm_bias_corrected": Case((4,), BatchNorm, {"momentum": 0.9, "bias_correction": True}),
    "batch_norm_renorm": Case(
        (4,), BatchNorm, {"renorm": True, "renorm_clipping": {"rmin": 0.5, "rmax": 2.0, "dmax": 0.5}}
    ),
    "batch_norm_virtual": Case((5, 4), BatchNorm, {"virtual_batch_size": 3, "momentum": 0.5}),
    "batch_norm_frozen": Case((4,), BatchNorm, {"frozen": True}),
    "batch_norm_bfloat16": Case((4,), BatchNorm, {"dtype": "mixed_bfloat16", "momentum": 0.9}),
    "sync_batch_norm": Case((4, 3), SyncBatchNorm, {**PER_CHANNEL, "momentum": 0.6, "group_size": 2}),
    "decorrelated_batch_norm": Case((3, 4), DecorrelatedBatchNorm, {"groups": 2, "iterations": 3, "momentum": 0.9}),
    "conditional_norm": Case((3, 4), ConditionalNorm, {"norm": ("batch", {"momentum": 0.7, "epsilon": 0.01})}),
    "batch_norm_accumulated": Case((4, 3), BatchNorm, {"momentum": 0.8, "accumulation_steps": 3}),
    "domain_batch_norm": Case(
        (4, 3), DomainBatchNorm, {"domains": 3, "momentum": 0.8, "shared_affine": False}, call={"domain": 1}
    ),
    "layer_norm": Case((3, 4), LayerNorm, {"axis": [1, 2], "epsilon": 0.01, "center": False}),
    "group_norm": Case((4, 3, 2), GroupNorm, {**PER_CHANNEL, "groups": 2, "scale": False}),
    "instance_norm": Case((4, 3, 2), InstanceNorm, PER_CHANNEL),
    "rms_norm": Case((3, 4), RMSNorm, {"axis": [1, 2], "epsilon": 0.01}),
    "weight_norm": Case((5, 3), WeightNorm, {"layer": wrapped(keras.layers.Conv1D(4, 2)), "epsilon": 0.01}),
    "weight_norm_separable": Case((5, 3), WeightNorm, {"layer": wrapped(keras.layers.SeparableConv1D(4, 2))}),
    "weight_standardization": Case(
        (4, 3), WeightStandardization, {"layer": wrapped(keras.layers.Dense(2)), "scaled": True, "use_gain": True}
    ),
    "affine": Case((3, 4), Affine, {"axis": [1, 2], "activation": "tanh"}),
    "inception_small": Case((12, 12, 1), preset="inception_small", arguments={"width": 0.05, "classes": 3}),
    "mlp_sigmoid": Case((5, 5, 1), preset="mlp_sigmoid", arguments={"width": 0.1, "classes": 3}),
}


def randomize(model: keras.Model, random: np.random.Generator) -> None:
    """Gives every weight a value that differs from its initial one."""
    for weight in model.variables:
        if weight.name == "steps":
            values = 3.0
        elif weight.name == "accumulated_batches":
            values = 2.0  # the next batch is the last of three
        elif weight.name == "moving_whitening":
            values = np.eye(weight.shape[-1]) + random.uniform(0, 0.2, weight.shape)
        elif weight.name in ("gamma", "scale") or any(
            part in weight.name for part in ("variance", "stddev", "accumulated")
        ):
            values = random.uniform(0.5, 1.5, weight.shape)
        else:
            values = random.normal(0, 0.4, weight.shape)
        weight.assign(values)


def expectation(model: keras.Model, x: np.ndarray) -> dict[str, np.ndarray]:
    """The outputs of a model and its weights after one call in training; the model keeps that call's changes."""
    output = as_float(model(x, training=False))
    trained = as_float(model(x, training=True))
    weights = {f"weight_{i}": as_float(variable) for i, variable in enumerate(model.variables)}
    return {"output": output, "trained": trained} | weights


def as_float(value) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(value, "float32")))


def write(name: str, case: Case) -> None:
    folder, random = FILES / name, np.random.default_rng(sorted(CASES).index(name))
    folder.mkdir(parents=True)
    model = case.build()
    randomize(model, random)
    x = random.normal(0.5, 1.5, (BATCH, *case.shape)).astype("float32")
    model.save(folder / "model.keras")
    model.save_weights(folder / "model.weights.h5")
    write_saved_model(model, case.shape, folder)
    np.savez_compressed(folder / "expected.npz", x=x, **expectation(model, x))
    versions = {module.__name__: module.__version__ for module in (bn_keras, keras, tf)}
    (folder / "versions.json").write_text(json.dumps(versions, indent=1) + "\n", encoding="utf-8")


def write_saved_model(model: keras.Model, shape: tuple, folder: pathlib.Path) -> None:
    """What `model.export` writes, in an archive of a tenth of its size."""
    signature = [keras.InputSpec(shape=(None, *shape), dtype="float32", name="x")]
    with tempfile.TemporaryDirectory() as exported:
        model.export(exported, verbose=False, input_signature=signature)
        shutil.make_archive(str(folder / "saved_model"), "gztar", exported)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="a case; all that have no folder if none is named")
    names = parser.parse_args().names or [name for name in CASES if not (FILES / name).exists()]
    for name in names:
        if name not in CASES:
            parser.error(f"Expected one of {', '.join(CASES)}. Received: {name!r}.")
        if (FILES / name).exists():
            parser.error(f"{FILES / name} exists, and a golden file is never written again.")
    for name in names:
        keras.utils.set_random_seed(0)
        write(name, CASES[name])
        print(name)


if __name__ == "__main__":
    main()
