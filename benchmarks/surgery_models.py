"""Models that surgery is shown on: those of KerasHub in tiny configurations, and those that users write.

`CATALOGUE` has an `Entry` by name. Its model has the layers and the wiring of the real one and a few units of each.
"""

import dataclasses
import functools
import typing

import keras
import numpy as np
import tensorflow as tf

layers = keras.layers
register = keras.saving.register_keras_serializable(package="surgery_models")
BATCH = 4


@dataclasses.dataclass(frozen=True)
class Entry:
    """A model and what it is given.

    Attributes:
        build: Returns a new model with weights.
        inputs: From a `np.random.Generator` to inputs for `BATCH` examples.
        needs_hub: Whether the model is one of KerasHub.
    """

    build: typing.Callable[[], keras.Model]
    inputs: typing.Callable[[np.random.Generator], typing.Any]
    needs_hub: bool = False

    def made(self) -> tuple[keras.Model, typing.Any]:
        """A model with weights that are not trivial, and inputs: the same ones each time."""
        keras.utils.set_random_seed(0)
        random = np.random.default_rng(0)
        model, x = self.build(), self.inputs(random)
        call(model, x)  # gives a subclassed model its weights
        randomize(model, x, random)
        return model, x


def call(model, x, **arguments):
    return model(keras.tree.map_structure(tf.constant, x), **arguments)


def randomize(model, x, random):
    """Random scales, offsets and biases for weights that start constant, then statistics near those of the inputs.

    Kernels keep their initial values. With other statistics a deep network answers the same to every input.
    """
    for weight in model.weights:
        constant = np.ptp(keras.ops.convert_to_numpy(weight)) == 0
        fixed = weight.name.startswith("moving_") or weight.path.split("/")[-2:-1] == ["standardize"]
        if constant and not fixed and keras.backend.is_float_dtype(weight.dtype):
            positive = weight.name in ("gamma", "scale", "lambda") or "layer_scale" in weight.path
            values = random.uniform(0.5, 1.5, weight.shape) if positive else random.normal(0, 0.2, weight.shape)
            weight.assign(values)
    norms = [layer for layer in layers_inside(model) if isinstance(layer, layers.BatchNormalization) and layer.built]
    momentum = {norm: norm.momentum for norm in norms}
    for norm in norms:
        norm.momentum = 0.0
    call(model, x, training=True)
    for norm in norms:
        norm.momentum = momentum[norm]
        norm.moving_mean.assign_add(random.normal(0, 0.1, norm.moving_mean.shape))
        norm.moving_variance.assign(norm.moving_variance * random.uniform(0.8, 1.5, norm.moving_variance.shape) + 1e-3)


def layers_inside(model) -> list[keras.layers.Layer]:
    """Every layer that Keras tracks in a model, found without bn_keras; the only private name used here."""
    return list(model._flatten_layers())


# What models are given.


def images(side, channels=3):
    return lambda random: random.normal(0.3, 1.0, (BATCH, side, side, channels)).astype("float32")


def tokens(*names, length=5, vocabulary=10):
    """Token ids, with padding in some rows and two segments where a model has masks and segments."""

    def make(random):
        x = {"token_ids": random.integers(1, vocabulary, (BATCH, length)).astype("int32")}
        mask = np.ones((BATCH, length), "int32")
        mask[1, length // 2 + 1 :] = 0
        x |= {"padding_mask": mask, "segment_ids": random.integers(0, 2, (BATCH, length)).astype("int32")}
        return {name: x[name] for name in ("token_ids", *names)}

    return make


def two_texts(random):
    """The inputs of an encoder and of a decoder."""
    one, other = tokens("padding_mask", length=4)(random), tokens("padding_mask", length=5)(random)
    return {f"encoder_{name}": value for name, value in one.items()} | {
        f"decoder_{name}": value for name, value in other.items()
    }


# KerasHub.


def hub(name, **settings):
    """A model of KerasHub, imported when it is built."""

    def build():
        import keras_hub

        made = {key: value() if isinstance(value, Part) else value for key, value in settings.items()}
        return getattr(keras_hub.models, name)(**made)

    return build


class Part(functools.partial):
    """An argument of a model of KerasHub that is itself to be built."""


TEXT = {"vocabulary_size": 10, "num_layers": 2, "num_heads": 2, "hidden_dim": 8, "intermediate_dim": 12}
POSITIONS = TEXT | {"max_sequence_length": 6}
GROUPED = {
    "vocabulary_size": 10, "num_layers": 2, "num_query_heads": 4, "num_key_value_heads": 2, "hidden_dim": 16,
    "intermediate_dim": 12,
}  # fmt: skip
MASKED, SEGMENTED = tokens("padding_mask"), tokens("padding_mask", "segment_ids")
TEXT_MODELS = {
    "BERT": ("BertBackbone", POSITIONS, SEGMENTED),
    "RoBERTa": ("RobertaBackbone", POSITIONS, MASKED),
    "XLM-RoBERTa": ("XLMRobertaBackbone", POSITIONS, MASKED),
    "DistilBERT": ("DistilBertBackbone", POSITIONS, MASKED),
    "ALBERT": (
        "AlbertBackbone",
        POSITIONS | {"num_groups": 1, "num_inner_repetitions": 1, "embedding_dim": 6},
        SEGMENTED,
    ),
    "DeBERTaV3": ("DebertaV3Backbone", POSITIONS, MASKED),
    "ELECTRA": (
        "ElectraBackbone",
        {key: value for key, value in POSITIONS.items() if key != "vocabulary_size"}
        | {"vocab_size": 10, "embedding_dim": 6},
        SEGMENTED,
    ),
    "FNet": (
        "FNetBackbone",
        {key: value for key, value in POSITIONS.items() if key != "num_heads"},
        tokens("segment_ids"),
    ),
    "RoFormerV2": ("RoformerV2Backbone", TEXT | {"head_size": 4}, tokens("segment_ids")),
    "XLNet": ("XLNetBackbone", TEXT, SEGMENTED),
    "GPT-2": ("GPT2Backbone", POSITIONS, MASKED),
    "GPT-NeoX": ("GPTNeoXBackbone", POSITIONS | {"hidden_dim": 16}, MASKED),
    "OPT": ("OPTBackbone", POSITIONS, MASKED),
    "Bloom": ("BloomBackbone", TEXT, MASKED),
    "Falcon": (
        "FalconBackbone",
        {"vocabulary_size": 10, "num_layers": 2, "num_attention_heads": 4, "hidden_dim": 16, "intermediate_dim": 12},
        MASKED,
    ),
    "Llama": ("LlamaBackbone", GROUPED, MASKED),
    "Mistral": ("MistralBackbone", GROUPED | {"sliding_window": 2}, MASKED),
    "Phi-3": ("Phi3Backbone", GROUPED, MASKED),
    "Qwen 2": ("QwenBackbone", GROUPED, MASKED),
    "Qwen 3": ("Qwen3Backbone", GROUPED | {"head_dim": 4}, MASKED),
    "Gemma": ("GemmaBackbone", GROUPED | {"head_dim": 4, "num_key_value_heads": 1}, MASKED),
    "T5": ("T5Backbone", TEXT, two_texts),
    "BART": ("BartBackbone", POSITIONS, two_texts),
}


def speech(random):
    text = tokens("padding_mask")(random)
    return {"encoder_features": random.normal(size=(BATCH, 5, 80)).astype("float32")} | {
        f"decoder_{name}": value for name, value in text.items()
    }


WHISPER = {"max_encoder_sequence_length": 6, "max_decoder_sequence_length": 6}
RESNET = {
    "input_conv_filters": [8],
    "input_conv_kernel_sizes": [7],
    "stackwise_num_filters": [64, 8, 8],  # KerasHub takes no other first number
    "stackwise_num_blocks": [1, 2, 1],
    "stackwise_num_strides": [1, 2, 2],
    "image_shape": (32, 32, 3),
}
RESNET_VD = RESNET | {
    "input_conv_filters": [4, 4, 8],
    "input_conv_kernel_sizes": [3, 3, 3],
    "block_type": "bottleneck_block_vd",
}
FEATURES = Part(hub("ResNetBackbone", **RESNET, block_type="bottleneck_block"))
PYRAMID = RESNET | {
    "stackwise_num_filters": [64, 8, 8, 8],
    "stackwise_num_blocks": [1, 1, 1, 1],
    "stackwise_num_strides": [1, 2, 2, 2],
    "image_shape": (64, 64, 3),
}
MOBILENET = {
    "stackwise_expansion": [[12, 16], [16, 24]],
    "stackwise_num_blocks": [2, 2],
    "stackwise_num_filters": [[8, 8], [12, 12]],
    "stackwise_kernel_size": [[3, 3], [5, 5]],
    "stackwise_num_strides": [[2, 1], [2, 1]],
    "stackwise_se_ratio": [[None, None], [0.25, 0.25]],
    "stackwise_activation": [["relu", "relu"], ["hard_swish", "hard_swish"]],
    "stackwise_padding": [[1, 1], [2, 2]],
    "output_num_filters": 24,
    "input_activation": "hard_swish",
    "output_activation": "hard_swish",
    "input_num_filters": 8,
    "image_shape": (32, 32, 3),
    "depthwise_filters": 8,
    "depthwise_stride": 2,
    "depthwise_residual": False,
    "squeeze_and_excite": 0.5,
    "last_layer_filter": 24,
}
EFFICIENTNET = {
    "stackwise_kernel_sizes": [3, 3, 5],
    "stackwise_num_repeats": [1, 2, 2],
    "stackwise_input_filters": [8, 8, 16],
    "stackwise_output_filters": [8, 16, 16],
    "stackwise_expansion_ratios": [1, 4, 4],
    "stackwise_squeeze_and_excite_ratios": [0.25, 0.25, 0.25],
    "stackwise_strides": [1, 2, 2],
    "stackwise_force_input_filters": [0] * 3,
    "stackwise_nores_option": [False] * 3,
    "width_coefficient": 1.0,
    "depth_coefficient": 1.0,
    "input_shape": (32, 32, 3),
}
HGNET = {
    "embedding_size": 8,
    "stem_channels": [3, 4, 8],
    "hidden_act": "relu",
    "use_learnable_affine_block": True,
    "image_shape": (32, 32, 3),
    "depths": [1, 1],
    "hidden_sizes": [16, 24],
    "stackwise_stage_filters": [[8, 4, 16, 1, 1, 3], [16, 8, 24, 1, 1, 3]],
    "apply_downsample": [False, True],
    "use_lightweight_conv_block": [False, True],
    "out_features": ["stem", "stage1", "stage2"],
}
CSPNET = {
    "stem_filters": 8,
    "stem_kernel_size": 3,
    "stem_strides": 1,
    "stackwise_strides": 2,
    "stackwise_depth": [1, 1, 2],
    "stackwise_num_filters": [8, 8, 12],
    "image_shape": (32, 32, 3),
    "down_growth": True,
    "bottle_ratio": (0.5, 1.0),
    "block_ratio": (1.0, 0.5),
    "expand_ratio": (2.0, 1.0),
    "block_type": "dark_block",
    "stage_type": "csp",
    "stem_padding": "same",
}
MIT = {
    "layerwise_depths": [1, 1],
    "image_shape": (32, 32, 3),
    "hidden_dims": [4, 8],
    "num_layers": 2,
    "layerwise_num_heads": [1, 2],
    "layerwise_sr_ratios": [4, 2],
    "max_drop_path_rate": 0.1,
    "layerwise_patch_sizes": [7, 3],
    "layerwise_strides": [4, 2],
}
VIT = {"image_shape": (16, 16, 3), "num_layers": 2, "hidden_dim": 12, "num_heads": 2}
VIT_DET = {
    "hidden_size": 8, "num_layers": 2, "intermediate_dim": 12, "num_heads": 2, "global_attention_layer_indices": [1],
    "patch_size": 8, "num_output_channels": 8, "window_size": 2, "image_shape": (16, 16, 3),
}  # fmt: skip
IMAGE_MODELS = {
    "ResNet": ("ResNetBackbone", RESNET | {"block_type": "bottleneck_block"}, 32),
    "ResNet V2": ("ResNetBackbone", RESNET | {"block_type": "bottleneck_block", "use_pre_activation": True}, 32),
    "ResNet-vd": ("ResNetBackbone", RESNET_VD, 32),
    "DenseNet": (
        "DenseNetBackbone",
        {
            "stackwise_num_repeats": [2, 2, 2],
            "compression_ratio": 0.5,
            "growth_rate": 4,
            "image_shape": (32, 32, 3),
        },
        32,
    ),
    "MobileNet": ("MobileNetBackbone", MOBILENET, 32),
    "EfficientNet": ("EfficientNetBackbone", EFFICIENTNET | {"stackwise_block_types": ["unfused"] * 3}, 32),
    "EfficientNetV2": (
        "EfficientNetBackbone",
        EFFICIENTNET
        | {
            "stackwise_block_types": ["fused", "fused", "unfused"],
            "stackwise_squeeze_and_excite_ratios": [0.0, 0.0, 0.25],
        },
        32,
    ),
    "HGNetV2": ("HGNetV2Backbone", HGNET, 32),
    "CSPDarkNet": ("CSPNetBackbone", CSPNET, 32),
    "Xception": (
        "XceptionBackbone",
        {
            "stackwise_conv_filters": [[4, 8], [12, 12], [16, 16]],
            "stackwise_pooling": [False, True, False],
            "image_shape": (32, 32, 3),
        },
        32,
    ),
    "VGG": (
        "VGGBackbone",
        {"stackwise_num_repeats": [1, 2], "stackwise_num_filters": [4, 8], "image_shape": (16, 16, 3)},
        16,
    ),
    "DeepLabV3": (
        "DeepLabV3Backbone",
        {
            "image_encoder": FEATURES,
            "low_level_feature_key": "P2",
            "spatial_pyramid_pooling_key": "P4",
            "dilation_rates": [1, 2, 3],
            "upsampling_size": 4,
            "projection_filters": 8,
            "image_shape": (32, 32, 3),
        },
        32,
    ),
    "RetinaNet": (
        "RetinaNetBackbone",
        {
            "image_encoder": Part(hub("ResNetBackbone", **PYRAMID, block_type="bottleneck_block")),
            "min_level": 3,
            "max_level": 6,
            "use_p5": True,
            "use_fpn_batch_norm": True,
            "image_shape": (64, 64, 3),
        },
        64,
    ),
    "MiT": ("MiTBackbone", MIT, 32),
    "SegFormer": (
        "SegFormerBackbone",
        {"image_encoder": Part(hub("MiTBackbone", **MIT)), "projection_filters": 8},
        32,
    ),
    "ViT": ("ViTBackbone", VIT | {"patch_size": (4, 4), "mlp_dim": 16}, 16),
    "DeiT": ("DeiTBackbone", VIT | {"patch_size": 4, "intermediate_dim": 16}, 16),
    "Swin": (
        "SwinTransformerBackbone",
        {"image_shape": (16, 16, 3), "embed_dim": 8, "depths": (2, 2), "num_heads": (2, 4), "window_size": 2},
        16,
    ),
    "ViTDet of SAM": ("ViTDetBackbone", VIT_DET, 16),
}


def clip():
    import keras_hub

    vision = keras_hub.models.CLIPVisionEncoder(8, 16, 1, 2, 16, image_shape=(16, 16, 3), name="vision_encoder")
    text = keras_hub.models.CLIPTextEncoder(10, 16, 16, 1, 2, 16, max_sequence_length=6, name="text_encoder")
    return keras_hub.models.CLIPBackbone(vision, text, projection_dim=8)


def image_and_text(random):
    return {"images": images(16)(random), "token_ids": tokens(length=6)(random)["token_ids"]}


def sam():
    import keras_hub

    prompts = keras_hub.layers.SAMPromptEncoder(
        hidden_size=8, image_embedding_size=(2, 2), input_image_size=(16, 16), mask_in_channels=4
    )
    masks = keras_hub.layers.SAMMaskDecoder(
        num_layers=1,
        hidden_size=8,
        intermediate_dim=12,
        num_heads=2,
        embedding_dim=8,
        num_multimask_outputs=3,
        iou_head_depth=2,
        iou_head_hidden_dim=8,
    )
    images = keras_hub.models.ViTDetBackbone(**VIT_DET)
    return keras_hub.models.SAMBackbone(image_encoder=images, prompt_encoder=prompts, mask_decoder=masks)


def prompts_for_sam(random):
    return {
        "images": images(16)(random),
        "points": random.uniform(0, 16, (BATCH, 1, 2)).astype("float32"),
        "labels": np.ones((BATCH, 1), "float32"),
        "boxes": random.uniform(0, 16, (BATCH, 1, 2, 2)).astype("float32"),
        "masks": np.zeros((BATCH, 0, 8, 8, 1), "float32"),
    }


# What users write.


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


def vectors(size):
    return lambda random: random.normal(size=(BATCH, size)).astype("float32")


def sequence_of_ids(random):
    return random.integers(0, 7, (BATCH, 5)).astype("int32")


def videos(random):
    return random.normal(size=(BATCH, 3, 6, 6, 2)).astype("float32")


CATALOGUE = {
    **{name: Entry(hub(kind, **made), x, True) for name, (kind, made, x) in TEXT_MODELS.items()},
    "Whisper": Entry(hub("WhisperBackbone", **TEXT | WHISPER), speech, True),
    **{name: Entry(hub(kind, **made), images(side), True) for name, (kind, made, side) in IMAGE_MODELS.items()},
    "CLIP": Entry(clip, image_and_text, True),
    "SAM": Entry(sam, prompts_for_sam, True),
    "U-Net": Entry(u_net, images(16)),
    "GAN": Entry(gan, vectors(6)),
    "Siamese": Entry(siamese, pairs),
    "ConvLSTM": Entry(conv_lstm, videos),
    "LoRA": Entry(lora, vectors(6)),
    "several inputs and outputs": Entry(multi_input, image_and_table),
    "tied weights": Entry(tied, sequence_of_ids),
    "custom `train_step`": Entry(train_step, vectors(6)),
    "VAE that samples in inference": Entry(vae, vectors(8)),
    "Lambda with a global": Entry(functions, vectors(6)),
    "lookups and adapted inputs": Entry(lookups, words_and_counts),
    "nested custom blocks": Entry(Nested, images(8)),
}
