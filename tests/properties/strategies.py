"""Random cases: what hypothesis draws is small (a shape, a few numbers, a seed), the arrays follow from it."""

import dataclasses
import math

import ml_dtypes
import numpy as np
from hypothesis import strategies as st

# Offsets in deviations that the dtype can still tell from each other.
LARGEST_OFFSET = {"float64": 1e6, "float32": 1e3, "float16": 100.0, "bfloat16": 30.0}
# Of float16, so that offset and scale together stay below its largest number, 65,504.
LARGEST_SCALE = {"float64": 1e3, "float32": 1e3, "float16": 100.0, "bfloat16": 1e3}
DTYPES = list(LARGEST_OFFSET)


@dataclasses.dataclass(frozen=True)
class Case:
    """One input of a layer.

    Attributes:
        shape: Of the input.
        axis: As the layer takes it.
        dtype: Of the layer.
        seed: Of all the numbers.
        offset: The largest mean, in deviations.
        scale: The largest deviation.
        epsilon: Added to the variance.
    """

    shape: tuple
    axis: int | list
    dtype: str
    seed: int
    offset: float
    scale: float
    epsilon: float

    @property
    def axes(self):
        axes = self.axis if isinstance(self.axis, list) else [self.axis]
        return tuple(sorted(each % len(self.shape) for each in axes))

    @property
    def others(self):
        return tuple(i for i in range(len(self.shape)) if i not in self.axes)

    def with_shape(self, shape, axis, epsilon):
        return dataclasses.replace(self, shape=shape, axis=axis, epsilon=epsilon)

    def random(self):
        return np.random.default_rng(self.seed)

    def array(self, values):
        return np.asarray(values).astype(ml_dtypes.bfloat16 if self.dtype == "bfloat16" else self.dtype)


def input_and_gradient(case, kept):
    """`x` and `dy`, rounded to the dtype; each position along the axes `kept` has an offset and scale of its own."""
    random = case.random()
    along = [size if i in kept else 1 for i, size in enumerate(case.shape)]
    scale = case.scale * random.uniform(0.5, 1, along)
    offset = case.offset * random.uniform(0.5, 1, along) * random.choice([-1, 1], along)
    x = scale * (offset + random.normal(size=case.shape))
    return case.array(x), case.array(random.normal(size=case.shape))


def random_weights(case, shapes):
    """Values for γ, β, means and variances that are not 1 and 0, γ and β of either sign."""
    random = np.random.default_rng([case.seed, 1])
    return [random.uniform(0.3, 2, shape) * random.choice([-1, 1], shape) for shape in shapes]


def small_shapes():
    """Ranks 2 to 5, at most 600 elements."""
    sizes = st.one_of(st.just(1), st.integers(1, 6), st.integers(1, 6))
    return st.lists(sizes, min_size=2, max_size=5).map(tuple).filter(lambda shape: math.prod(shape) <= 600)


@st.composite
def large_shapes(draw):
    """65,536 elements and somewhat more, in ranks 2 to 5."""
    rank = draw(st.integers(2, 5))
    sizes = [draw(st.sampled_from([1, 2, 3, 8, 20])) for _ in range(rank - 1)]
    rest = -(-(2**16) // math.prod(sizes))
    sizes.insert(draw(st.integers(0, rank - 1)), rest + draw(st.integers(0, 3)))
    return tuple(sizes)


@st.composite
def axes_within(draw, rank, first=0):
    """An int or a list of ints, from either end."""
    axes = draw(st.lists(st.integers(first, rank - 1), min_size=1, max_size=rank - first, unique=True))
    axes = [axis - rank if draw(st.booleans()) else axis for axis in axes]
    return axes[0] if len(axes) == 1 and draw(st.booleans()) else axes


@st.composite
def neighbouring_axes(draw, rank):
    """As `axes_within`, with nothing between the axes."""
    first = draw(st.integers(0, rank - 1))
    axes = list(range(first, draw(st.integers(first, rank - 1)) + 1))
    return axes[0] if len(axes) == 1 else axes


def axes_without_batch(rank):
    return axes_within(rank, first=1)


def one_axis(rank):
    """An int, from either end, not the batch axis."""
    return st.integers(1, rank - 1).flatmap(lambda axis: st.sampled_from([axis, axis - rank]))


@st.composite
def cases(draw, dtype, shapes=None, axes=axes_within):
    """Cases of a dtype, these shapes (small ones) and axes (a strategy for a rank)."""
    shape = draw(small_shapes() if shapes is None else shapes)
    return Case(
        shape=shape,
        axis=draw(axes(len(shape))),
        dtype=dtype,
        seed=draw(st.integers(0, 2**32 - 1)),
        offset=draw(offsets(LARGEST_OFFSET[dtype])),
        scale=draw(st.sampled_from([1e-3, 0.1, 1.0, 30.0, LARGEST_SCALE[dtype]])),
        epsilon=draw(st.sampled_from([1e-7, 1e-5, 1e-3, 0.1])),
    )


def offsets(largest):
    decades = [0.0, 1.0, *(10.0**i for i in range(1, 7) if 10.0**i < largest), largest]
    return st.sampled_from(decades)


@st.composite
def masks(draw, shape):
    """A mask over some leading axes, of size 1 along some of them; all of it may be false, or true."""
    rank = draw(st.integers(1, len(shape)))
    sizes = [1 if draw(st.integers(0, 3)) == 0 else size for size in shape[:rank]]
    share = draw(st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]))
    mask = np.random.default_rng(draw(st.integers(0, 99))).uniform(size=sizes) < share
    axis = draw(st.integers(0, rank - 1))
    if draw(st.booleans()):  # nothing counts at one position along an axis
        mask[(slice(None),) * axis + (0,)] = False
    return mask
