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

A refused pair is an error in the constructor. The tests compare every set of options without a refused pair with a
reference in float64: with and without a mask, with one axis and with several, and with `unbiased` true and false.
"""

CLOSING = """\
The layer checks what depends on the input when it is called. `fused=True` is an error with a mask, in float64, under
XLA and for axes that are not adjacent; `fused=None` falls back to another implementation. With `virtual_batch_size`,
`axis` must not contain the batch axis. Training on one value per channel is an error where the shape is known, because
the output would be β whatever the input; it is allowed with `renorm=True`, and where other replicas have more values.
`activation` combines with every option.
"""
