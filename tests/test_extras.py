"""Optional packages: an import that fails names the package, and the extra that has it."""

import ast
import configparser
import json
import os
import pathlib
import re
import sys

import pytest

from tests.processes import run_process

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "bn_keras"
MODULES = sorted(PACKAGE.rglob("*.py"))
CORE = {"bn_keras", "tensorflow", "keras", "numpy", "ml_dtypes"} | sys.stdlib_module_names  # TensorFlow needs ml_dtypes
DISTRIBUTIONS = {"sklearn": "scikit-learn", "markupsafe": "jinja2"}  # where the name differs from the module's

# The modules that import optional packages without `packages_of`, and what speaks for the package there.
CHECKED_ELSEWHERE = {
    "cli/": "`bn_keras/cli/__init__.py` names the extra for click; Keras itself needs rich",
    "bench/peers/": "`Peer.missing` names the package before a peer is prepared",
    "export/": "`Format.require` names the package before an export starts",
    "pages/accuracy_peers.py": "the page shows the peers that are installed",
    "pages/recalibration.py": "the page shows PyTorch where it is installed",
}


def extras():
    """The names of the packages of each extra."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    lines = {extra: text.split("\n") for extra, text in setup["options.extras_require"].items()}
    return {extra: {re.split(r"[<>=!]", line)[0] for line in each if line} for extra, each in lines.items()}


EXTRAS = extras()


def provided(package, extra):
    """Whether an extra has a package, which is named as it is imported."""
    name = DISTRIBUTIONS.get(package, package)
    return bool({name, name.replace("_", "-")} & EXTRAS[extra])


def guard_of(node):
    """The extra that a block `with packages_of(extra)` names."""
    call = node.items[0].context_expr if isinstance(node, ast.With) else None
    if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "packages_of":
        return call.args[0].value
    return None


def optional_imports(path):
    """The optional packages that a module imports: `(package, extra, at the top level)`; the extra of `packages_of`."""

    def walk(node, extra, top):
        extra = guard_of(node) or extra
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module]
        yield from ((name.split(".")[0], extra, top) for name in names if name.split(".")[0] not in CORE)
        top = top and not isinstance(node, ast.FunctionDef)
        for child in ast.iter_child_nodes(node):
            yield from walk(child, extra, top)

    return list(walk(ast.parse(path.read_text(encoding="utf-8")), None, True))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_optional_import_is_guarded(path):
    place = path.relative_to(PACKAGE).as_posix()
    for package, extra, top in optional_imports(path):
        if extra is not None:
            assert provided(package, extra), f"the extra {extra!r} does not have {package}"
        elif place.startswith("experiments/") and top:
            assert provided(package, "lab")  # the `__init__.py` of experiments guards what its modules import
        else:
            assert any(place.startswith(each) for each in CHECKED_ELSEWHERE), f"{place} imports {package}"


@pytest.mark.slow
def test_every_exception_is_needed():
    users = {path.relative_to(PACKAGE).as_posix() for path in MODULES if optional_imports(path)}
    for place in CHECKED_ELSEWHERE:
        assert any(user.startswith(place) for user in users), place


# Imports every module without each package. The core stays loaded, as its import takes seconds. A failed import leaves
# modules behind whose package is gone, so the next one starts afresh.
IMPORT_ALL = """
import importlib, json, sys
import keras, tensorflow, bn_keras
packages, modules = json.loads(sys.argv[1])
core = set(sys.modules)
errors = []

def unload():
    for name in list(sys.modules):
        if name.startswith("bn_keras.") and name not in core:
            del sys.modules[name]

for package in packages:
    unload()
    loaded = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == package}
    sys.modules[package] = None
    for name in modules:
        try:
            importlib.import_module(name)
        except ImportError as error:
            errors.append([package, name, type(error).__name__, str(error)])
            unload()
    del sys.modules[package]
    sys.modules.update(loaded)
print(json.dumps(errors))
"""


@pytest.mark.slow
def test_a_module_without_its_package_names_the_extra():
    places = {path: path.relative_to(PACKAGE).as_posix() for path in MODULES}
    modules = [
        f"bn_keras.{place.removesuffix('.py').removesuffix('/__init__').replace('/', '.')}"
        for place in places.values()
        if re.match(r"(lab|experiments|bench|pages|export)/", place)
    ]
    packages = sorted(
        {
            package
            for path in MODULES
            for package, _, top in optional_imports(path)
            if top and not places[path].startswith("cli/")
        }
    )
    assert {"matplotlib", "scipy", "jinja2"} <= set(packages)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", IMPORT_ALL, json.dumps([packages, modules])]
    done = run_process(command, cwd=ROOT, env=environment, new=True)
    assert done.returncode == 0, done.stderr
    errors = json.loads(done.stdout.splitlines()[-1])
    assert {package for package, *_ in errors} == set(packages), "every package is needed somewhere"
    assert {name for _, name, *_ in errors} >= {"bn_keras.experiments", "bn_keras.lab.plot", "bn_keras.bench.plot"}
    for package, name, kind, message in errors:
        assert kind == "MissingPackageError", f"{name} without {package}: {message}"
        (extra,) = re.findall(r"pip install 'bn_keras\[(\w+)\]'", message)
        assert repr(package) in message
        assert provided(package, extra), message
