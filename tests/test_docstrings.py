"""The docstring of every public name states what a caller needs, and agrees with the signature."""

import ast
import dataclasses
import importlib
import inspect
import re
import types
import typing

import keras
import pytest

PACKAGES = ("layers", "surgery", "doctor", "export", "models", "experiments", "experiments.data", "lab.html")
OPS = {
    "batch_norm": ("train", "infer", "affine"),
    "domains": ("train", "infer"),
    "layer_norm": ("layer_norm", "rms_norm", "group_norm", "scaled_by_deviation"),
    "whitening": ("train", "infer"),
    "conditional": ("modulate",),
}
# Functions whose arguments nothing checks, so that they raise nothing of their own.
RAISE_NOTHING = {
    "norms": "it takes no arguments",
    "list_presets": "it takes no arguments",
    "to_html": "a `Page` checks its parts when it is made",
    "summarize": "a `Comparison` is complete when it is made",
    "example_order": "the loader checks the batch size",
    "infer": "the layer checks its input",
    "affine": "the layer checks its input",
    "layer_norm": "the layer checks its input",
    "rms_norm": "the layer checks its input",
    "group_norm": "the layer checks its input",
    "scaled_by_deviation": "the layer checks its input",
    "modulate": "the layer checks its input",
}
WORDS = {  # how a docstring calls a type
    int: r"\bints?\b|\binteger",
    float: r"\bfloat",
    bool: r"\bbool",
    str: r"\bstrs?\b|\bstring",
    dict: r"\bdict",
    type(None): r"`None`",
    keras.Model: r"\b[Mm]odel",
}


def public_objects():
    """Every class and function of the public API, by its name."""
    found = {}
    for package in PACKAGES:
        module = importlib.import_module(f"bn_keras.{package}")
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isclass(value) or inspect.isfunction(value):
                found.setdefault(id(value), (f"{package}.{name}", value))
    for module, names in OPS.items():
        for name in names:
            value = getattr(importlib.import_module(f"bn_keras.ops.{module}"), name)
            found[id(value)] = f"ops.{module}.{name}", value
    return dict(found.values())


PUBLIC = public_objects()
LAYERS = {name: value for name, value in PUBLIC.items() if name.startswith("layers.")}
ERRORS = {name for name, value in PUBLIC.items() if inspect.isclass(value) and issubclass(value, Exception)}
RECORDS = {name for name, value in PUBLIC.items() if dataclasses.is_dataclass(value)}  # values that functions return
CALLABLES = sorted(PUBLIC.keys() - ERRORS)
FUNCTIONS = sorted(PUBLIC.keys() - ERRORS - RECORDS)


def sections(value):
    """The sections of a docstring by title; the text before the first one has the title ""."""
    text = inspect.getdoc(value)
    parts = re.split(r"^((?:[A-Z][a-z]+ ?(?:shape|arguments)?)):\n", text, flags=re.MULTILINE)
    return {"": parts[0]} | dict(zip(parts[1::2], parts[2::2], strict=True))


def entries(section):
    """The text of each argument in a section: one entry may name several."""
    found = {}
    for names, text in re.findall(r"^    (\*{0,2}\w+(?:, \w+)*): (.*(?:\n {6,}.*)*)", section, re.MULTILINE):
        found |= {name.lstrip("*"): re.sub(r"\s+", " ", text) for name in names.split(", ")}
    return found


def documented(value):
    """The entries of the arguments; `Those of `Name`` takes the others from another public name."""
    args = sections(value).get("Args", "") + sections(value).get("Attributes", "")
    base = re.search(r"^    Those of `(\w+)`", args, re.MULTILINE)
    inherited = {}
    if base:
        (other,) = {each for name, each in PUBLIC.items() if name.rpartition(".")[2] == base[1]}
        inherited = documented(other)
    return inherited | entries(args)


def types_in(annotation):
    """The plain types in an annotation: those that `WORDS` names, and the values of a `Literal`."""
    if isinstance(annotation, str):
        return set()
    if typing.get_origin(annotation) is typing.Literal:
        return {f'"{value}"' if isinstance(value, str) else f"`{value}`" for value in typing.get_args(annotation)}
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        members = set(typing.get_args(annotation))
        objects = {each for each in members if each in {type(None)} or each not in {str, dict}}
        keras_objects = any(getattr(each, "__module__", "").startswith("keras.") for each in members)
        return set().union(*(types_in(each) for each in (objects - {type(None)} if keras_objects else members)))
    if annotation is None:
        return {type(None)}
    return {annotation} & WORDS.keys() if annotation in WORDS else set()


def default_in(text):
    """The literal after "Defaults to"; `...` where there is none."""
    match = re.search(r"Defaults to `([^`]*)`", text)
    if not match:
        return ...
    try:
        return ast.literal_eval(match[1])
    except (ValueError, SyntaxError):
        return match[1]


def agrees(said, default):
    """Whether a default that a docstring states is the one of the signature."""
    if callable(default):
        return said == default.__name__
    if default is dataclasses.MISSING:
        return said is ...
    return (said == default and type(said) is type(default)) or (said == default and isinstance(default, tuple))


def parameters(value):
    """The parameters of a call; a field of a dataclass with a factory has what the factory makes."""
    factories = {}
    if dataclasses.is_dataclass(value):
        factories = {
            field.name: field.default_factory()
            for field in dataclasses.fields(value)
            if field.default_factory is not dataclasses.MISSING
        }
    for parameter in inspect.signature(value).parameters.values():
        yield parameter.replace(default=factories.get(parameter.name, parameter.default))


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_the_first_line_is_a_sentence(name):
    first, *rest = inspect.getdoc(PUBLIC[name]).splitlines()
    assert first.endswith(".")
    assert not rest or not rest[0], "an empty line follows the first one"


@pytest.mark.parametrize("name", CALLABLES)
def test_every_argument_is_documented_with_its_type_and_default(name):
    value = PUBLIC[name]
    said = documented(value)
    wrong = []
    known = [parameter.name for parameter in parameters(value)]
    for parameter in parameters(value):
        text = said.get(parameter.name)
        if text is None:
            wrong.append(f"{parameter.name}: missing")
            continue
        for kind in types_in(parameter.annotation):
            word = re.escape(kind) if isinstance(kind, str) else WORDS[kind]
            if not re.search(word, text, re.IGNORECASE):
                wrong.append(f"{parameter.name}: no word for {kind}")
        if parameter.default is not parameter.empty and not agrees(default_in(text), parameter.default):
            wrong.append(f"{parameter.name}: says {default_in(text)!r}, is {parameter.default!r}")
    wrong += [f"{each}: no such argument" for each in said if each not in known]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_errors_are_documented(name):
    if name.rpartition(".")[2] in RAISE_NOTHING:
        assert "Raises" not in sections(PUBLIC[name]), "it raises something: take it off the list"
    else:
        assert re.search(r"^    \w*(Error|Exception)(, \w+)*: ", sections(PUBLIC[name]).get("Raises", ""), re.MULTILINE)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_there_is_an_example(name):
    assert ">>> " in inspect.getdoc(PUBLIC[name])


@pytest.mark.parametrize("name", sorted(name for name in FUNCTIONS if inspect.isfunction(PUBLIC[name])))
def test_what_a_function_returns_is_documented(name):
    if inspect.signature(PUBLIC[name]).return_annotation is not None:
        assert sections(PUBLIC[name]).get("Returns"), sections(PUBLIC[name]).keys()


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_states_its_equation_shapes_and_source(name):
    parts = sections(LAYERS[name])
    assert re.search(r"\$\$ y = .*?\$\$", parts[""], re.DOTALL)
    for title in ("Input shape", "Output shape", "Call arguments", "Raises", "References"):
        assert parts.get(title), title
    assert "https://arxiv.org/abs/" in parts["References"]
    said = entries(parts["Call arguments"])
    assert list(said) == list(inspect.signature(LAYERS[name].call).parameters)[1:]


@pytest.mark.parametrize("name", [name for name in PUBLIC if name.startswith("ops.")])
def test_an_op_has_an_equation(name):
    module = importlib.import_module(PUBLIC[name].__module__)
    assert "$$" in inspect.getdoc(PUBLIC[name]) or "$$" in module.__doc__
