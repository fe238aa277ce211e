"""Whether a copy computes what the model computes, on inputs that are made up from what the model says of them."""

import contextlib
import dataclasses
import math
import typing

import keras
import numpy as np
import tensorflow as tf

from bn_keras.surgery.reports import Verified
from bn_keras.surgery.tree import is_graph, layers_of, leaves_of

BATCH = 2
UNKNOWN_SIZES = (32, 8, 128)  # tried in turn where a model does not tell a size
# Of the largest output, for one layer; the tolerance of a model grows with the root of the number of its layers.
TOLERANCES = {"float16": 4 * 2**-10, "bfloat16": 4 * 2**-7}
TOLERANCE = 1e-4
WORDS = np.array(["the", "a cat", "b", "made up"])


@dataclasses.dataclass(frozen=True)
class Example:
    """The arguments of one call of a model, without `training`."""

    args: tuple
    kwargs: dict

    def call(self, model) -> list:
        """The outputs, flat, in inference.

        A functional model is called without `training`, which would overrule what the model says of a layer. The call
        of a subclassed model may have any default.
        """
        graph = is_graph(model) or isinstance(model, keras.Sequential)
        training = {"training": False} if not graph and "training" in model.call_signature_parameters else {}
        return keras.tree.flatten(model(*self.args, **self.kwargs, **training))


def unchanged(example: Example) -> Example:
    return example


def compared(
    model,
    copy,
    adapted: typing.Callable[[Example], Example] = unchanged,
    prepared: typing.Callable[[Example], Example] = unchanged,
) -> Verified:
    """Compares the outputs of a model and its copy in inference.

    Both keep their state, seeds of random numbers too.

    Args:
        model, copy: The models.
        adapted: Turns an example of the model into one of a copy that has other inputs.
        prepared: Gives an example of the model the values that the comparison is about.

    Returns:
        A `Verified`; without a difference, and with the reason, where no inputs can be made up, where the model draws
        random numbers in inference or where it returns no numbers.

    Raises:
        ValueError: If the outputs differ by more than the tolerance, or the copy cannot be called.
    """
    with state_kept(model), state_kept(copy):
        example, expected, why = first_that_runs(model, prepared)
        if example is None:
            return Verified(None, why)
        try:
            found = outputs_of(copy, adapted(example))
        except Exception as error:
            raise ValueError(f"The copy of the model {model.name!r} cannot be called: {error}. {ADVICE}") from error
        difference, tolerance = largest_difference(expected, found), tolerance_of(model)
        noise = largest_difference(expected, outputs_of(model, example)) if (difference or 0) > tolerance else 0
        if (noise or 0) > tolerance:
            return Verified(None, "the model draws random numbers in inference")
    if difference is None:
        return Verified(None, "the model returns NaN, or no numbers, for made-up inputs")
    if difference <= tolerance:
        return Verified(difference, "made-up inputs")
    with state_kept(copy):
        noise = rounding_noise(copy, adapted(example), found)
    if difference > AMPLIFIED * noise:
        raise ValueError(
            f"The copy of the model {model.name!r} does not compute what the model computes: on made-up inputs the "
            f"outputs differ by {difference:.1e} of the largest. The tolerance is {tolerance:.0e}, and rounding of the "
            f"weights changes the outputs by {noise:.1e}. {ADVICE}"
        )
    if noise > LARGEST_NOISE:
        return Verified(None, f"rounding of the weights changes the outputs by {noise:.0e} of the largest")
    return Verified(difference, f"made-up inputs, where rounding of the weights alone changes outputs by {noise:.0e}")


AMPLIFIED = 10  # how many times the noise of rounding a difference may be
LARGEST_NOISE = 0.1  # of the largest output: beyond it a comparison says nothing
ADVICE = (
    "A layer of the model computes something that its config does not tell. Pass verify=False to get the copy all the "
    "same, and compare it on inputs of your own."
)


def first_that_runs(model, prepared=unchanged):
    """`(example, outputs, "")` of made-up inputs that a model takes, or `(None, None, why)`."""
    why = "the model does not tell the shapes of its inputs"
    for example in map(prepared, examples_for(model)):
        try:
            return example, outputs_of(model, example), ""
        except Exception as error:
            why = f"the model takes none of the made-up inputs: {brief(error)}"
    return None, None, why


def brief(error) -> str:
    """The first line of an error."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]


def examples_for(model) -> typing.Iterator[Example]:
    """Made-up inputs for a model, the likeliest first."""
    random = np.random.default_rng(0)
    for size in UNKNOWN_SIZES:
        if is_graph(model) or (isinstance(model, keras.Sequential) and model.built):
            tensors = model.input if is_graph(model) else model.inputs[0]
            make = lambda tensor: made_up(tensor.shape, tensor.dtype, size, random)  # noqa: B023, E731
            yield Example((keras.tree.map_structure(make, tensors),), {})
            known = all(None not in each.shape[1:] for each in keras.tree.flatten(tensors))
        else:  # what the first call was given: shapes alone
            config = model.get_build_config() or {}
            for dtype in ("float32", "int32", "string"):
                yield from examples_of_shapes(config, dtype, size, random)
            known = None not in (each for shape in shapes_in(config) for each in shape[1:])
        if known:
            return


def examples_of_shapes(config, dtype, size, random):
    if "input_shape" in config:
        yield Example((made_of_shapes(config["input_shape"], dtype, size, random),), {})
    elif "shapes_dict" in config:
        shapes = {name.removesuffix("_shape"): shape for name, shape in config["shapes_dict"].items()}
        yield Example((), {name: made_of_shapes(shape, dtype, size, random) for name, shape in shapes.items()})


def made_of_shapes(shapes, dtype, size, random):
    if shapes is None:  # an input that the first call left out
        return None
    if isinstance(shapes, dict):
        return {key: made_of_shapes(shape, dtype, size, random) for key, shape in shapes.items()}
    if is_shape(shapes):
        return made_up(shapes, dtype, size, random)
    return type(shapes)(made_of_shapes(shape, dtype, size, random) for shape in shapes)


def is_shape(value) -> bool:
    return isinstance(value, (list, tuple)) and all(each is None or isinstance(each, int) for each in value)


def shapes_in(config):
    if isinstance(config, dict):
        for each in config.values():
            yield from shapes_in(each)
    elif is_shape(config):
        yield config
    elif isinstance(config, (list, tuple)):
        for each in config:
            yield from shapes_in(each)


def made_up(shape, dtype, size, random) -> tf.Tensor:
    """Normal floats, ids of 0 and 1, or words."""
    batch = shape[0] or BATCH if len(shape) else BATCH
    sizes = [batch, *(size if each is None else each for each in shape[1:])] if len(shape) else []
    dtype = tf.as_dtype(dtype)
    if dtype == tf.string:
        return tf.constant(random.choice(WORDS, sizes))
    values = random.normal(size=sizes) if dtype.is_floating or dtype.is_complex else random.integers(0, 2, sizes)
    return tf.cast(tf.constant(values), dtype)


def outputs_of(model, example: Example) -> list[np.ndarray]:
    """The outputs of a model, flat."""
    try:
        outputs = example.call(model)
    except Exception:  # some models run in a graph alone
        outputs = tf.function(lambda: example.call(model), autograph=False)()
    return [keras.ops.convert_to_numpy(each) for each in outputs if each is not None]


def rounding_noise(copy, example: Example, expected) -> float:
    """How far outputs move if each weight of a model moves by some units of rounding: by its conditioning alone."""
    random, before = np.random.default_rng(0), [keras.ops.convert_to_numpy(each) for each in copy.weights]
    try:
        for weight, value in zip(copy.weights, before, strict=True):
            if value.dtype.kind == "f":
                unit = 8 * np.finfo(value.dtype).eps
                weight.assign(value * (1 + unit * random.uniform(-1, 1, value.shape)).astype(value.dtype))
        return largest_difference(expected, outputs_of(copy, example)) or 0.0
    finally:
        for weight, value in zip(copy.weights, before, strict=True):
            weight.assign(value)


def largest_difference(expected, found) -> float | None:
    """The largest difference of outputs over the largest value of each; `None` if there are no numbers to compare."""
    if [each.shape for each in expected] != [each.shape for each in found]:
        return math.inf
    differences = []
    for right, value in zip(expected, found, strict=True):
        if right.dtype.kind in "OSU":
            differences.append(0.0 if (right == value).all() else math.inf)
            continue
        right, value = right.astype(np.float64), value.astype(np.float64)
        if not np.isfinite(right).any():
            continue
        other = ~((right == value) | (np.isnan(right) & np.isnan(value)))
        largest = np.abs(right[np.isfinite(right)]).max() or 1.0
        off = np.abs(value[other] - right[other]).max(initial=0) / largest
        differences.append(math.inf if np.isnan(off) else float(off))
    return max(differences, default=None)


def tolerance_of(model) -> float:
    layers = layers_of(model)
    return max(TOLERANCES.get(layer.compute_dtype, TOLERANCE) for layer in layers) * math.sqrt(len(layers))


@contextlib.contextmanager
def state_kept(model):
    """What a call changes, such as seeds and the states of an RNN, is put back."""
    trained = {id(variable) for variable in model.trainable_variables}
    held = [each for layer in layers_of(model) for _, each in leaves_of(layer) if isinstance(each, keras.Variable)]
    variables = {id(each): each for each in (*model.variables, *held) if id(each) not in trained}
    before = [(each, keras.ops.convert_to_numpy(each)) for each in variables.values()]
    try:
        yield
    finally:
        for variable, value in before:
            if not np.array_equal(keras.ops.convert_to_numpy(variable), value, equal_nan=value.dtype.kind == "f"):
                variable.assign(value)
