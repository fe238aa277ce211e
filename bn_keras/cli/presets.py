"""The command `bn-keras presets`."""

import click

from bn_keras.cli.errors import needs
from bn_keras.cli.start import load_keras
from bn_keras.cli.values import PRESET


@click.command()
@click.argument("name", type=PRESET, required=False)
def presets(name):
    """List the networks that `bn-keras train` and `compare` train, or show the card of the one called NAME.

    The card names the source, the input, the parameters, the multiply-adds, the stages and the weights.
    """
    load_keras()
    if name is None:
        show_list()
        return
    from bn_keras.models import describe

    click.echo(describe(name))


def show_list():
    """Prints a line for each preset."""
    with needs("lab"):
        import rich.console
        import rich.table

    from bn_keras.lab.markdown import size
    from bn_keras.models import list_presets, preset
    from bn_keras.models.weights import cards

    table = rich.table.Table("preset", "input", "weights", "what it is")
    for name in list_presets():
        entry = preset(name)
        weights = dict.fromkeys([*(card.data for card in cards() if card.preset == name), *entry.pretrained])
        table.add_row(name, size(entry.input_shape), "\n".join(weights), entry.summary)
    rich.console.Console().print(table)
