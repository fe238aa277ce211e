"""Type information: the package is clean for mypy, and a user's type checker sees the arguments of the public API."""

import ast
import inspect
import pathlib
import re
import sys

import keras
import pytest

import bn_keras.layers
from bn_keras.layers.arguments import Activation, Constraint, Initializer, InnerNorm, Regularizer
from tests.processes import run_process

ROOT = pathlib.Path(__file__).parents[1]
EXAMPLE = ROOT / "tests" / "typing_example.py"
ALIASES = {
    "Activation": Activation,
    "Constraint": Constraint,
    "Initializer": Initializer,
    "InnerNorm": InnerNorm,
    "Regularizer": Regularizer,
}


@pytest.mark.slow
def test_mypy_sees_the_types_of_the_public_api(tmp_path):
    """One run checks the package as `make check` does, and the example as a user does."""
    options = ["--cache-dir", str(tmp_path), "--config-file", str(ROOT / "pyproject.toml")]
    packages = [f"--package=bn_keras.{part}" for part in ("layers", "ops", "surgery", "export", "models")]
    done = run_process(
        [sys.executable, "-m", "mypy", *options, *packages, "--module=tests.typing_example"], cwd=ROOT, new=True
    )
    found = re.findall(r"^(\S+):(\d+): error: .*\[([\w-]+)\]$", done.stdout, re.MULTILINE)
    assert found, done.stdout + done.stderr
    in_example = {(int(line), code) for path, line, code in found if path.endswith(EXAMPLE.name)}
    in_package = [each for each in found if not each[0].endswith(EXAMPLE.name)]
    assert not in_package, done.stdout
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    expected = {(i, match[1]) for i, line in enumerate(lines, 1) if (match := re.search(r"# error: ([\w-]+)$", line))}
    assert in_example == expected


@pytest.mark.parametrize("name", bn_keras.layers.__all__)
def test_a_type_checker_sees_the_constructor_that_runs(name):
    layer = getattr(bn_keras.layers, name)
    (declared,) = ast.parse(inspect.getsource(layer)).body
    guarded = [node for node in declared.body if isinstance(node, ast.If)]
    (constructor,) = [node for block in guarded for node in block.body if isinstance(node, ast.FunctionDef)]
    names = {"typing": __import__("typing"), "collections": __import__("collections"), "keras": keras, **ALIASES}
    seen = {}
    arguments = constructor.args
    positional = arguments.args[1:]
    required = positional[: len(positional) - len(arguments.defaults)]
    for each in required:
        seen[each.arg] = "positional", inspect.Parameter.empty, eval(ast.unparse(each.annotation), names)
    for kind, each, default in [
        *(("positional", *pair) for pair in zip(positional[len(required) :], arguments.defaults, strict=True)),
        *(("keyword", *pair) for pair in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)),
    ]:
        seen[each.arg] = kind, ast.literal_eval(default), eval(ast.unparse(each.annotation), names)
    runs = {
        parameter.name: (
            "keyword" if parameter.kind is parameter.KEYWORD_ONLY else "positional",
            parameter.default,
            parameter.annotation,
        )
        for parameter in inspect.signature(layer).parameters.values()
        if parameter.kind is not parameter.VAR_KEYWORD
    }
    assert list(seen.items()) == list(runs.items())
