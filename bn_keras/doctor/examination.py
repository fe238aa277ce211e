"""What `examine` reports: findings, what their repairs gain, and the gap of each layer."""

import dataclasses
import math
import typing

import keras

from bn_keras.doctor.gaps import LayerGap

SEVERITIES = ("error", "warning", "note")
Severity = typing.Literal["error", "warning", "note"]


@dataclasses.dataclass(frozen=True)
class Gain:
    """One number before and after a repair.

    Attributes:
        what: Str: "loss", "accuracy", "training loss", "training accuracy", "output change", "parameters", "share of
            padding" or "loss after training".
        before: Float, the number of the given model.
        after: Float, the number of the repaired copy.
    """

    what: str
    before: float
    after: float

    def __str__(self):
        if self.what in {"accuracy", "training accuracy", "share of padding"}:
            return f"{self.what} {self.before:.1%} → {self.after:.1%}"
        if self.what == "parameters":
            return f"{self.what} {self.before:,} → {self.after:,}"
        return f"{self.what} {self.before:.3g} → {self.after:.3g}"


@dataclasses.dataclass(frozen=True)
class Repair:
    """A repair that was tried on a copy of the model, and gained something there.

    Attributes:
        name: Str, the name of the function: "recalibrate", "freeze", "reset_scale", "drop_bias", "keep_mask" or
            "exclude_from_weight_decay".
        call: Str, what to write.
        gains: Tuple of `Gain`, the one that decides first.
        in_model: Bool, whether `Examination.repaired` makes it. A `.keras` file does not keep the others. Defaults to
            `True`.
    """

    name: str
    call: str
    gains: tuple[Gain, ...]
    in_model: bool = True

    def __str__(self):
        return f"{self.call}: {', '.join(map(str, self.gains))}"


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or worth to know.

    Attributes:
        name: Str, the kind of the finding, such as "stale_statistics".
        severity: Str: "error" changes what the model says, "warning" may, "note" is worth to know.
        layers: Tuple of the names of the layers, the worst first.
        number: Float, the number that proves it, of the worst layer.
        sentence: Str, what is wrong, with the number.
        repair: The `Repair`, or `None` where no repair gains anything. Defaults to `None`.
        advice: Str, what to do where no function repairs it. Defaults to `""`.
    """

    name: str
    severity: Severity
    layers: tuple[str, ...]
    number: float
    sentence: str
    repair: Repair | None = None
    advice: str = ""

    def __post_init__(self):
        if self.severity not in SEVERITIES:
            raise ValueError(f"`severity` must be one of {SEVERITIES}. Received: severity={self.severity!r}.")

    def __str__(self):
        lines = [f"{self.severity} {self.name}: {self.sentence}"]
        if self.repair is not None:
            lines.append(f"    repair  {self.repair}")
        if self.advice:
            lines.append(f"    advice  {self.advice}")
        return "\n".join(lines)


@dataclasses.dataclass(frozen=True, eq=False)
class Examination:
    """What `examine` found; `str(examination)` is the report.

    Attributes:
        model: Str, the name of the model.
        findings: Tuple of `Finding`, the gravest first.
        layers: Tuple of a `LayerGap` for each batch norm that was measured, in the order of the model.
        numbers: Dict of the loss, accuracy and output change of the model by name, as far as they are known.
        facts: Tuple of lines: the data that was read, and what could not be measured.
        make_repaired: Function that returns the repaired model.
    """

    model: str
    findings: tuple[Finding, ...]
    layers: tuple[LayerGap, ...]
    numbers: dict[str, float]
    facts: tuple[str, ...]
    make_repaired: typing.Callable[[], keras.Model] = dataclasses.field(repr=False)

    def of(self, severity: Severity) -> list[Finding]:
        """The findings with one severity."""
        return [finding for finding in self.findings if finding.severity == severity]

    def repairs(self) -> list[Repair]:
        """The repairs of all findings, each once."""
        found = {each.repair.call: each.repair for each in self.findings if each.repair is not None}
        return list(found.values())

    def repaired(self) -> keras.Model:
        """A copy of the model, not compiled, with every repair that a model can hold.

        Raises:
            ValueError: If no such repair was found to gain anything.
        """
        return self.make_repaired()

    def to_dict(self) -> dict[str, typing.Any]:
        """The report as dicts, lists, strings and numbers, for JSON. NaN and infinity become `None`."""
        findings = [dataclasses.asdict(each) for each in self.findings]
        layers = [dataclasses.asdict(each) for each in self.layers]
        numbers, facts = dict(self.numbers), list(self.facts)
        report = {"model": self.model, "findings": findings, "layers": layers, "numbers": numbers, "facts": facts}
        return keras.tree.map_structure(finite_or_none, report, none_is_leaf=True)

    def figure(self):
        """The profile of the gap over depth, as a `matplotlib.figure.Figure`.

        Raises:
            MissingPackageError: An `ImportError`, if matplotlib, of the extra `lab`, is not installed.
            ValueError: If no layer was measured.
        """
        from bn_keras.doctor.figure import profile

        return profile(self)

    def __str__(self):
        counts = [f"{len(self.of(each))} {each}{'s' * (len(self.of(each)) > 1)}" for each in SEVERITIES]
        counts = [count for count, each in zip(counts, SEVERITIES, strict=True) if self.of(each)]
        head = f"doctor: {self.model}: {', '.join(counts) or 'nothing found'}."
        lines = [head, *self.facts, *map(str, self.findings)]
        return "\n".join([*lines, *table_of(self.layers)])


def finite_or_none(value):
    return None if isinstance(value, float) and not math.isfinite(value) else value


def table_of(layers) -> list[str]:
    """The gaps as a table."""
    if not layers:
        return []
    cells = [["layer", "values", "mean off by", "noise", "variance"]]
    for gap in layers:
        mark = "" if gap.by_batch else " (frozen)"
        cells.append([f"{gap.layer}{mark}", f"{gap.values:,}", f"{gap.mean_gap:.2g} σ", f"{gap.mean_noise:.2g} σ"])
        cells[-1].append(f"× {gap.variance_ratio:.3g}")
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in cells]
