"""`bn-keras train` as it is typed."""

import json
import os
import pty
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tests.cli.runner import typed
from tests.cli.test_compare import read_until

TINY = ("train", "mlp_sigmoid", "--width", "0.1", "--steps", "20")


@pytest.fixture(scope="module")
def training_run(tmp_path_factory):
    out = tmp_path_factory.mktemp("train") / "run"
    return out, *typed(*TINY, "--norm", "layer", "--out", out)


@pytest.mark.slow
def test_it_prints_the_data_each_evaluation_and_where_the_model_is(training_run):
    out, code, printed = training_run
    assert code == 0
    words = " ".join(printed.split())
    assert "digits: 1,437 training and 360 test examples" in words
    assert "held in memory" in words
    assert re.search(r"evaluation 10 of 10: step 20: loss \d\.\d+, accuracy \d+\.\d+%, [\d,]+ examples/s", words)
    assert re.search(r"Test accuracy \d+\.\d+% after 20 steps", words)
    assert f"{out}/model.keras" in words
    assert (out / "model.keras").exists()


@pytest.mark.slow
def test_it_does_not_overwrite_and_resumes(training_run):
    out, _, _ = training_run
    code, printed = typed(*TINY, "--norm", "layer", "--out", out)
    assert code == 1
    assert "exists already. Continue it with --resume" in " ".join(printed.split())
    code, printed = typed(*TINY, "--norm", "layer", "--out", out, "--resume")
    assert code == 0
    assert "Test accuracy" in printed
    code, printed = typed(*TINY, "--norm", "batch", "--out", out, "--resume")
    assert code == 1
    assert "was made with norm='layer', not 'batch'" in " ".join(printed.split())


@pytest.mark.slow
@pytest.mark.sample(1)
@pytest.mark.parametrize(
    ("arguments", "norm", "options"),
    [
        (("--norm", "none"), None, {}),
        (("--norm", "group:groups=4"), ["group", {"groups": 4}], {}),
        (("--norm", "batch:momentum=0.9,epsilon=0.01"), ["batch", {"momentum": 0.9, "epsilon": 0.01}], {}),
        ((), "batch", {}),
    ],
)
def test_norms_and_their_options(tmp_path, arguments, norm, options):
    code, printed = typed(*TINY, *arguments, "--out", tmp_path)
    assert code == 0, printed
    assert json.loads((tmp_path / "results.json").read_text())["recipe"]["norm"] == norm


@pytest.mark.slow
def test_options_of_a_preset(tmp_path):
    arguments = ("train", "mlp_relu_deep", "--option", "depth=2", "--option", "units=8", "--steps", "10")
    code, printed = typed(*arguments, "--out", tmp_path)
    assert code == 0, printed
    assert json.loads((tmp_path / "results.json").read_text())["recipe"]["options"] == {"depth": 2, "units": 8}


@pytest.mark.slow
def test_epochs_are_passes_over_the_training_examples(tmp_path):
    code, printed = typed("train", "mlp_sigmoid", "--epochs", "2", "--batch-size", "100", "--out", tmp_path)
    assert code == 0, printed
    recipe = json.loads((tmp_path / "results.json").read_text())["recipe"]
    assert (recipe["steps"], recipe["evaluate_every"]) == (28, 14)
    code, printed = typed("train", "mlp_sigmoid", "--epochs", "1", "--evaluate-every", "7", "--out", tmp_path / "more")
    assert code == 0, printed
    recipe = json.loads((tmp_path / "more" / "results.json").read_text())["recipe"]
    assert (recipe["steps"], recipe["evaluate_every"]) == (21, 7)


@pytest.mark.sample(1)
@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "steps", "every", "words"),
    [
        (("--epochs", "80", "--warmup", "1100"), 1120, 14, ""),
        (("--epochs", "2", "--evaluate-every", "500"), 28, 28, ""),
        (("--epochs", "2", "--evaluate-every", "9"), 27, 9, "2 epochs are 28 steps; the run has 27"),
        (("--epochs", "2", "--evaluate-every", "16"), 32, 16, "2 epochs are 28 steps; the run has 32"),
    ],
)
def test_epochs_with_other_lengths(tmp_path, arguments, steps, every, words):
    code, printed = typed("train", "mlp_sigmoid", *arguments, "--batch-size", "100", "--out", tmp_path)
    assert code == 0, printed
    recipe = json.loads((tmp_path / "results.json").read_text())["recipe"]
    assert (recipe["steps"], recipe["evaluate_every"]) == (steps, every)
    assert words in " ".join(printed.split())


@pytest.mark.slow
def test_validation_examples_and_a_gain(tmp_path):
    arguments = ("--validation-examples", "300", "--initial-gain", "2", "--out", tmp_path)
    code, printed = typed("train", "mlp_sigmoid", "--width", "0.1", "--epochs", "1", *arguments)
    assert code == 0
    results = json.loads((tmp_path / "results.json").read_text())
    assert (results["recipe"]["validation_examples"], results["recipe"]["initial_gain"]) == (300, 2.0)
    assert results["evaluations"][-1]["step"] == (1437 - 300) // 60, "an epoch has the examples that are left"
    assert f"Test accuracy {results['test_accuracy']:.2%}." in printed
    assert re.search(r"Validation accuracy \d+\.\d+% after 18 steps", " ".join(printed.split()))


@pytest.mark.slow
def test_a_folder_of_images(tmp_path):
    random = np.random.default_rng(0)
    for part, count in (("train", 8), ("test", 4)):
        for name in ("cats", "dogs"):
            (tmp_path / "images" / part / name).mkdir(parents=True)
            for index in range(count):
                image = tf.io.encode_png(random.integers(0, 256, (8, 8, 3), np.uint8)).numpy()
                (tmp_path / "images" / part / name / f"{index}.png").write_bytes(image)
    (tmp_path / "images" / "train" / "cats" / "broken.png").write_bytes(b"no image")
    arguments = ("train", "mlp_sigmoid", "--data", f"folder:{tmp_path / 'images'}", "--batch-size", "4")
    code, printed = typed(*arguments, "--steps", "4", "--out", tmp_path / "run")
    assert code == 0, printed
    assert "broken.png" in printed
    assert json.loads((tmp_path / "run" / "results.json").read_text())["data"]["skipped"] == 1


@pytest.mark.slow
def test_divergence_is_a_failure_with_advice(tmp_path):
    code, printed = typed("train", "inception_small", "--width", "0.1", "--norm", "none", "--learning-rate", "1e5",
                          "--steps", "4", "--out", tmp_path)  # fmt: skip
    assert code == 1
    assert "The loss was no longer finite at step" in printed
    assert "Lower --learning-rate" in " ".join(printed.split())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("train",), "Missing argument 'PRESET'"),
        (("train", "resnet21"), "Did you mean 'resnet20'?"),
        ((*TINY, "--norm", "bach"), "Did you mean 'batch'?"),
        ((*TINY, "--norm", "group:8"), "expected key=value, such as groups=8; received '8'"),
        ((*TINY, "--option", "depth=3"), "--option must be left out: 'mlp_sigmoid' has no options."),
        ((*TINY, "--optimizer", "lion"), "expected one of sgd, momentum, adam, adamw; received 'lion'."),
        ((*TINY, "--schedule", "step"), "'--schedule': expected one of constant, cosine,"),
        ((*TINY, "--augment", "flop"), "'--augment': expected different names of flip, shift,"),
        ((*TINY, "--dtype", "int8"), "'--dtype': expected one of float32,"),
        ((*TINY, "--target", "99"), "'--target': expected a number in (0, 1]; received '99'."),
        ((*TINY, "--warmup", "20"), "--warmup must be less than steps=20."),
        ((*TINY, "--evaluate-every", "3"), "--steps must be a multiple of evaluate_every=3."),
        (
            (*TINY, "--validation-examples", "0"),
            "'--validation-examples': expected an int in [1, 1000000000]; received '0'.",
        ),
        ((*TINY, "--validation-examples", "1430"), "must be between 10 and 1,427 for 'digits'"),
        ((*TINY, "--initial-gain", "0"), "'--initial-gain': expected a number in (0, 1000]; received '0'."),
        ((*TINY, "--initial-gain", "two"), "'--initial-gain'"),
        ((*TINY, "--norm", "group:groups=2,groups=4"), "expected each option once"),
        ((*TINY, "--epochs", "3"), "--epochs and --steps exclude each other."),
        (("train", "mlp_sigmoid", "--epochs", "0"), "'--epochs': expected an int in [1, 1000000]; received '0'."),
        (("train", "mlp_sigmoid", "--epochs", "1", "--warmup", "23"), "--warmup must be less than steps=23."),
        (("train", "mlp_sigmoid", "--epochs", "1", "--evaluate-every", "0"), "'--evaluate-every'"),
        ((*TINY, "--batch-size", "7", "--accumulate", "2"), "--batch-size must be a multiple of accumulate=2."),
        ((*TINY, "--replicas", "2"), "--replicas is for --strategy mirrored. Received: --strategy one."),
        ((*TINY, "--join-timeout", "0"), "'--join-timeout': expected a number in (0, 604800]; received '0'."),
        (
            ("train", "transformer_small", "--option", "depth=3", "--option", "hight=2"),
            "--option must be among",
        ),
        ((*TINY, "--data", "folder:nowhere"), "'--data': the folder 'nowhere' does not exist."),
        ((*TINY, "--data", "text:nowhere"), "'--data': the file 'nowhere' does not exist."),
        ((*TINY, "--image-size", "4096"), "Choose a smaller --image-size"),
        ((*TINY, "--data", "minst"), "mnist"),
        ((*TINY, "--norm", "group:groups=5"), "groups"),
        ((*TINY, "--norm", "batch:momentum=high"), "`momentum` must be in [0, 1]. Received: momentum='high'"),
        (
            ("train", "transformer_small", "--steps", "10"),
            "This network takes text, such as text:PATH or tiny_shakespeare.",
        ),
    ],
)
def test_typed_wrong(arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, printed = typed(*arguments)
    assert code == 2, printed
    assert words in " ".join(printed.split())
    assert "Traceback" not in printed


def test_several_workers_without_a_description_of_them(tmp_path, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    code, printed = typed(*TINY, "--strategy", "multiworker", "--out", tmp_path)
    assert code == 1
    assert "Several workers need the environment variable TF_CONFIG." in " ".join(printed.split())


@pytest.mark.slow
def test_ctrl_c_on_a_terminal_keeps_the_checkpoints(tmp_path):
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "bn_keras", "train", "mlp_sigmoid", "--steps", "20000", "--out", str(tmp_path)]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True) as process:
        os.close(theirs)
        read_until(ours, r"evaluation 2 of 10", 120)
        process.send_signal(signal.SIGINT)
        shown = read_until(ours, "Interrupted", 60)
        assert process.wait(60) == 1
    os.close(ours)
    assert "--resume" in shown
    assert "Traceback" not in shown
    assert list((tmp_path / "checkpoints").glob("*.index"))
