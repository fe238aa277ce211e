"""Models that users write with layer and model classes of their own."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from bn_keras.pages.surgery_models.entry import BATCH, Entry, images, vectors
from bn_keras.pages.surgery_models.graphs import batch_norm

register = keras.saving.register_keras_serializable(package="surgery_models")


@register
class GAN(keras.Model):
    """A generator and a discriminator with a training step of their own."""

    def __init__(self, generator, discriminator, **kwargs):
        super().__init__(**kwargs)
        self.generator, self.discriminator = generator, discriminator

    def call(self, noise, training=None):
        return self.discriminator(self.generator(noise, training=training), training=training)

    def train_step(self, images):
        noise = keras.random.normal((BATCH, 6))
        with tf.GradientTape() as tape:
            loss = keras.ops.mean(self(noise, training=True)) - keras.ops.mean(self.discriminator(images))
        self.optimizer.apply(tape.gradient(loss, self.trainable_variables), self.trainable_variables)
        return {"loss": loss}

    def get_config(self):
        parts = {"generator": self.generator, "discriminator": self.discriminator}
        return {"name": self.name} | {key: keras.saving.serialize_keras_object(part) for key, part in parts.items()}

    @classmethod
    def from_config(cls, config):
        parts = ("generator", "discriminator")
        return cls(
            **config | {key: keras.saving.deserialize_keras_object(config[key]) for key in parts},
        )


def gan():
    generator = [keras.Input((6,)), layers.Dense(32), layers.Reshape((4, 4, 2)), batch_norm(), layers.LeakyReLU()]
    generator += [layers.Conv2DTranspose(4, 4, strides=2, padding="same", use_bias=False), batch_norm(), layers.ReLU()]
    critic = [keras.Input((8, 8, 4)), layers.Conv2D(4, 3, strides=2), batch_norm(), layers.LeakyReLU()]
    model = GAN(
        keras.Sequential(generator, name="generator"),
        keras.Sequential([*critic, layers.Flatten(), layers.Dense(1)], name="discriminator"),
        name="gan",
    )
    model(np.zeros((1, 6), "float32"))
    return model


@register
class TiedLogits(layers.Layer):
    """Logits by the table of an embedding that the graph calls too."""

    def __init__(self, embedding, **kwargs):
        super().__init__(**kwargs)
        self.embedding = embedding

    def call(self, x):
        return keras.ops.matmul(x, keras.ops.transpose(self.embedding.embeddings))

    def get_config(self):
        return {**super().get_config(), "embedding": keras.saving.serialize_keras_object(self.embedding)}

    @classmethod
    def from_config(cls, config):
        return cls(**config | {"embedding": keras.saving.deserialize_keras_object(config["embedding"])})


def tied():
    x = keras.Input((5,), dtype="int32")
    table = layers.Embedding(7, 4, name="table")
    y = layers.LayerNormalization()(layers.Dense(4)(batch_norm()(layers.Dense(4)(table(x)))))
    return keras.Model(x, TiedLogits(table)(y), name="tied")


@register
class Guide(keras.Model):
    """A functional model with a training step of its own, as the guide of Keras has it."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.error = keras.metrics.MeanAbsoluteError(name="error")

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            predicted = self(x, training=True)
            loss = keras.ops.mean(keras.ops.square(y - predicted))
        self.optimizer.apply(tape.gradient(loss, self.trainable_variables), self.trainable_variables)
        self.error.update_state(y, predicted)
        return {"error": self.error.result()}


def train_step():
    x = keras.Input((6,))
    y = layers.ReLU()(batch_norm()(layers.Dense(5)(x)))
    return Guide(x, layers.Dense(2)(batch_norm()(layers.Dense(4)(y))), name="train_step")


@register
class Sampling(layers.Layer):
    """A draw from the posterior, in inference too."""

    def __init__(self, seed=1, **kwargs):
        super().__init__(**kwargs)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, mean, log_variance):
        noise = keras.random.normal(keras.ops.shape(mean), seed=self.seed_generator)
        return mean + keras.ops.exp(log_variance / 2) * noise

    def get_config(self):
        return {**super().get_config(), "seed": self.seed}


def vae():
    x = keras.Input((8,))
    y = layers.ReLU()(batch_norm()(layers.Dense(6)(x)))
    z = Sampling()(layers.Dense(3, name="mean")(y), layers.Dense(3, name="log_variance")(y))
    y = layers.ReLU()(batch_norm()(layers.Dense(6)(z)))
    return keras.Model(x, layers.Dense(8)(y), name="vae")


@register
class Block(layers.Layer):
    """Convolution, batch norm and ReLU, with a squeeze-and-excite part that is made in `build`."""

    def __init__(self, filters, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.conv = layers.Conv2D(filters, 3, padding="same", use_bias=False)
        self.norm = batch_norm()

    def build(self, input_shape):
        self.conv.build(input_shape)
        self.norm.build((*input_shape[:-1], self.filters))
        self.gate = layers.Dense(self.filters, activation="sigmoid")
        self.gate.build((None, self.filters))
        super().build(input_shape)

    def call(self, x, training=None):
        x = keras.ops.relu(self.norm(self.conv(x), training=training))
        return x * self.gate(keras.ops.mean(x, axis=(1, 2), keepdims=True))

    def get_config(self):
        return {**super().get_config(), "filters": self.filters}


@register
class Stage(layers.Layer):
    """Blocks in a list and a batch norm in a dict, with a sum around all."""

    def __init__(self, filters, depth, **kwargs):
        super().__init__(**kwargs)
        self.filters, self.depth = filters, depth
        self.blocks = [Block(filters) for _ in range(depth)]
        self.parts = {"shortcut": layers.Conv2D(filters, 1), "norm": batch_norm()}

    def build(self, input_shape):
        self.parts["shortcut"].build(input_shape)
        wide = (*input_shape[:-1], self.filters)
        self.parts["norm"].build(wide)
        for i, block in enumerate(self.blocks):
            block.build(wide if i else input_shape)
        super().build(input_shape)

    def call(self, x, training=None):
        y = x
        for block in self.blocks:
            y = block(y, training=training)
        return y + self.parts["norm"](self.parts["shortcut"](x), training=training)

    def get_config(self):
        return {**super().get_config(), "filters": self.filters, "depth": self.depth}


@register
class Nested(keras.Model):
    """A subclassed model of stages of blocks, with a Sequential head."""

    def __init__(self, filters=4, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.stages = [Stage(filters, 2), Stage(2 * filters, 1)]
        self.head = keras.Sequential([layers.GlobalAveragePooling2D(), layers.Dense(4), batch_norm(), layers.Dense(2)])

    def call(self, x, training=None):
        for stage in self.stages:
            x = stage(x, training=training)
        return self.head(x, training=training)

    def get_config(self):
        return {"name": self.name, "filters": self.filters}


def sequence_of_ids(random):
    return random.integers(0, 7, (BATCH, 5)).astype("int32")


MODELS = {
    "GAN": Entry(gan, vectors(6)),
    "tied weights": Entry(tied, sequence_of_ids),
    "custom `train_step`": Entry(train_step, vectors(6)),
    "VAE that samples in inference": Entry(vae, vectors(8)),
    "nested custom blocks": Entry(Nested, images(8)),
}
