"""The account of a copy: each variable of the given model reaches its copy, or is named as dropped."""

import pathlib
import tempfile

import keras
import numpy as np

from bn_keras.surgery.persisting import CannotCopyError
from bn_keras.surgery.reports import Row
from bn_keras.surgery.tree import held_by, layers_of


def settle(model, plan, copies) -> list[Row]:
    """Gives the copies of all layers the state of the given ones, and accounts for every variable.

    Args:
        model: The given model.
        plan: A dict of `bn_keras.surgery.copying.Change` by layer.
        copies: The new layer by the old one.

    Returns:
        A row with the outcome "dropped" for each layer whose variables have no successor.

    Raises:
        CannotCopyError: If a variable of the model or of the copy is left over, or belongs to several; with the name
            of the layer and the way out.
    """
    every = layers_of(model)
    missing = [layer for layer in every if layer not in copies and layer not in plan]
    if missing:
        raise CannotCopyError(
            f"The copy of the model has no layer in the place of {missing[0].name!r} ({type(missing[0]).__name__}). "
            "Its holder makes it in a call: make it in `__init__` or `build`."
        )
    match_trainable(every, plan, copies)
    ledger, dropped = Ledger(), []
    for old in every:
        if old not in plan:
            carry(old, copies[old], ledger)
        elif plan[old].make is not None:
            dropped += carry_by_name(old, copies[old], plan[old], ledger)
    ledger.close(copies[model])
    return dropped


class Ledger:
    """Which variable of the copy has the value of which variable of the given model."""

    def __init__(self):
        self.new_of, self.old_of, self.settled = {}, {}, set()

    def enter(self, layer, old, new):
        """Books one variable for another.

        Raises:
            CannotCopyError: If one of them is booked for another one already.
        """
        if self.new_of.setdefault(id(old), new) is not new or self.old_of.setdefault(id(new), old) is not old:
            raise CannotCopyError(
                f"The variable {old.name!r} of the layer {layer.name!r} ({type(layer).__name__}) belongs to several "
                "layers of the model, and the copy does not share it in the same way. Share the layer that owns it, "
                "by a constructor argument that `get_config` returns."
            )
        self.settled.add(id(new))

    def close(self, copy):
        """Checks that every variable of the copy is accounted for."""
        for variable in copy.variables:
            if id(variable) not in self.settled:
                raise CannotCopyError(
                    f"The variable {variable.path!r} of the copy has no value from the model. A layer makes it in a "
                    "call, or hides it from Keras: make it in `__init__` or `build`."
                )


def match_trainable(every, plan, copies):
    """What is trainable: containers first, as theirs reaches what they hold."""
    wanted = {copies[old]: (copies[old] if old in plan else old).trainable for old in every if old in copies}
    for _ in every:  # a layer of several containers gets the flag of the last one first
        differing = [new for new, trainable in wanted.items() if new.trainable != trainable]
        for new in differing:
            new.trainable = wanted[new]
        if not differing:
            return


def carry(old, new, ledger) -> None:
    """The state of a layer: by the methods with which Keras saves and loads it, and each variable exactly."""
    values, variables = own_variables(old), in_the_order_of(own_variables(old), own_variables(new))
    if [tuple(each.shape) for each in values] != [tuple(each.shape) for each in variables]:
        raise CannotCopyError(
            f"The copy of the layer {old.name!r} ({type(old).__name__}) has the variables {described(variables)}, but "
            f"the layer has {described(values)}. Let its `get_config` return all arguments of `__init__`, and its "
            "`get_build_config` what `build_from_config` needs."
        )
    load_as_keras(old, new)
    for value, variable in zip(values, variables, strict=True):
        ledger.enter(old, value, variable)
        assign(variable, value)
        match_variable(variable, value)


def load_as_keras(old, new) -> None:
    """Saves the own state of a layer into its copy: some layers compute other things when they load."""
    store: dict = {}
    old.save_own_variables(store)
    if store:
        try:
            new.load_own_variables({key: numpy_of(value) for key, value in store.items()})
        except ValueError as error:
            raise CannotCopyError(f"The copy of the layer {old.name!r} does not take its weights: {error}") from error
    if hasattr(old, "save_assets"):
        with tempfile.TemporaryDirectory() as folder:
            old.save_assets(folder)
            if any(pathlib.Path(folder).iterdir()):
                new.load_assets(folder)


def carry_by_name(old, new, change, ledger) -> list[Row]:
    """The values of a layer that comes in the place of another one."""
    old_values = {variable.name: variable for variable in own_variables(old)}
    values = old_values if change.values is None else change.values
    lost = set(old_values) - {variable.name for variable in own_variables(new)} if change.values is None else set()
    for variable in own_variables(new):
        value, source = values.get(variable.name), old_values.get(variable.name)
        fits = value is not None and np.prod(value.shape) == np.prod(variable.shape)
        if (
            value is not None
            and fits
            and (change.values is not None or not change.anew or tuple(value.shape) == tuple(variable.shape))
        ):
            assign(variable, np.reshape(numpy_of(value), variable.shape))
            if source is not None and old.trainable == new.trainable:  # else the change is what was asked for
                match_variable(variable, source)
        elif change.anew:
            lost |= {variable.name} & set(old_values)
        else:
            raise CannotCopyError(
                f"The variable {variable.name!r} of shape {tuple(variable.shape)} that {type(new).__name__} needs in "
                f"the place of {old.name!r} ({type(old).__name__}) has no value. "
                f"The layer has {described(old_values.values())}."
            )
        ledger.settled.add(id(variable))
    why = f"{type(new).__name__} has no {' and no '.join(sorted(lost))} of this shape"
    return [Row(old.name, type(old).__name__, "dropped", why)] if lost else []


def own_variables(layer) -> list:
    """The variables that a layer has itself: not those of layers that it holds, nor what its metrics count."""
    others = {id(each) for each in layer.metrics_variables}
    others |= {id(each) for inner in held_by(layer) if inner is not layer for each in inner.variables}
    return [variable for variable in layer.variables if id(variable) not in others]


def in_the_order_of(values, variables) -> list:
    """Variables in the order of others of the same names: quantization, for one, adds some earlier or later."""
    by_name = {each.name: each for each in variables}
    names = [each.name for each in values]
    return [by_name[name] for name in names] if set(names) == set(by_name) and len(by_name) == len(names) else variables


def assign(variable, value) -> None:
    variable.assign(numpy_of(value))


def match_variable(variable, value) -> None:
    if hasattr(value, "trainable") and variable.trainable != value.trainable:
        variable.trainable = value.trainable


def numpy_of(value):
    return keras.ops.convert_to_numpy(value)


def described(variables) -> str:
    return ", ".join(f"{each.name} {tuple(each.shape)}" for each in variables) or "none"
