"""Models that users wire from Keras' own layers."""

import keras
import numpy as np
from keras import layers

from bn_keras.pages.surgery_models.entry import BATCH, Entry, images, vectors


def batch_norm(**settings):
    return layers.BatchNormalization(momentum=0.9, **settings)


def conv_norm_relu(x, filters, **settings):
    x = layers.Conv2D(filters, 3, padding="same", use_bias=False, **settings)(x)
    return layers.ReLU()(batch_norm()(x))


def u_net():
    x = keras.Input((16, 16, 3))
    one = conv_norm_relu(x, 6)
    two = conv_norm_relu(layers.MaxPooling2D()(one), 8)
    y = layers.Conv2DTranspose(6, 2, strides=2)(conv_norm_relu(layers.MaxPooling2D()(two), 8))
    y = layers.UpSampling2D()(conv_norm_relu(layers.Concatenate()([batch_norm()(y), two]), 6))
    return keras.Model(x, layers.Conv2D(2, 1)(conv_norm_relu(layers.Concatenate()([y, one]), 6)), name="u_net")


def siamese():
    row = [keras.Input((8, 8, 1)), layers.Conv2D(4, 3), batch_norm(), layers.ReLU(), layers.Flatten(), layers.Dense(5)]
    encoder = keras.Sequential([*row, layers.LayerNormalization()], name="encoder")
    left, right = keras.Input((8, 8, 1), name="left"), keras.Input((8, 8, 1), name="right")
    distance = keras.ops.abs(encoder(left) - encoder(right))
    return keras.Model([left, right], layers.Dense(1)(distance), name="siamese")


def pairs(random):
    return [images(8, 1)(random), images(8, 1)(random)]


def conv_lstm():
    x = keras.Input((3, 6, 6, 2))
    y = batch_norm()(layers.ConvLSTM2D(3, 3, return_sequences=True)(x))
    y = batch_norm()(layers.ConvLSTM2D(3, 3)(y))
    return keras.Model(x, layers.Dense(2)(layers.Flatten()(y)), name="conv_lstm")


def lora():
    x = keras.Input((6,))
    low_rank = [layers.Dense(8, name="low_rank_1"), layers.Dense(4, name="low_rank_2")]
    y = layers.ReLU()(batch_norm()(low_rank[0](x)))
    y = layers.LayerNormalization()(low_rank[1](y))
    model = keras.Model(x, layers.Dense(2)(y), name="lora")
    for layer in low_rank:
        layer.enable_lora(2)
    return model


def multi_input():
    inputs = {"image": keras.Input((8, 8, 3), name="image"), "table": keras.Input((5,), name="table")}
    y = layers.GlobalAveragePooling2D()(conv_norm_relu(inputs["image"], 4))
    z = layers.ReLU()(batch_norm()(layers.Dense(4)(inputs["table"])))
    y = layers.Concatenate()([y, z])
    outputs = {"class": layers.Dense(3)(y), "value": batch_norm(name="value")(layers.Dense(1)(y))}
    return keras.Model(inputs, outputs, name="multi_input")


def image_and_table(random):
    return {"image": images(8)(random), "table": random.normal(size=(BATCH, 5)).astype("float32")}


FACTOR = 1.5


def functions():
    row = [keras.Input((6,)), layers.Dense(5), batch_norm(), layers.Lambda(lambda x: keras.ops.tanh(x) * FACTOR)]
    return keras.Sequential([*row, layers.Dense(4), batch_norm(), layers.Dense(2)], name="functions")


def lookups():
    words, counts = keras.Input((2,), dtype="string", name="words"), keras.Input((2,), dtype="int64", name="counts")
    amounts = keras.Input((3,), name="amounts")
    word = layers.StringLookup(vocabulary=["red", "green", "blue"])
    count = layers.IntegerLookup(vocabulary=[7, 42, 9])
    standardize = layers.Normalization(name="standardize")
    standardize.adapt(np.random.default_rng(1).normal(5, 3, (50, 3)))
    parts = [layers.Embedding(5, 3)(word(words)), layers.Embedding(5, 3)(count(counts))]
    y = layers.Concatenate()([*(layers.Flatten()(part) for part in parts), standardize(amounts)])
    y = layers.ReLU()(batch_norm()(layers.Dense(6)(y)))
    inputs = {"words": words, "counts": counts, "amounts": amounts}
    return keras.Model(inputs, layers.Dense(2)(y), name="lookups")


def words_and_counts(random):
    return {
        "words": random.choice(["red", "green", "blue", "pink"], (BATCH, 2)),
        "counts": random.choice([7, 42, 9, 1], (BATCH, 2)).astype("int64"),
        "amounts": random.normal(5, 3, (BATCH, 3)).astype("float32"),
    }


def videos(random):
    return random.normal(size=(BATCH, 3, 6, 6, 2)).astype("float32")


MODELS = {
    "U-Net": Entry(u_net, images(16)),
    "Siamese": Entry(siamese, pairs),
    "ConvLSTM": Entry(conv_lstm, videos),
    "LoRA": Entry(lora, vectors(6)),
    "several inputs and outputs": Entry(multi_input, image_and_table),
    "Lambda with a global": Entry(functions, vectors(6)),
    "lookups and adapted inputs": Entry(lookups, words_and_counts),
}
