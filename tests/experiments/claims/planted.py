"""A claim of two stages whose measurements take no time, for the tests of the frame and of the command."""

import dataclasses
import os
import signal

from bn_keras.experiments.claims.claim import FAILS, HOLDS, Claim, Finding, no_data
from bn_keras.experiments.claims.figures import new_figure

# The cell that fails, dies or is interrupted.
SEED_OF_ACCIDENT = 1


def cells(form, found):
    """Two seeds, then a third one that is known when both are measured."""
    first = [{"arm": "planted", "seed": seed} for seed in range(2)]
    return [*first, {"arm": "planted", "seed": 2}] if found.has(first) else first


def measure(cell, load):
    return {"square": cell["seed"] ** 2, "process": os.getpid()}


def fail(cell, load):
    """An error in the second cell."""
    if cell["seed"] == SEED_OF_ACCIDENT:
        raise ArithmeticError("planted")
    return measure(cell, load)


def die(cell, load):
    """The process of the second cell is killed, as by a system without memory."""
    if cell["seed"] == SEED_OF_ACCIDENT:
        os.kill(os.getpid(), signal.SIGKILL)
    return measure(cell, load)


def interrupt(cell, load):
    """Ctrl-C in the second cell."""
    if cell["seed"] == SEED_OF_ACCIDENT:
        raise KeyboardInterrupt
    return measure(cell, load)


def judge(form, found):
    total = sum(found.values("square"))
    return Finding(
        HOLDS if total == 5 else FAILS,
        number=str(total),
        because=f"The squares add up to {total}.",
        columns=("seed", "square"),
        rows=tuple((str(cell["seed"]), str(values["square"])) for cell, values in found.where(arm="planted")),
        notes=("No run diverged.",),
    )


def draw(form, found):
    figure, (axes,) = new_figure(form, "planted squares")
    axes.plot([0, 1, 2], found.values("square"))
    return figure


CLAIM = Claim(
    id="C8",
    title="The squares add up to five",
    question="What do the squares add up to?",
    method="Three seeds.",
    rule="Holds if they add up to five.",
    refuted_by="Another sum.",
    literature="five",
    source="arithmetic",
    caption="The squares.",
    data=no_data,
    cells=cells,
    measure=measure,
    judge=judge,
    draw=draw,
)


def planted(**changes):
    """The claim with other fields."""
    return dataclasses.replace(CLAIM, **changes)
