"""The names that arguments and options take. Tests compare each list with the code that it names."""

import difflib
from collections.abc import Iterable

# A module of `bn_keras.models` that holds a list PRESETS, and the names of these presets; the place to add a family.
FAMILIES = {
    "applications": (
        "convnextbase", "convnextlarge", "convnextsmall", "convnexttiny", "convnextxlarge", "densenet121",
        "densenet169", "densenet201", "efficientnetb0", "efficientnetb1", "efficientnetb2", "efficientnetb3",
        "efficientnetb4", "efficientnetb5", "efficientnetb6", "efficientnetb7", "efficientnetv2b0", "efficientnetv2b1",
        "efficientnetv2b2", "efficientnetv2b3", "efficientnetv2l", "efficientnetv2m", "efficientnetv2s",
        "inceptionresnetv2", "inceptionv3", "mobilenet", "mobilenetv2", "mobilenetv3large", "mobilenetv3small",
        "nasnetlarge", "nasnetmobile", "resnet101", "resnet101v2", "resnet152", "resnet152v2", "resnet50", "resnet50v2",
        "xception",
    ),
    "bn_inception": ("bn_inception", "bn_inception_slim"),
    "inception": ("inception_small",),
    "mlp": ("linear_deep", "mlp_relu_deep", "mlp_sigmoid"),
    "resnet": ("resnet110", "resnet20", "resnet56"),
    "transformer": ("transformer_small",),
    "vgg": ("vgg_small",),
}  # fmt: skip
PRESETS = tuple(sorted(name for names in FAMILIES.values() for name in names))
NORMS = (
    "batch", "sync", "ghost", "renorm", "layer", "group", "instance", "rms", "decorrelated", "standardized", "weight",
)  # fmt: skip
OPTIMIZERS = ("sgd", "momentum", "adam", "adamw")
SCHEDULES = ("constant", "cosine", "linear", "exponential", "piecewise")
AUGMENTATIONS = ("flip", "shift", "rotate", "zoom", "contrast", "brightness")
DTYPES = ("float32", "mixed_bfloat16", "mixed_float16", "float64")
STRATEGIES = ("one", "mirrored", "multiworker")
PREPROCESSING = ("unit", "tf", "torch", "caffe")
PEERS = (
    "bn_keras", "keras", "tf_keras", "fused_op", "torch", "jax", "without", "torch channels-last", "bn_keras network",
    "keras network", "without norm", "bn_keras folded", "bn_keras plain", "bn_keras synchronized", "keras plain",
    "keras synchronized",
)  # fmt: skip
# The claims and their titles.
CLAIMS = {
    "C1": "Batch norm reaches the same accuracy in fewer steps",
    "C2": "Batch norm trains at learning rates at which the network without norm does not learn",
    "C3": "Networks with batch norm depend less on the scale of the first weights",
    "C4": "Batch norm makes networks with sigmoids trainable",
    "C5": "Batch norm regularizes, so that dropout is needed less; moderate batches do best",
    "C6": "With batch norm the distribution of a unit's input stays stable while the network trains",
    "C7": "Covariate shift does not explain the gain of batch norm; a smoother loss does",
    "C8": "Batch norm makes the gradients of deep networks explode at initialization; skip connections cure it",
    "C9": "Norm decouples the length of weights from their direction, and half-spaces are learned faster",
    "C10": "Population statistics make inference independent of the batch; "
    "moving averages reach them late, recalibration at once",
    "C11": "Batch norm needs batches of a moderate size; layer norm does not",
    "C12": "Layer norm ignores the scale of its input, and trains as it infers",
    "C13": "Whitening the channels needs fewer steps than batch norm",
    "C14": "Batch norm makes residual branches smaller than the skip, by the square root of the depth",
    "C15": "Forward, backward and inference are the paper's equations, to rounding",
}
# Suggestions for completion: `load` takes every image classification set of tensorflow-datasets.
DATA = (
    "digits", "mnist", "fashion_mnist", "kmnist", "emnist", "cifar10", "cifar100", "svhn_cropped", "stl10",
    "tf_flowers", "cats_vs_dogs", "imagenette", "tiny_shakespeare", "folder:", "text:",
)  # fmt: skip


def suggestion(name: str, known: Iterable[str]) -> str:
    """A sentence with the nearest known name; an empty text where none is near.

    >>> suggestion("bach", NORMS)
    " Did you mean 'batch'?"
    """
    near = difflib.get_close_matches(str(name), known, n=1)
    return f" Did you mean {near[0]!r}?" if near else ""
