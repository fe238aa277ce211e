"""The command `bn-keras export`."""

import click

from bn_keras.choices.formats import FORMATS, free_path
from bn_keras.choices.names import PREPROCESSING
from bn_keras.cli.errors import options_in
from bn_keras.cli.start import load_keras
from bn_keras.cli.values import DataName, Name, Out, ranged

CALIBRATION_EXAMPLES = 512


@click.command()
@click.argument("model", type=click.Path(exists=True, dir_okay=False))
@click.argument("out", type=Out())
@click.option(
    "--format",
    type=Name(FORMATS),
    default="saved_model",
    show_default=True,
    help=f"Format of OUT: {', '.join(FORMATS)}.",
)
@click.option("--fold", is_flag=True, help="Merge batch norm into the layers beside it.")
@click.option(
    "--preprocessing", type=Name(PREPROCESSING), help=f"Rescale pixels inside OUT: {', '.join(PREPROCESSING)}."
)
@click.option("--opset", type=ranged("opset"), help="Version of ONNX' operators.  [default: that of tf2onnx]")
@click.option("--no-check", is_flag=True, help="Do not compare the outputs in a new process.")
@click.option(
    "--timeout", type=ranged("timeout"), default=300.0, show_default=True, help="Time limit of the check in seconds."
)
@click.option("--int8", is_flag=True, help="Fold and write 8-bit integers, with ranges from --calibrate.")
@click.option(
    "--calibrate",
    type=DataName(".npy"),
    metavar="DATA",
    help="Calibration data for --int8: a .npy file of examples, or the name of a data set.",
)
@click.option("--allow-drop", is_flag=True, help="Write the int8 file whatever its agreement with the model.")
def export(model, out, no_check, int8, calibrate, allow_drop, **choice):
    """Write MODEL, a .keras file, to OUT for serving without bn_keras.

    A new process that cannot import bn_keras loads OUT and compares its outputs with the model's. OUT stays only if
    they agree up to rounding; with --int8, if the top-1 agrees for 95 % of the calibration data and outputs differ by
    at most 5 % of the largest on average. The command overwrites nothing.
    """
    check_options(no_check, int8, calibrate, allow_drop, choice)
    try:
        free_path(out, FORMATS[choice["format"]])
    except ValueError as error:
        raise click.UsageError(options_in(error)) from None
    except OSError as error:
        raise click.ClickException(str(error)) from None
    load_keras()
    from bn_keras.export import ExportError, quantize
    from bn_keras.export import export as export_model

    try:
        if int8:
            limits = {"least_agreement": 0.0, "most_difference": float("inf")} if allow_drop else {}
            chosen = {name: choice[name] for name in ("format", "preprocessing", "timeout")}
            quantize(model, out, calibration_of(calibrate), report=click.echo, **chosen, **limits)
        else:
            export_model(model, out, check=not no_check, report=click.echo, **choice)
    except (EOFError, ExportError, ImportError, OSError, TypeError, ValueError) as error:
        raise click.ClickException(options_in(error)) from None
    except KeyboardInterrupt:
        raise click.ClickException("Interrupted. Nothing was written.") from None


def check_options(no_check, int8, calibrate, allow_drop, choice):
    """Refuses options that do not go together."""
    if choice["opset"] is not None and choice["format"] != "onnx":
        raise click.UsageError("--opset is for --format onnx. Leave out --opset, or add --format onnx.")
    if not int8:
        if calibrate is not None or allow_drop:
            raise click.UsageError("--calibrate and --allow-drop are for --int8. Add --int8, or leave them out.")
        return
    if not FORMATS[choice["format"]].int8:
        able = " or ".join(f"--format {name}" for name, format in FORMATS.items() if format.int8)
        raise click.UsageError(f"{FORMATS[choice['format']].title} has no int8. Add {able}.")
    if calibrate is None:
        raise click.UsageError("--int8 needs calibration data. Add --calibrate with a .npy file or a data set.")
    if no_check or choice["opset"] is not None:
        raise click.UsageError("--no-check and --opset are not for --int8. Leave them out; --allow-drop is for --int8.")


def calibration_of(text):
    """The examples of a `.npy` file, or some of a data set's training examples."""
    import numpy as np

    if text.endswith(".npy"):
        try:
            return np.load(text)
        except (ValueError, EOFError):  # NumPy's own words recommend unsafe loading
            raise ValueError(f"{text!r} cannot be read as numpy.save writes it, without objects of Python.") from None
    from bn_keras.experiments.data import load

    train = load(text).train
    if not hasattr(train, "inputs"):
        raise ValueError(f"The data set {text!r} is streamed. Save some hundred of its examples as a .npy file.")
    chosen = np.random.default_rng(0).permutation(train.examples)[:CALIBRATION_EXAMPLES]
    return train.inputs[chosen]
