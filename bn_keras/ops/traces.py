"""Compiled functions, kept within bounds.

A `tf.function` keeps a trace for every shape and every Python number that it is called with, for ever: text of
varying length pays for a trace with each batch. Here

- floats travel as tensors, so that another momentum is no other trace;
- inputs of one dtype, rank and number of channels are a family. The first shapes of a family are steady: they get
  traces of their own, which know every size. Later shapes share one trace of unknown sizes, until a shape comes back
  often enough to be steady too;
- the least recently used trace is dropped when there are too many.

Where a graph is being traced, the branch becomes a part of that graph and nothing is kept here, except for what XLA
compiles: graphs share those functions, so that XLA compiles layers of one shape once.
"""

import collections
import collections.abc
import dataclasses
import functools
import threading
import typing

import tensorflow as tf

from bn_keras.ops.compiler import accelerated, in_xla_context, quiet_function
from bn_keras.ops.moments import statistics_dtype

LIMIT = 512  # traces, of 0.1 to 1 MB each; training and evaluating a DenseNet201 eagerly takes 400
FAMILIES = 1024
EXACT = {"eager": 2, "graph": 8}  # the first shapes of a family; a graph with layers of several sizes has many
CALLS = 8  # of a shape, until it is steady
RECENT = 16  # shapes of a family whose calls are counted

Branch = collections.abc.Callable[..., typing.Any]


class Fixed(float):
    """A float that stays a Python number: TensorFlow's kernels take some settings as attributes."""


def see(x: tf.Tensor, axes: tuple[int, ...]) -> None:
    """Counts a call on the shape of `x`, with the channels at `axes`: once per call of a layer."""
    _family(x, axes).see(tuple(x.shape))


def is_steady(x: tf.Tensor, axes: tuple[int, ...]) -> bool:
    """Whether the shape of `x` is one of the first of its family, or has come back often."""
    return tuple(x.shape) in _family(x, axes).steady


def run(branch: Branch, arguments: tuple, axes: tuple[int, ...]) -> typing.Any:
    """`branch(*arguments)`: compiled where it is called eagerly, else a part of the graph that is being traced.

    Args:
        branch: A function of tensors, settings and frozen dataclasses of both, which returns the like.
        arguments: Its arguments. The shape of the first one may vary, and with it those of other tensors of its rank.
        axes: The channel axes of the first argument. Every trace knows the sizes along them.
    """
    return run_as_function(branch, arguments, axes) if tf.executing_eagerly() else branch(*arguments)


def run_as_function(branch: Branch, arguments: tuple, axes: tuple[int, ...]) -> typing.Any:
    """`run`, but as a function of its own within a graph, too."""
    if tf.config.functions_run_eagerly():
        return branch(*arguments)
    tensors, numbers, structure = taken_apart(arguments)
    shapes, signature = tuple(tuple(each.shape) for each in tensors), None
    if not is_steady(tensors[0], axes):
        rank = tensors[0].shape.rank
        shapes = tuple(relaxed(shape, axes) if len(shape) == rank else shape for shape in shapes)
        signature = [tf.TensorSpec(shape, each.dtype) for shape, each in zip(shapes, tensors, strict=True)]
        signature += [tf.TensorSpec([len(numbers)], tf.float64)] if numbers else []
    key = branch, structure, tuple(each.dtype for each in tensors), shapes, accelerated(), in_xla_context()
    return _function(key, branch, structure, signature, False)(tensors, numbers)


def run_by_xla(branch: Branch, arguments: tuple) -> typing.Any:
    """`branch(*arguments)`, compiled by XLA."""
    tensors, numbers, structure = taken_apart(arguments)
    if numbers:  # scalar tensors, as a function of `run` has them: the two share what XLA compiles
        dtype = statistics_dtype(tensors[0].dtype)
        arguments = put_together(structure, tensors, [tf.constant(each, dtype) for each in numbers])
        tensors, numbers, structure = taken_apart(arguments)
    key = "XLA", branch, structure, tuple((each.dtype, tuple(each.shape)) for each in tensors)
    return _function(key, branch, structure, None, True)(tensors, numbers)


def relaxed(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int | None, ...]:
    """The shape with the sizes of the channels alone, and with ones, along which tensors broadcast.

    >>> relaxed((8, 5, 1, 3), axes=(3,))
    (None, None, 1, 3)
    """
    return tuple(size if i in axes or size == 1 else None for i, size in enumerate(shape))


def count() -> int:
    """The number of functions that are kept."""
    return len(_FUNCTIONS)


def forget() -> None:
    """Drops all functions and all that is known of shapes."""
    _FUNCTIONS.clear()
    _FAMILIES.clear()


class Family:
    """The shapes of inputs of one dtype, rank and number of channels."""

    def __init__(self, exact: int):
        self.exact = exact
        self.steady: collections.OrderedDict[tuple, None] = collections.OrderedDict()
        self.calls: collections.OrderedDict[tuple, int] = collections.OrderedDict()

    def see(self, shape: tuple[int | None, ...]) -> None:
        if shape in self.steady:
            return
        calls = self.calls.pop(shape, 0) + 1
        if len(self.steady) < self.exact or calls >= CALLS:
            _add(self.steady, shape, None, self.exact + RECENT)
        else:
            _add(self.calls, shape, calls, RECENT)


def _family(x: tf.Tensor, axes: tuple[int, ...]) -> Family:
    mode = "eager" if tf.executing_eagerly() else "graph"
    key = mode, x.dtype, x.shape.rank, axes, tuple(x.shape[axis] for axis in axes)
    with _LOCK:
        family = _FAMILIES.pop(key, None) or Family(EXACT[mode])
        return _add(_FAMILIES, key, family, FAMILIES)


class Function:
    """A branch as a compiled function of tensors alone."""

    def __init__(self, branch: Branch, structure: typing.Any, signature: list[tf.TensorSpec] | None, by_xla: bool):
        self.results = None

        def flat(*tensors):
            numbers = ()
            if _holds_numbers(structure):
                *tensors, packed = tensors
                numbers = tf.unstack(tf.cast(packed, statistics_dtype(tensors[0].dtype)))
            outputs, _, self.results = taken_apart(branch(*put_together(structure, tensors, numbers)))
            return outputs

        self.flat = quiet_function(flat, signature, jit_compile=by_xla or None)

    def __call__(self, tensors: list[tf.Tensor], numbers: tuple[float, ...]) -> typing.Any:
        outputs = self.flat(*tensors, *([_packed(numbers)] if numbers else []))
        return put_together(self.results, outputs, ())


def _function(key: tuple, *of_the_function) -> Function:
    with _LOCK:
        function = _FUNCTIONS.pop(key, None) or Function(*of_the_function)
        return _add(_FUNCTIONS, key, function, LIMIT)


def _add(entries: collections.OrderedDict, key: tuple, value: typing.Any, limit: int) -> typing.Any:
    """The value, which is now the last one of the entries, of which the first one goes if there are too many."""
    entries[key] = value
    if len(entries) > limit:
        entries.popitem(last=False)
    return value


_FAMILIES: collections.OrderedDict[tuple, Family] = collections.OrderedDict()
_FUNCTIONS: collections.OrderedDict[tuple, Function] = collections.OrderedDict()
_LOCK = threading.Lock()


# How arguments become a list of tensors: a structure has these in their places.
TENSOR, NUMBER, STATIC = "a tensor", "a number", "a value that is a part of the trace"


def taken_apart(value: typing.Any) -> tuple[list[tf.Tensor], tuple[float, ...], typing.Any]:
    """The tensors and the floats in a value, and its structure, which is hashable.

    >>> taken_apart((tf.zeros([]), 0.5, None))[1]
    (0.5,)
    """
    tensors, numbers = [], []

    def structure_of(value):
        if isinstance(value, tf.Tensor):
            tensors.append(value)
            return TENSOR
        if type(value) is float:
            numbers.append(value)
            return NUMBER
        if type(value) is tuple or dataclasses.is_dataclass(value):
            parts = value if type(value) is tuple else (getattr(value, name) for name in _fields(type(value)))
            return (type(value), *map(structure_of, parts))
        return STATIC, type(value), value  # the type too, as 1 == True

    structure = structure_of(value)
    return tensors, tuple(numbers), structure


def put_together(structure: typing.Any, tensors: list[tf.Tensor], numbers: collections.abc.Sequence) -> typing.Any:
    """The value that `taken_apart` took apart."""
    next_tensor, next_number = iter(tensors).__next__, iter(numbers).__next__

    def value_of(structure):
        if structure is TENSOR:
            return next_tensor()
        if structure is NUMBER:
            return next_number()
        kind, *parts = structure
        if kind is STATIC:
            return parts[1]
        values = map(value_of, parts)
        return tuple(values) if kind is tuple else kind(*values)

    return value_of(structure)


def _holds_numbers(structure: typing.Any) -> bool:
    return structure is NUMBER or (
        type(structure) is tuple and structure[0] is not STATIC and any(map(_holds_numbers, structure[1:]))
    )


@functools.cache
def _fields(kind: type) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(kind))


def _packed(numbers: tuple[float, ...]) -> tf.Tensor:
    return _packed_eagerly(numbers) if tf.executing_eagerly() else tf.constant(numbers, tf.float64)


@functools.lru_cache(maxsize=256)
def _packed_eagerly(numbers: tuple[float, ...]) -> tf.Tensor:
    return tf.constant(numbers, tf.float64)
