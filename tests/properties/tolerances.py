r"""How far a layer may be from the float64 reference: one table, in units that say what is promised.

The reference is given the very numbers that the layer is given, after they were rounded to its dtype: what that
rounding did is nobody's error. What is left is the arithmetic. With the unit roundoff $u_c$ of the dtype of the
arithmetic (float64 for float64, else float32) and $u$ of the dtype of the result, an error is measured in units of

$$ u_c \cdot \text{size} + u \cdot |\text{truth}| $$

(the second term only where $u > u_c$: there the rounding of the result is nearly all of it). The *size* of a
quantity sums up the absolute values of all that it is made of:

| quantity | size |
| --- | --- |
| y | $|\gamma| (|\hat x| + r) + |\beta|$ |
| dx, with $g = \gamma \, dy$ | $(|g| + a + (|\hat x| + r) b + |\hat x| r a) / \sqrt{\sigma^2 + \epsilon}$ |
| dgamma | $\sum |dy| (|\hat x| + r)$ |
| dbeta | $\sum |dy|$ |
| moving mean | its value before $+ |\mu| + \sigma$ |
| moving variance | its value before $+ \sigma^2$ |
| inference | $|s x| + |s \mu| + |\beta|$, with $s = \gamma / \sqrt{\sigma^2 + \epsilon}$ |

where $r = (|\mu| + \sigma) / \sqrt{\sigma^2 + \epsilon}$ is the size of the input in deviations, and $a, b$ are the
means of $|g|$ and $|g \hat x|$ over what the moments are of. So an offset of 1,000 deviations costs three digits of
x̂, as μ can be held no better than to $u |\mu|$, and no more: to lose $u r^2$, as a difference of squares does,
breaks the promise.
"""

import collections

import ml_dtypes
import numpy as np

# In the units above: two to four times the worst seen, which `pytest -s tests/properties` prints. "large" are inputs
# of 65,536 elements and more: there a sum of m numbers of one sign is off by tens of u, as TensorFlow adds columns up
# one by one; most so with bfloat16, whose few different values make the roundings lean one way. "fused" is
# TensorFlow's kernel, which sums like that everywhere; for means of more than 32 deviations it is not relied on.
QUANTITIES = ("y", "dx", "dgamma", "dbeta", "moving mean", "moving variance", "inference")
TOLERANCES = {
    "float64": (8, 8, 8, 4, 4, 8, 8),
    "float32": (8, 8, 8, 4, 3, 8, 6),
    "float16": (2, 2, 2, 2, 4, 8, 2),
    "bfloat16": (2, 2, 2, 2, 4, 8, 2),
    "float64, large": (150, 100, 24, 8, 12, 150, None),
    "float32, large": (150, 100, 24, 8, 12, 150, None),
    "float16, large": (150, 3, 40, 2, 12, 150, None),
    "bfloat16, large": (150, 3, 40, 2, 60, 450, None),
    "float32, fused": (200, 200, 8, 8, 200, 200, None),
    "float16, fused": (200, 3, 8, 2, 200, 600, None),
    "bfloat16, fused": (200, 3, 8, 2, 200, 2000, None),
}
TOLERANCES = {row: dict(zip(QUANTITIES, values, strict=True)) for row, values in TOLERANCES.items()}

cases_seen = collections.Counter()  # by layer
worst_seen = collections.defaultdict(float)  # in units, by row, layer and quantity


def roundoff(dtype):
    """u: the largest relative error of rounding to that dtype."""
    return float(ml_dtypes.finfo(dtype).eps) / 2


def units(truth, size, dtype):
    """The unit of each element's error; not less than what the smallest number of the dtype is rounded by."""
    arithmetic = roundoff("float64" if dtype == "float64" else "float32")
    rounding = roundoff(dtype) if roundoff(dtype) > arithmetic else 0
    return arithmetic * size + rounding * np.abs(truth) + float(ml_dtypes.finfo(dtype).smallest_subnormal)


def check(name, case, ours, truths, kind=None):
    """Every quantity against its truth.

    Args:
        name: Of the layer.
        case: What to show when one differs.
        ours: Arrays or tensors by quantity.
        truths: `(truth, size)` by quantity.
        kind: "large" or "fused", for a row of the table of its own.
    """
    cases_seen[name] += 1
    row = f"{case.dtype}, {kind}" if kind else case.dtype
    for quantity, (truth, size) in truths.items():
        values = np.asarray(ours[quantity])
        truth, got = (within_range(each, values.dtype) for each in (truth, values.reshape(truth.shape)))
        errors = np.abs(got - truth) / units(truth, size, values.dtype.name)
        worst = np.unravel_index(np.argmax(errors), errors.shape)
        worst_seen[row, name, quantity] = max(worst_seen[row, name, quantity], errors[worst])
        allowed = TOLERANCES[row][quantity]
        assert errors[worst] <= allowed, (
            f"{name}: {quantity}{[int(i) for i in worst]} is {got[worst]!r}, should be {truth[worst]!r}: "
            f"{errors[worst]:.1f} units off, {allowed} are allowed. {case}"
        )


def within_range(values, dtype):
    """Float64; what is beyond the largest number of the dtype is that number, as it is infinite there."""
    largest = float(ml_dtypes.finfo(dtype).max)
    return np.clip(np.asarray(values, np.float64), -largest, largest)
