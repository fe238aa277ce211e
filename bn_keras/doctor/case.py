"""What the findings share: a model, all that was measured of it, and the repairs that were tried."""

import dataclasses
import functools
import typing

from bn_keras.doctor import repairs
from bn_keras.doctor.data import Batch
from bn_keras.doctor.examination import Gain, Repair
from bn_keras.doctor.gaps import LayerGap
from bn_keras.doctor.measuring import norms_of
from bn_keras.doctor.standing import Standing, improves, standing_of
from bn_keras.doctor.structure import Structure
from bn_keras.surgery.verify import brief

# In the order in which `Examination.repaired` makes them: statistics last but for freezing, which keeps them.
IN_ORDER = ("drop_bias", "reset_scale", "recalibrate", "freeze")


@dataclasses.dataclass
class Case:
    """A model under examination.

    Attributes:
        model: The model, which stays as it is.
        batches: What it is examined on.
        criterion: Its loss.
        standing: What was measured of it.
        gaps: The gap of each batch norm that was measured.
        structure: How its batch norms are wired.
        facts: Lines for the report: why a repair could not be tried.
        makers: The repairs that gained something, by the names of `attempt`.
    """

    model: typing.Any
    batches: list[Batch]
    criterion: typing.Any
    standing: Standing
    gaps: dict[typing.Any, LayerGap]
    structure: Structure
    facts: list[str] = dataclasses.field(default_factory=list)
    makers: dict[str, typing.Callable] = dataclasses.field(default_factory=dict)
    outcomes: dict[str, Repair | None] = dataclasses.field(default_factory=dict)

    def attempt(self, name: str, make: typing.Callable, call: str, what: str) -> Repair | None:
        """Tries a repair on a copy, once; `None` if it cannot be made or gains nothing.

        Args:
            name: The name of the repair, and after a colon what it is applied to, if it is applied to several things.
            make: A function from a model and batches to a repaired copy.
            call: What to write.
            what: The number that decides: "loss" or "training loss".
        """
        if name not in self.outcomes:
            self.outcomes[name] = self.trial(name, make, call, what)
        return self.outcomes[name]

    def trial(self, name, make, call, what):
        copy = self.copied(name, make)
        if copy is None:
            return None
        after = standing_of(copy, self.batches, self.criterion)
        if not improves(self.standing, after, what):
            return None
        self.makers[name] = make
        return Repair(name.split(":")[0], call, gains_of(self.standing, after, what))

    def copied(self, name, make):
        """A repaired copy; `None`, and a fact, if it cannot be made."""
        try:
            return self.criterion.ready(make(self.model, self.batches))
        except Exception as error:  # whatever a custom class does in a copy: the findings stand without the repair
            self.facts.append(f"{name} could not be tried: {brief(error)}")
            return None

    def recalibrated(self) -> Repair | None:
        return self.attempt("recalibrate", repairs.recalibrate, "surgery.recalibrate(model, inputs)", "loss")

    def frozen(self) -> Repair | None:
        call = "surgery.freeze(surgery.from_keras(model))"
        return self.attempt("freeze", repairs.freeze, call, "training loss")

    def repaired(self):
        """A copy with all repairs that gained something and that a model can hold."""
        made = [make for name in IN_ORDER for key, make in self.makers.items() if key.split(":")[0] == name]
        if not made:
            raise ValueError(
                f"The examination of {self.model.name!r} found no repair that gains anything and that a model can "
                "hold. Its findings say what to do instead."
            )
        return functools.reduce(lambda model, make: make(model, self.batches), made, self.model)

    def steps(self) -> int:
        """The number of steps that the optimizer of the model has taken; 0 without an optimizer."""
        optimizer = getattr(self.model, "optimizer", None)
        return 0 if optimizer is None else int(optimizer.iterations)

    def looks_trained(self) -> bool:
        """Whether any scale or offset has moved from where it starts, or the optimizer has taken a step."""
        if self.steps():
            return True
        return any(has_moved(layer) for layer in norms_of(self.model)) or any(
            variable.name == "bias" and bool((variable.numpy() != 0).any()) for variable in self.model.trainable_weights
        )


def has_moved(layer) -> bool:
    """Whether γ or β of a layer are not all alike, as they start."""
    values = [each.numpy() for each in (layer.gamma, layer.beta) if each is not None]
    return any(each.size > 1 and bool((each != each.ravel()[0]).any()) for each in values)


def gains_of(before: Standing, after: Standing, what: str) -> tuple[Gain, ...]:
    """What a repair changes, the deciding number first; without labels, the change between the modes alone."""
    names = [what, "loss", "accuracy", "training loss", "training accuracy", "output change"]
    if what == "loss":
        names = ["loss", "accuracy", "output change"]
    pairs = {name: (before.value(name), after.value(name)) for name in dict.fromkeys(names)}
    return tuple(Gain(name, old, new) for name, (old, new) in pairs.items() if old is not None and new is not None)
