"""A transformer that predicts the next token at every position."""

import functools

import keras

from bn_keras.models.blocks import MOST_DEPTH, add_branch, check_count, check_weights, scaled
from bn_keras.models.norms import Norm, normalize, refuse_kernel_norm
from bn_keras.models.norms import norm as new_norm
from bn_keras.models.preset import Preset


def transformer_small(
    *, norm, classes, input_shape, width, preprocessing, name, depth, heads, units, dropout, norm_first
):
    """Blocks of causal self-attention and of two dense layers, from int tokens to logits for the token behind each.

    In inference, the logits at a position depend on the tokens up to this position alone. While it trains, batch norm
    and its relatives take their statistics over the positions too, so that logits depend on later tokens.

    Args:
        depth: The number of blocks.
        heads: The number of attention heads, a divisor of `units` times `width`.
        units: The size of the embeddings.
        dropout: The rate behind the embeddings, in the attention and at the end of each branch, in [0, 1).
        norm_first: Whether a norm stands before each branch and before the logits, or behind each addition.
    """
    refuse_kernel_norm(norm, repr(name), "its norms stand before the branches. Use norm='layer' or norm='rms'")
    check_options(depth=depth, heads=heads, units=units, dropout=dropout, norm_first=norm_first)
    if preprocessing:
        raise ValueError(
            f"{name!r} takes tokens, and `preprocessing` is for images. Received: preprocessing={preprocessing!r}. "
            "Turn text into tokens before the model."
        )
    units = scaled(units, width)
    if units % heads:
        raise ValueError(
            f"`heads` must divide the size of the embeddings, {units}. Received: heads={heads!r}. "
            "Choose another number of heads, or other `units` or `width`."
        )
    check_weights((12 * depth * units + 2 * classes) * units, f"{depth} blocks of {units:,} units")
    refuse_later_tokens(norm, units, name)
    inputs = keras.Input(input_shape, dtype="int32", name="tokens")  # length
    x = keras.layers.Embedding(classes, units, embeddings_initializer=small(), name="token_embedding")(inputs)
    x = PositionEmbedding(name="position_embedding")(x)  # length×units
    x = drop(x, dropout, name="embedding_dropout")
    attend = functools.partial(attention, heads=heads, dropout=dropout)
    for i in range(1, depth + 1):  # length×units
        for branch, part in ((attend, "attention"), (dense, "dense")):
            x = residual(x, branch, norm=norm, norm_first=norm_first, dropout=dropout, name=f"block_{i}_{part}")
    if norm_first:
        x = normalize(x, norm, name="final_norm")
    outputs = keras.layers.Dense(classes, kernel_initializer=small(), name="logits")(x)  # length×classes
    return keras.Model(inputs, outputs, name=name)


def residual(x, branch, *, norm, norm_first, dropout, name):
    """`x` plus a branch, with the norm before the branch or behind the addition."""
    y = normalize(x, norm, name=f"{name}_norm") if norm_first else x
    y = drop(branch(y, name=name), dropout, name=f"{name}_dropout")
    x = add_branch(x, y, norm=norm, name=name)
    return x if norm_first else normalize(x, norm, name=f"{name}_norm")


def attention(x, *, heads, dropout, name):
    """Causal self-attention."""
    layer = keras.layers.MultiHeadAttention(
        heads, x.shape[-1] // heads, dropout=dropout, kernel_initializer=small(), name=name
    )
    return layer(x, x, use_causal_mask=True)


def dense(x, *, name):
    """Two dense layers, the first of four times the units, with a GELU between."""
    units = x.shape[-1]
    x = keras.layers.Dense(4 * units, kernel_initializer=small(), name=f"{name}_1")(x)
    x = keras.layers.Activation("gelu", name=f"{name}_gelu")(x)
    return keras.layers.Dense(units, kernel_initializer=small(), name=f"{name}_2")(x)


def drop(x, rate: float, name: str):
    """`x` through dropout, if there is some."""
    return keras.layers.Dropout(rate, name=name)(x) if rate else x


def small():
    """The initializer of GPT-2."""
    return keras.initializers.RandomNormal(stddev=0.02)


@keras.saving.register_keras_serializable("bn_keras")
class PositionEmbedding(keras.layers.Layer):
    """Adds a trainable vector for each position.

    >>> PositionEmbedding()(keras.ops.ones((2, 5, 3))).shape
    TensorShape([2, 5, 3])
    """

    def build(self, input_shape):
        self.embeddings = self.add_weight(name="embeddings", shape=input_shape[1:], initializer=small())

    def call(self, inputs):
        return inputs + self.embeddings

    def compute_output_shape(self, input_shape):
        return input_shape


def check_options(*, depth, heads, units, dropout, norm_first) -> None:
    for option, value in (("depth", depth), ("heads", heads), ("units", units)):
        check_count(option, value, MOST_DEPTH if option == "depth" else None)
    if isinstance(dropout, bool) or not isinstance(dropout, (int, float)) or not 0 <= dropout < 1:
        raise ValueError(f"`dropout` must be a number in [0, 1). Received: dropout={dropout!r}.")
    if not isinstance(norm_first, bool):
        raise TypeError(f"`norm_first` must be True or False. Received: norm_first={norm_first!r}.")


def refuse_later_tokens(norm: Norm, units: int, name: str) -> None:
    """Refuses a norm that lets a position see later ones in inference; tries it, as `norm` may be any callable."""
    layer = new_norm(norm)
    embedded = keras.ops.reshape(keras.ops.arange(2 * units, dtype="float32"), (1, 2, units))
    other_end = embedded * keras.ops.array([[[1.0], [-2.0]]])
    first, second = (layer(x, training=False)[:, 0] for x in (embedded, other_end))
    if keras.ops.any(first != second):
        raise ValueError(
            f"`norm={norm!r}` cannot stand in {name!r}: {type(layer).__name__} normalizes over the positions, so that "
            "a prediction would see the tokens that follow. Use norm='layer', norm='rms' or norm='batch'."
        )


PRESETS = [
    Preset(
        name="transformer_small",
        summary="four blocks of causal attention, for texts of characters",
        source="Radford et al. 2019, Language Models are Unsupervised Multitask Learners, section 2.3, with the sizes "
        "that nanoGPT trains on a CPU",
        builder=transformer_small,
        classes=65,
        input_shape=(64,),
        options={"depth": 4, "heads": 4, "units": 128, "dropout": 0.0, "norm_first": True},
    ),
]
