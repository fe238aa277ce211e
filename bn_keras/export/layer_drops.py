"""What int8 takes from each layer: the rows of `drop.py` with the names of Keras layers."""

import dataclasses
import re

from bn_keras.surgery.tree import layers_of


@dataclasses.dataclass(frozen=True)
class LayerDrop:
    """What int8 takes from one activation.

    Attributes:
        layer: Str, the name of the Keras layer that computes the activation; the name of the tensor if no layer does;
            `"output"` for an output of the model.
        tensor: Str, the name of the tensor in the file.
        error: Float, the Euclidean norm of the difference between the int8 and the float32 file, over the norm of the
            float32 activation. It holds the errors of all layers before.
        rounding: Float from 0 to 1, the mean relative error of an element of the float32 activation that is rounded and
            clipped to the range of this tensor: the part that this layer adds. 0.03 is usual; it nears 1 where one
            channel has much larger values than the others. `None` for an output, which the file gives in float32.
    """

    layer: str
    tensor: str
    error: float
    rounding: float | None


def drops(rows: list, endpoint) -> tuple[LayerDrop, ...]:
    """A `LayerDrop` for each row of `drop.py`."""
    names = {layer.name for layer in layers_of(endpoint.model)}
    scopes = {part for op in endpoint.concrete.graph.get_operations() for part in op.name.split("/")}
    numbered = endpoint.model.name not in scopes
    return tuple(
        LayerDrop("output" if rounding is None else layer_named(tensor, names, numbered), tensor, error, rounding)
        for tensor, error, rounding in rows
    )


def layer_named(tensor: str, names: set[str], numbered: bool) -> str:
    """The layer of a tensor, by the scopes in its name; the name itself where no scope is a layer.

    Args:
        tensor: The name: scopes separated by `/`; of fused ops, the names of all, the last op first.
        names: The names of all layers.
        numbered: Whether Keras appends a number to the name of a layer to make it a scope.

    >>> layer_named("net_1/conv_1/Relu;net_1/conv/BiasAdd", {"conv", "conv_1"}, numbered=True)
    'conv'
    >>> layer_named("net/conv_1/Relu;net/conv/BiasAdd", {"conv", "conv_1"}, numbered=False)
    'conv_1'
    """
    scopes = tensor.partition(";")[0].partition(":")[0].split("/")
    for scope in reversed(scopes):
        plain = re.sub(r"_\d+$", "", scope)
        for name in (plain, scope) if numbered else (scope, plain):
            if name in names:
                return name
    return tensor


def worst_of(layers: tuple[LayerDrop, ...], count: int) -> list[LayerDrop]:
    return sorted(layers, key=lambda each: each.rounding or 0.0, reverse=True)[:count]


def worst_text(layers: tuple[LayerDrop, ...]) -> str:
    worst = ", ".join(f"{each.layer} {each.rounding:.2%}" for each in worst_of(layers, 3) if each.rounding)
    return f"Largest rounding errors: {worst or 'none'}."
