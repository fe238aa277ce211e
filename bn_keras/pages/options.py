"""The page of the options of `BatchNorm` that can be combined, from the table that its constructor checks."""

from bn_keras.lab.markdown import table
from bn_keras.layers.combinations import NEEDED, OPTIONS, REFUSED
from bn_keras.pages.registry import Request


def text(request: Request) -> str:
    """The options against each other, the reason of each refusal below."""
    names = list(OPTIONS)
    numbers = {pair: number for number, pair in enumerate(REFUSED, start=1)}
    rows = [
        [f"`{name}`", *(cell(name, other, numbers) for other in names[:i])] + [""] * (len(names) - i)
        for i, name in enumerate(names)
    ]
    notes = [f"{number}. `{name}` with `{other}`: {REFUSED[name, other]}." for (name, other), number in numbers.items()]
    columns = ["", *(f"`{name}`" for name in names)]
    return "\n".join([INTRODUCTION, table(columns, rows), "", *notes, "", CLOSING])


def cell(name, other, numbers):
    number = numbers.get((other, name)) or numbers.get((name, other))
    if number:
        return f"refused ({number})"
    return "needed" if NEEDED.get(name) == other else "yes"


INTRODUCTION = """\
# Options of `BatchNorm` that can be combined

Every set of options that has no refused pair in it is run by the tests against a reference in float64, each with
and without a mask, with one axis and with several, and with `unbiased` true and false. A refused pair is an error
in the constructor.
"""

CLOSING = """\
What depends on the input is checked when it is there. `fused=True` is an error with a mask, in float64, under XLA
and for axes that do not lie side by side; `fused=None` takes another way by itself. `virtual_batch_size` needs the
batch axis to be none of `axis`. Training on one value per channel is an error where the shape is known, as the
output would be β whatever the input; not so with `renorm=True`, or where other replicas have more values.
An `activation` goes with every one of these.
"""
