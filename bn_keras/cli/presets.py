"""The command `bn-keras presets`."""

import click

from bn_keras.cli.errors import needs


@click.command()
def presets():
    """List the networks that `bn-keras compare` trains."""
    with needs("lab"):
        import rich.console
        import rich.table

    from bn_keras.lab.markdown import size
    from bn_keras.models import build, list_presets, preset

    table = rich.table.Table("preset", "image", "parameters\nwithout norm", "with\nbatch norm", "what it is")
    for name in list_presets():
        entry = preset(name)
        counts = [f"{build(name, norm=norm).count_params():,}" for norm in (None, "batch")]
        table.add_row(name, size(entry.input_shape), *counts, entry.summary)
    rich.console.Console().print(table)
