"""The walker that all surgery stands on: a copy of a model with some layers changed, accounted for and verified."""

import dataclasses

import keras

from bn_keras.surgery.account import settle
from bn_keras.surgery.changed import mark
from bn_keras.surgery.copying import Change, Copier
from bn_keras.surgery.reports import Report, Row, Verified, hand_over
from bn_keras.surgery.verify import compared


def check_model(model) -> None:
    """Raises an error for what is no Keras model, or has no weights yet."""
    if not isinstance(model, keras.Model):
        raise TypeError(f"Expected a Keras model. Received: {model!r} (of type {type(model).__name__}).")
    if not model.built:
        raise ValueError(
            f"The model {model.name!r} has no weights yet. Build it first: model.build(input_shape), or call it once."
        )


def rewrite(model, plan: dict[keras.layers.Layer, Change]) -> tuple[keras.Model, dict, list[Row]]:
    """A copy of a model, with its weights, in which some layers are changed.

    The copy is not compiled. Made within `strategy.scope()`, it belongs to the strategy.

    Args:
        model: A Keras model that has been built. It is not changed.
        plan: A dict of `Change` by layer.

    Returns:
        `(copy, copies, dropped)`: the new model, a dict of the new layer by the old one, and a row for each layer of
        which some variables have no successor.

    Raises:
        TypeError, ValueError: For what is no built Keras model.
        CannotCopyError: A `ValueError`, for a layer that Keras cannot make again, or whose variables do not reach the
            copy, with its name and the way out.
    """
    check_model(model)
    copier = Copier(model, plan)
    copy = copier.copy(model)
    copier.finish(model)
    dropped = settle(model, plan, copier.copies)
    mark(copier)
    return copy, copier.copies, dropped


def operate(function: str, model, plan, rows, *, verify: bool, report, facts=()) -> keras.Model:
    """Rewrites a model, compares the outputs and hands over the copy with its report.

    Args:
        function: The name of the public function, for the report.
        model, plan: As in `rewrite`.
        rows: What became of the layers.
        verify: Whether outputs are compared.
        report: A function that gets the report, or `None`.
        facts: More lines of the report.
    """
    copy, _, dropped = rewrite(model, plan)
    verified = compared(model, copy) if verify else NOT_VERIFIED
    return hand_over(copy, Report(function, (*rows, *dropped), verified, tuple(facts)), report)


NOT_VERIFIED = Verified(None, "verify=False; every weight is accounted for")


def verified_but_for(model, verify: bool) -> Verified:
    """Proves a copy that computes something else on purpose, by a copy without the change."""
    if not verify:
        return NOT_VERIFIED
    verified = compared(model, rewrite(model, {})[0])
    return dataclasses.replace(verified, how=f"of a copy without the change: {verified.how}")
