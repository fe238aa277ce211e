"""The layers of the design: a module imports only from those to its left."""

import ast
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "bn_keras"
MAY_IMPORT = {
    "choices": set(),
    "ops": set(),
    "layers": {"ops"},
    "surgery": {"ops", "layers"},
    "models": {"choices", "ops", "layers", "surgery"},
    "export": {"choices", "ops", "layers", "surgery"},
    "doctor": {"ops", "layers", "surgery", "lab"},
    "lab": set(),
    "experiments": {"choices", "ops", "layers", "surgery", "models", "lab"},
    "bench": {"choices", "ops", "layers", "surgery", "models", "lab"},
    "pages": {"choices", "layers", "surgery", "models", "export", "lab", "experiments", "bench"},
    "cli": {"choices", "models", "doctor", "export", "lab", "experiments", "bench", "pages"},
    "exports": {"layers", "models", "surgery", "doctor"},
    "__init__": {"exports"},
    "__main__": {"cli"},
}
CORE = {"ops", "layers", "surgery", "doctor", "models", "exports", "__init__"}
PICTURE = PACKAGE / "doctor" / "figure.py"  # imported when it is drawn
MODULES = sorted(PACKAGE.rglob("*.py"))


def part_of(path):
    """The part of the design that a module belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def identity(path):
    return str(path.relative_to(PACKAGE))


@pytest.mark.parametrize("path", MODULES, ids=identity)
def test_imports_go_from_right_to_left(path):
    part = part_of(path)
    assert part in MAY_IMPORT, f"{part} has no place in the design"
    for name in imports(path):
        package, _, rest = name.partition(".")
        if package != "bn_keras" or rest in {"", "__version__"}:
            continue
        imported = rest.split(".")[0]
        assert imported == part or imported in MAY_IMPORT[part], f"{name} from {part}"


@pytest.mark.parametrize("path", [path for path in MODULES if part_of(path) in CORE and path != PICTURE], ids=identity)
def test_the_core_stands_on_tensorflow_and_keras_alone(path):
    allowed = {"bn_keras", "tensorflow", "keras"} | set(__import__("sys").stdlib_module_names)
    if part_of(path) in {"surgery", "doctor"}:
        allowed |= {"numpy"}  # which both stand on: these compute in float64 beside the graph
    assert {name.split(".")[0] for name in imports(path)} <= allowed


def test_the_doctor_needs_the_lab_for_its_picture_alone():
    for path in MODULES:
        if part_of(path) == "doctor" and path != PICTURE:
            assert not [name for name in imports(path) if name.startswith("bn_keras.lab")], path


@pytest.mark.parametrize("path", [path for path in MODULES if part_of(path) in {"layers", "models"}], ids=identity)
def test_only_ops_compile_and_differentiate(path):
    words = re.findall(r"tf\.(function|custom_gradient|GradientTape|raw_ops|math|reduce_\w+)", path.read_text())
    assert not words


@pytest.mark.parametrize("path", MODULES, ids=identity)
def test_private_names_of_tensorflow_stay_in_one_place(path):
    if path == PACKAGE / "ops" / "compiler.py":
        return
    assert not [name for name in imports(path) if re.match(r"(tensorflow\.python|keras\.src|keras\._)", name)]


@pytest.mark.parametrize("path", MODULES, ids=identity)
def test_a_module_tells_one_story(path):
    lines = len(path.read_text().splitlines())
    # Past 300 lines look for a second story. These have one: the equations, both passes and their masks; the copier.
    long = {PACKAGE / "ops" / "whitening.py", PACKAGE / "surgery" / "copying.py"}
    assert lines <= (350 if path in long else 300)
    assert ast.get_docstring(ast.parse(path.read_text()))


def test_everything_at_the_top_level_is_in_the_design():
    allowed = {
        "bn_keras", "models", "notebooks", "benchmarks", "docs", "tests", "setup.cfg", "pyproject.toml", "Makefile",
        "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "CITATION.cff", "LICENSE", "MANIFEST.in",
    }  # fmt: skip
    visible = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}
    generated = {"build", "dist", "demo", "comparison", "run", "runs"}
    assert {name for name in visible - generated if not name.endswith(".egg-info")} <= allowed
