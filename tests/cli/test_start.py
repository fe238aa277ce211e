"""What `bn-keras` answers before TensorFlow is loaded: help, completion and usage errors."""

import json
import os
import pathlib
import sys

import keras
import pytest

import bn_keras
from bn_keras import BatchNorm
from bn_keras.cli import cli
from tests.processes import run_process

ROOT = pathlib.Path(__file__).parents[2]
HEAVY = ("tensorflow", "keras", "matplotlib", "jax", "scipy", "sklearn")
HELPS = [[], ["--help"], ["--version"], ["claims", "--list"], *([name, "--help"] for name in cli.commands)]
USAGE_ERRORS = [
    ["trian"],
    ["train"],
    ["train", "resnet21"],
    ["train", "mlp_sigmoid", "--epochz", "3"],
    ["train", "mlp_sigmoid", "--batch-size", "1e9"],
    ["train", "mlp_sigmoid", "--norm", "bach"],
    ["train", "mlp_sigmoid", "--norm", "group:8"],
    ["train", "mlp_sigmoid", "--optimizer", "lion"],
    ["train", "mlp_sigmoid", "--data", "two words"],
    ["train", "mlp_sigmoid", "--data", "folder:nowhere"],
    ["train", "transformer_small", "--data", "text:nowhere.txt"],
    ["train", "mlp_sigmoid", "--steps", "20", "--warmup", "20"],
    ["train", "mlp_sigmoid", "--steps", "20", "--epochs", "1"],
    ["train", "mlp_sigmoid", "--replicas", "2"],
    ["compare", "mlp_sigmod"],
    ["compare", "--norms", "batch,layer"],
    ["compare", "--steps", "100", "--evaluate-every", "30"],
    ["compare", "--out", "setup.cfg"],
    ["train", "mlp_sigmoid", "--out", "setup.cfg"],
    ["claims", "C8", "--quick", "--out", "setup.cfg"],
    ["claims", "C88"],
    ["claims", "--jobs", "1000000"],
    ["bench", "--group", "bach"],
    ["export", "nothing.keras", "out"],
    ["export", "setup.cfg", ""],
    ["export", "setup.cfg", "out.tflite", "--format", "tflite", "--int8", "--calibrate", "nothing.npy"],
    ["export", "setup.cfg", "out.tflite", "--format", "tflite", "--int8", "--calibrate", "folder:nowhere"],
    ["doctor", "setup.cfg", "--data", "nothing.npz"],
    ["doctor", "setup.cfg", "--data", "digits", "--json", "nowhere/report.json"],
    ["page", "foldng"],
    ["page", "options", "--quick", "--out", "page.md"],
    ["presets", "mlp_sigmod"],
]
# Runs the command for each list of arguments, and tells after which one a heavy package was there.
MANY = f"""
import json, sys
sys.argv[0] = "bn-keras"
import click.testing
from bn_keras.cli import cli
codes, loaded = [], {{}}
for arguments in json.loads(sys.argv[1]):
    codes.append(click.testing.CliRunner().invoke(cli, arguments, prog_name="bn-keras").exit_code)
    loaded[" ".join(arguments)] = sorted(set({HEAVY!r}) & set(sys.modules))
print(json.dumps([codes, loaded]))
"""


def run(*command, **environment):
    """Runs Python in a new process."""
    variables = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    variables |= {"PYTHONPATH": str(ROOT)} | environment
    return run_process([sys.executable, *command], cwd=ROOT, env=variables, new=True)


@pytest.mark.parametrize(("commands", "code"), [(HELPS, 0), (USAGE_ERRORS, 2)], ids=["help", "usage errors"])
def test_nothing_heavy_is_imported(commands, code):
    done = run("-c", MANY, json.dumps(commands))
    assert done.returncode == 0, done.stderr
    codes, loaded = json.loads(done.stdout)
    assert loaded == {" ".join(arguments): [] for arguments in commands}
    assert codes == [code] * len(commands)


@pytest.mark.parametrize("arguments", [["--help"], ["train", "resnet21"]], ids=" ".join)
def test_the_module_as_a_command_imports_nothing_heavy(arguments):
    done = run("-X", "importtime", "-m", "bn_keras", *arguments)
    imported = {line.split("|")[-1].strip().split(".")[0] for line in done.stderr.splitlines() if "|" in line}
    assert "click" in imported
    assert not imported & set(HEAVY)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("bn-keras pr", ["presets"]),
        ("bn-keras train resnet2", ["resnet20"]),
        ("bn-keras presets mlp_", ["mlp_relu_deep", "mlp_sigmoid"]),
        ("bn-keras train mlp_sigmoid --norm l", ["layer"]),
        ("bn-keras compare --norms none,gr", ["none,group"]),
        ("bn-keras train mlp_sigmoid --augment flip,sh", ["flip,shift"]),
        ("bn-keras train mlp_sigmoid --data mn", ["mnist"]),
        ("bn-keras train mlp_sigmoid --optimizer ada", ["adam", "adamw"]),
        ("bn-keras train mlp_sigmoid --dtype mixed_b", ["mixed_bfloat16"]),
        ("bn-keras export --format on", ["onnx"]),
        ("bn-keras page fo", ["folding"]),
        ("bn-keras claims C1", ["C1", "C10", "C11", "C12", "C13", "C14", "C15"]),
        ("bn-keras bench --group batch-x", ["batch-xla"]),
    ],
)
def test_the_shell_completes(words, expected, monkeypatch):
    from click.shell_completion import BashComplete

    *before, incomplete = words.split()[1:]
    completion = BashComplete(cli, {}, "bn-keras", "_BN_KERAS_COMPLETE")
    assert [item.value for item in completion.get_completions(before, incomplete)] == expected


def test_completion_imports_nothing_heavy():
    asked = {"_BN_KERAS_COMPLETE": "bash_complete", "COMP_WORDS": "bn-keras train resnet2", "COMP_CWORD": "2"}
    done = run("-X", "importtime", "-m", "bn_keras", **asked)
    assert done.stdout.split() == ["plain,resnet20"]
    assert not [line for line in done.stderr.splitlines() if line.split("|")[-1].strip() in HEAVY]


def test_without_a_command_the_first_commands_are_shown():
    done = run("-m", "bn_keras")
    assert done.returncode == 0
    for words in ("Start here:", "bn-keras train mlp_sigmoid", "bn-keras compare mlp_sigmoid --quick", "Commands:"):
        assert words in done.stdout


@pytest.mark.slow
def test_import_registers_the_layers_for_a_stored_model(tmp_path):
    keras.Sequential([keras.Input((3,)), BatchNorm()]).save(tmp_path / "model.keras")
    code = "import bn_keras, keras, sys; print(keras.models.load_model(sys.argv[1]).layers[-1].__class__.__name__)"
    done = run("-c", code, tmp_path / "model.keras")
    assert done.stdout == "BatchNorm\n", done.stderr


@pytest.mark.parametrize(
    ("argv", "orig_argv", "expected"),
    [
        (["/usr/bin/bn-keras", "train"], ["python", "/usr/bin/bn-keras", "train"], True),
        (["C:/Scripts/bn-keras.exe"], ["C:/Scripts/bn-keras.exe"], True),
        (["-m", "--help"], ["python", "-X", "importtime", "-m", "bn_keras", "--help"], True),
        (["-m"], ["python", "-mbn_keras"], True),
        (["/lib/bn_keras/__main__.py", "claims"], ["python", "-c", "from multiprocessing.spawn import …"], True),
        (["-m", "bn_keras"], ["python", "-m", "mine", "bn_keras"], False),
        (["-m"], ["python", "-m", "bn_keras.bench.worker"], False),
        (["train.py"], ["python", "train.py"], False),
        ([""], ["python"], False),
        ([], ["python"], False),
    ],
)
def test_the_command_is_recognized_by_what_was_started(argv, orig_argv, expected, monkeypatch):
    monkeypatch.setattr(sys, "argv", argv)
    monkeypatch.setattr(sys, "orig_argv", orig_argv)
    assert bn_keras._is_command() is expected


@pytest.mark.slow
def test_the_public_names_load_where_the_command_waits():
    code = "import sys; sys.argv[0] = 'bin/bn-keras'; import bn_keras; early = 'keras' in sys.modules\n"
    code += "from bn_keras import BatchNorm, models; print(early, BatchNorm.__name__, models.list_presets()[0])"
    done = run("-c", code)
    assert done.stdout == "False BatchNorm bn_inception\n", done.stderr
    done = run("-c", "import sys; sys.argv[0] = 'bn-keras'; import bn_keras; bn_keras.BatchNom")
    assert "module 'bn_keras' has no attribute 'BatchNom'" in done.stderr


@pytest.mark.slow
def test_a_command_prints_no_line_of_tensorflow(tmp_path):
    arguments = ["train", "mlp_sigmoid", "--width", "0.1", "--steps", "10", "--out", tmp_path]
    done = run("-m", "bn_keras", *arguments)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "Test accuracy" in done.stdout
