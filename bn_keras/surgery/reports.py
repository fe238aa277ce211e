"""What surgery and export did to a model: one kind of report for all of them."""

import collections.abc
import dataclasses
import typing
import weakref

import keras

# What can become of a layer, in the order in which a report lists it.
OUTCOMES = ("converted", "folded", "mapped", "recalibrated", "initialized", "frozen", "unfrozen", "dropped", "kept")


@dataclasses.dataclass(frozen=True)
class Row:
    """The outcome of surgery for one layer.

    Attributes:
        layer: Str, the name of the layer in the original model.
        kind: Str, the name of the layer's class there.
        outcome: Str: "converted" to another class or other arguments; "folded" into the layers in `into`; "mapped" to
            an `Affine` layer; "recalibrated"; "initialized"; "frozen"; "unfrozen"; "dropped", for a variable or layer
            without a successor; or "kept" as it was.
        why: Str, the reason why a layer is mapped, dropped or kept; for a converted layer, its new class. Defaults to
            `""`.
        into: Tuple of the names of the layers that a folded layer is merged into. Defaults to `()`.
    """

    layer: str
    kind: str
    outcome: str
    why: str = ""
    into: tuple[str, ...] = ()

    def __post_init__(self):
        if self.outcome not in OUTCOMES:
            raise ValueError(f"`outcome` must be one of {OUTCOMES}. Received: outcome={self.outcome!r}.")


@dataclasses.dataclass(frozen=True)
class Verified:
    """The comparison of two models by their outputs; false if there was none.

    Attributes:
        largest_difference: Float, the largest difference of an output, relative to the largest value of that output.
            `None` without a comparison.
        how: Str, the inputs of the comparison, such as "made-up inputs"; or the reason why there was none.
    """

    largest_difference: float | None
    how: str

    def __bool__(self):
        return self.largest_difference is not None

    def __str__(self):
        if not self:
            return f"Outputs not compared: {self.how}."
        if not self.largest_difference:
            return f"Verified: outputs are equal ({self.how})."
        return f"Verified: outputs differ by {self.largest_difference:.1e} of the largest ({self.how})."


@dataclasses.dataclass(frozen=True)
class Report:
    """The report of one call of surgery; `str(report)` is a few lines of text.

    Attributes:
        function: Str, the name of the function.
        rows: Tuple of a `Row` for each layer that the function was asked to change, in the order of the model.
        verified: A `Verified`.
        facts: Tuple of lines that the function adds, such as the amount of data that `recalibrate` read. Defaults to
            `()`.
    """

    function: str
    rows: tuple[Row, ...]
    verified: Verified
    facts: tuple[str, ...] = ()

    def of(self, outcome: str) -> list[Row]:
        """The rows with one outcome."""
        return [row for row in self.rows if row.outcome == outcome]

    def reasons(self) -> list[str]:
        """A line for each reason in the rows, with the outcome and the names of the first layers."""
        found: dict[tuple[str, str], list[str]] = {}
        for outcome in OUTCOMES:
            for row in self.of(outcome):
                if row.why:
                    found.setdefault((outcome, row.why), []).append(row.layer)
        return [
            f"{len(names)} {outcome}: {why} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})"
            for (outcome, why), names in found.items()
        ]

    def __str__(self):
        counts = [f"{len(self.of(outcome))} {outcome}" for outcome in OUTCOMES if self.of(outcome)]
        head = f"{self.function}: {', '.join(counts) or 'nothing to change'}."
        return "\n".join([head, *self.facts, *(f"  {line}" for line in self.reasons()), str(self.verified)])


def refuse_kept(function: str, rows) -> None:
    """Raises an error if a layer is left as it is: what `strict=True` asks for.

    Raises:
        ValueError: With the names of the layers and the reasons.
    """
    kept = [row for row in rows if row.outcome == "kept"]
    if kept:
        reasons = "; ".join(f"{row.layer!r} ({row.kind}): {row.why}" for row in kept[:3])
        more = f"; and {len(kept) - 3} more" if len(kept) > 3 else ""
        raise ValueError(
            f"`{function}` leaves {len(kept)} layers as they are, which strict=True does not allow. {reasons}{more}. "
            "Pass strict=False to change the others."
        )


# What gets the report of a function of surgery: `print`, or `None` for no one.
ReportTo: typing.TypeAlias = collections.abc.Callable[[typing.Any], object] | None

_REPORTS: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def report(model: keras.Model) -> Report:
    """Returns the report of the surgery that made a model.

    Args:
        model: Keras model that a function of `bn_keras.surgery` returned in this process.

    Returns:
        A `Report`; `print(report(model))` shows it.

    Raises:
        ValueError: If no surgery made the model in this process. A model from a file has no report.

    Example:

    >>> import keras
    >>> from bn_keras.surgery import fold, report
    >>> layers = [keras.layers.Dense(2), keras.layers.BatchNormalization(name="norm")]
    >>> folded = fold(keras.Sequential([keras.Input((3,)), *layers]), report=None)
    >>> [(row.layer, row.outcome) for row in report(folded).rows]
    [('norm', 'folded')]
    """
    if model not in _REPORTS:
        raise ValueError(
            f"No function of bn_keras.surgery made the model {getattr(model, 'name', model)!r} in this process. Pass a "
            "model that such a function returned; a model from a file has no report."
        )
    return _REPORTS[model]


def hand_over(model: keras.Model, made: Report, tell: ReportTo) -> keras.Model:
    """Remembers the report of a new model and tells it to whoever asked; returns the model."""
    _REPORTS[model] = made
    if tell is not None:
        tell(made)
    return model
