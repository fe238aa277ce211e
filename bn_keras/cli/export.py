"""The command `bn-keras export`."""

import click

from bn_keras.choices.formats import FORMATS, free_path
from bn_keras.choices.names import PREPROCESSING
from bn_keras.cli.start import load_keras
from bn_keras.cli.values import Name, ranged


@click.command()
@click.argument("model", type=click.Path(exists=True, dir_okay=False))
@click.argument("out", type=click.Path())
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
def export(model, out, no_check, **choice):
    """Write MODEL, a .keras file, to OUT for serving without bn_keras.

    A new process that cannot import bn_keras loads OUT and compares its outputs with the model's. OUT stays only if
    they agree up to rounding. The command overwrites nothing.
    """
    if choice["opset"] is not None and choice["format"] != "onnx":
        raise click.UsageError("--opset is for --format onnx. Leave out --opset, or add --format onnx.")
    try:
        free_path(out, FORMATS[choice["format"]])
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    except OSError as error:
        raise click.ClickException(str(error)) from None
    load_keras()
    from bn_keras.export import ExportError
    from bn_keras.export import export as export_model

    try:
        export_model(model, out, check=not no_check, report=click.echo, **choice)
    except (ExportError, ImportError, OSError, TypeError, ValueError) as error:
        raise click.ClickException(str(error)) from None
    except KeyboardInterrupt:
        raise click.ClickException("Interrupted. Nothing was written.") from None
