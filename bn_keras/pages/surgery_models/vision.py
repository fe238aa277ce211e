"""Models of KerasHub that see: convolutional networks, vision transformers, and two that also read or take prompts."""

import numpy as np

from bn_keras.lab.extras import packages_of
from bn_keras.pages.surgery_models.entry import BATCH, Entry, images, tokens
from bn_keras.pages.surgery_models.hub import Part, hub

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
    with packages_of("dev"):
        import keras_hub

    vision = keras_hub.models.CLIPVisionEncoder(8, 16, 1, 2, 16, image_shape=(16, 16, 3), name="vision_encoder")
    text = keras_hub.models.CLIPTextEncoder(10, 16, 16, 1, 2, 16, max_sequence_length=6, name="text_encoder")
    return keras_hub.models.CLIPBackbone(vision, text, projection_dim=8)


def image_and_text(random):
    return {"images": images(16)(random), "token_ids": tokens(length=6)(random)["token_ids"]}


def sam():
    with packages_of("dev"):
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


MODELS = {
    **{
        name: Entry(hub(kind, **settings), images(side), needs_hub=True)
        for name, (kind, settings, side) in IMAGE_MODELS.items()
    },
    "CLIP": Entry(clip, image_and_text, needs_hub=True),
    "SAM": Entry(sam, prompts_for_sam, needs_hub=True),
}
