"""Arguments of layers, declared once: their order and defaults, checks and configuration.

A layer lists its arguments in a class attribute. Its constructor, with a signature that Python and Keras can inspect,
its attributes and its config follow from the list:

>>> class Layer(DeclaredLayer):
...     arguments = (Argument("axis", -1, int), Argument("epsilon", 1e-3, float))
>>> str(inspect.signature(Layer))
'(axis=-1, epsilon=0.001, **kwargs)'
>>> layer = Layer(2, name="layer")
>>> layer.axis, layer.epsilon, layer.name
(2, 0.001, 'layer')
"""

import collections.abc
import dataclasses
import functools
import inspect
import typing

import keras

from bn_keras.layers.checks import checked_number

Initializer: typing.TypeAlias = str | dict | keras.initializers.Initializer
Regularizer: typing.TypeAlias = str | dict | keras.regularizers.Regularizer | None
Constraint: typing.TypeAlias = str | dict | keras.constraints.Constraint | None
InnerNorm: typing.TypeAlias = str | tuple[str | None, dict] | dict | keras.layers.Layer | None
Activation: typing.TypeAlias = str | dict | collections.abc.Callable | None


def unchanged(value: typing.Any) -> typing.Any:
    return value


@dataclasses.dataclass(frozen=True)
class Argument:
    """One argument of a layer.

    Attributes:
        name: The name of the argument, of the layer's attribute and of the config's entry.
        default: The default.
        check: Of the value that was passed, to the attribute. Raises `TypeError` or `ValueError`.
        serialize: Of the attribute, to the entry of the config.
        annotation: The type, for the signature.
        keyword_only: Whether the argument cannot be passed by position.
    """

    name: str
    default: typing.Any
    check: collections.abc.Callable = unchanged
    serialize: collections.abc.Callable = unchanged
    annotation: typing.Any = inspect.Parameter.empty
    keyword_only: bool = False

    def parameter(self) -> inspect.Parameter:
        kind = inspect.Parameter.KEYWORD_ONLY if self.keyword_only else inspect.Parameter.POSITIONAL_OR_KEYWORD
        return inspect.Parameter(self.name, kind, default=self.default, annotation=self.annotation)


class DeclaredLayer(keras.layers.Layer):
    """A layer whose constructor, attributes and config follow from `arguments`."""

    arguments: typing.ClassVar[tuple[Argument, ...]] = ()

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if "arguments" in vars(cls):
            cls.__init__ = constructor(cls)

    def check_arguments(self) -> None:
        """Raises an error for values that do not go together."""

    def get_config(self) -> dict[str, typing.Any]:
        values = {each.name: each.serialize(getattr(self, each.name)) for each in self.arguments}
        return {**super().get_config(), **values}


def constructor(kind: type[DeclaredLayer]) -> collections.abc.Callable:
    """The `__init__` of a class that declares arguments."""
    itself = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    rest = inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD)
    signature = inspect.Signature([itself, *(each.parameter() for each in kind.arguments), rest])

    def __init__(self, *args, **kwargs):  # noqa: N807
        bound = signature.bind(self, *args, **kwargs)
        bound.apply_defaults()
        super(DeclaredLayer, self).__init__(**bound.arguments["kwargs"])
        for argument in kind.arguments:
            setattr(self, argument.name, argument.check(bound.arguments[argument.name]))
        self.check_arguments()

    __init__.__signature__ = signature  # type: ignore[attr-defined]
    __init__.__qualname__ = f"{kind.__qualname__}.__init__"
    __init__.__module__ = kind.__module__
    return __init__


def with_defaults(arguments: tuple[Argument, ...], **defaults: typing.Any) -> tuple[Argument, ...]:
    """The same arguments with other defaults.

    >>> [each.default for each in with_defaults((Argument("a", 1), Argument("b", 2)), b=3)]
    [1, 3]
    """
    return tuple(dataclasses.replace(each, default=defaults.get(each.name, each.default)) for each in arguments)


def without(arguments: tuple[Argument, ...], name: str) -> tuple[Argument, ...]:
    return tuple(each for each in arguments if each.name != name)


def number(name: str, default: float | None, at_most: float = float("inf")) -> Argument:
    """A float in [0, at_most]."""
    return Argument(
        name, default, functools.partial(checked_number, name, at_least=0, at_most=at_most), annotation=float
    )


def flag(name: str, default: bool, keyword_only: bool = False) -> Argument:
    return Argument(name, default, bool, annotation=bool, keyword_only=keyword_only)


def initializer(name: str, default: str) -> Argument:
    functions = keras.initializers.get, keras.initializers.serialize
    return Argument(name, default, *functions, Initializer)


def drawing_anew(initializer: typing.Any) -> typing.Any:
    """The same initializer with other random numbers: without a seed, an initializer draws the same in every call."""
    config = initializer.get_config() if isinstance(initializer, keras.initializers.Initializer) else {}
    return type(initializer).from_config(config) if config.get("seed", 0) is None else initializer


def regularizer(name: str) -> Argument:
    functions = keras.regularizers.get, keras.regularizers.serialize
    return Argument(name, None, *functions, Regularizer)


def constraint(name: str) -> Argument:
    functions = keras.constraints.get, keras.constraints.serialize
    return Argument(name, None, *functions, Constraint)


EPSILON = number("epsilon", 1e-3)
MOMENTUM = number("momentum", 0.99, at_most=1)
CENTER_AND_SCALE = flag("center", True), flag("scale", True)
INITIALIZERS = initializer("beta_initializer", "zeros"), initializer("gamma_initializer", "ones")
REGULARIZERS_AND_CONSTRAINTS = (
    regularizer("beta_regularizer"),
    regularizer("gamma_regularizer"),
    constraint("beta_constraint"),
    constraint("gamma_constraint"),
)
ACTIVATION = Argument("activation", None, keras.activations.get, keras.activations.serialize, Activation)
FROZEN = flag("frozen", False)
