"""`bn-keras` itself: its commands, and what each needs to be installed."""

import os
import pathlib
import sys

import keras
import pytest

from bn_keras import BatchNorm
from bn_keras.cli import cli
from tests.cli.runner import typed
from tests.processes import run_process

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[2]
LAB = ("rich", "matplotlib", "sklearn", "tensorflow_datasets")
# Keras itself imports rich, so rich is hidden after Keras is loaded, as it is in a forked process.
HIDE = "import sys, keras; sys.modules.update(dict.fromkeys({hidden!r})); sys.argv[0] = 'bn-keras'; "


def without(hidden, code, *arguments, cwd=ROOT):
    """Runs code in a new process that cannot import the hidden packages: its exit code, output and errors."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", HIDE.format(hidden=[*hidden]) + code, *map(str, arguments)]
    done = run_process(command, cwd=cwd, env=environment)
    return done.returncode, done.stdout, done.stderr


def typed_without_lab(*arguments, cwd=ROOT):
    return without(LAB, "from bn_keras.cli import main; main(prog_name='bn-keras')", *arguments, cwd=cwd)


@pytest.fixture(scope="module")
def keras_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("files") / "model.keras"
    keras.Sequential([keras.Input((6, 6, 3)), keras.layers.Conv2D(4, 3), BatchNorm()]).save(path)
    return path


def test_the_core_needs_no_extra():
    hidden = ["click", *LAB]
    code, _, errors = without(hidden, "import bn_keras, bn_keras.models; bn_keras.models.build('mlp_sigmoid')")
    assert code == 0, errors
    code, _, errors = without(hidden, "import bn_keras.cli")
    assert code == 1
    assert "bn-keras needs click" in errors
    assert "pip install 'bn_keras[lab]'" in errors


def test_help_needs_click_alone():
    code, printed, errors = typed_without_lab("--help")
    assert code == 0, errors
    for name in cli.commands:
        assert f"\n  {name} " in printed
    for name in cli.commands:
        assert typed(name, "--help")[0] == 0


def test_the_help_of_every_command_needs_click_alone():
    code, printed, errors = without(
        LAB,
        "import click.testing; from bn_keras.cli import cli\n"
        "for name in cli.commands: print(name, click.testing.CliRunner().invoke(cli, [name, '--help']).exit_code)",
    )
    assert code == 0, errors
    assert printed.split() == [word for name in cli.commands for word in (name, "0")]


def test_export_does_not_need_the_lab(keras_file, tmp_path):
    code, printed, errors = typed_without_lab("export", keras_file, tmp_path / "out", "--fold")
    assert code == 0, errors
    assert "fold: 1 folded." in printed
    assert (tmp_path / "out" / "saved_model.pb").exists()


def test_pages_from_the_code_do_not_need_the_lab(tmp_path):
    code, printed, errors = typed_without_lab("page")
    assert code == 0, errors
    assert "docs/options.md" in printed
    code, printed, errors = typed_without_lab("page", "options", "--out", tmp_path / "options.md")
    assert code == 0, errors
    assert (tmp_path / "options.md").read_bytes() == (ROOT / "docs" / "options.md").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "command", "extra"),
    [
        (["compare"], "compare", "lab"),
        (["bench", "--quick"], "bench", "lab"),
        (["claims", "C8", "--quick"], "claims", "lab"),
        (["presets"], "presets", "lab"),
        (["page", "zoo", "--results", ROOT / "models", "--out", "zoo"], "page", "lab"),
        (["page", "folding", "--quick", "--out", "folding.md"], "page", "lab"),
        (["page", "serving", "--quick", "--out", "serving.md"], "page", "lab,export"),
        (["page", "surgery", "--quick", "--out", "surgery.md"], "page", "lab,dev"),
    ],
    ids=lambda each: each if isinstance(each, str) else None,
)
def test_a_command_names_the_missing_extra(arguments, command, extra, tmp_path):
    code, _, errors = typed_without_lab(*arguments, cwd=tmp_path)
    assert code == 1, errors
    assert f"`bn-keras {command}` needs packages of the extra '{extra}'" in errors
    assert f"pip install 'bn_keras[{extra}]'" in errors
    assert "Traceback" not in errors
    assert not list(tmp_path.iterdir()), "nothing is left behind"


def test_the_export_extra_declares_click():
    text = (ROOT / "setup.cfg").read_text(encoding="utf-8")
    extra = text.split("\nexport =\n")[1].split("\ndev =")[0]
    assert "    click>=" in extra


def test_an_unknown_command_suggests_the_nearest():
    code, printed = typed("compar")
    assert code == 2
    assert "Did you mean 'compare'?" in printed


def test_presets():
    code, printed = typed("presets")
    assert code == 0
    for word in ("mlp_sigmoid", "resnet50", "imagenet", "inception_small", "mnist"):
        assert word in printed


def test_presets_shows_the_card_of_one():
    code, printed = typed("presets", "mlp_sigmoid")
    assert code == 0
    for word in ("source", "100,010 trainable", "multiply-adds", "'mnist' with norm='batch'"):
        assert word in printed
    code, printed = typed("presets", "mlp_sigmod")
    assert code == 2
    assert "Did you mean 'mlp_sigmoid'?" in printed


def test_another_backend_is_refused():
    other = "keras.backend.backend = lambda: 'jax'; "
    for use in ("sys.argv[0] = 'program'; import bn_keras", "import bn_keras; bn_keras.BatchNorm"):
        code, _, errors = without([], other + use)
        assert code == 1
        assert "ImportError: bn_keras needs Keras to run on TensorFlow, but the Keras backend is 'jax'." in errors
