"""The networks of `keras.applications` under their Keras names, with any norm.

The functions of Keras build them. This module says what the functions do not: default sizes, limits and files.
"""

import dataclasses
import functools
import inspect

import keras

from bn_keras.models.blocks import begin
from bn_keras.models.imagenet import check_available, preprocessing_of
from bn_keras.models.norms import Norm
from bn_keras.models.preset import Preset
from bn_keras.models.transplant import refuse_in_applications, transplanted


@dataclasses.dataclass(frozen=True)
class Family:
    """What functions of `keras.applications` have in common.

    Attributes:
        source: The paper.
        summary: What the networks are.
        file: The name of the file of ImageNet weights, with `{name}`, `{width}` and `{size}` in braces.
        sizes: By the name of the function, the height and width of the images by default, in pixels.
        preprocessing: The mode of its `preprocess_input`; `None` where the network holds its preprocessing itself.
        smallest: The smallest height and width.
        narrowest: The smallest width that leaves each layer a channel.
        widths: The widths that have ImageNet weights, and their names in a file. Other families have the width 1.
        files_of_size: The sizes of images that have weights of their own; of others, those of the largest are taken.
    """

    source: str
    summary: str
    file: str
    sizes: dict[str, int]
    preprocessing: str | None
    smallest: int = 32
    narrowest: float = 0.0
    widths: dict[float, str] = dataclasses.field(default_factory=dict)
    files_of_size: tuple[int, ...] = (224,)


KERNELS = "{name}_weights_tf_dim_ordering_tf_kernels.h5"
FAMILY_LIST = (
    Family(
        source="He et al. 2015, https://arxiv.org/abs/1512.03385",
        summary="a residual network of bottleneck blocks",
        file=KERNELS,
        sizes={"ResNet50": 224, "ResNet101": 224, "ResNet152": 224},
        preprocessing="caffe",
    ),
    Family(
        source="He et al. 2016, https://arxiv.org/abs/1603.05027",
        summary="a residual network with its norms before the convolutions",
        file=KERNELS,
        sizes={"ResNet50V2": 224, "ResNet101V2": 224, "ResNet152V2": 224},
        preprocessing="tf",
    ),
    Family(
        source="Szegedy et al. 2015, https://arxiv.org/abs/1512.00567",
        summary="Inception blocks with factorized convolutions",
        file="inception_v3_weights_tf_dim_ordering_tf_kernels.h5",
        sizes={"InceptionV3": 299},
        preprocessing="tf",
        smallest=75,
    ),
    Family(
        source="Szegedy et al. 2016, https://arxiv.org/abs/1602.07261",
        summary="Inception blocks with residual connections",
        file="inception_resnet_v2_weights_tf_dim_ordering_tf_kernels.h5",
        sizes={"InceptionResNetV2": 299},
        preprocessing="tf",
        smallest=75,
    ),
    Family(
        source="Chollet 2016, https://arxiv.org/abs/1610.02357",
        summary="a residual network of depthwise separable convolutions",
        file=KERNELS,
        sizes={"Xception": 299},
        preprocessing="tf",
        smallest=71,
    ),
    Family(
        source="Howard et al. 2017, https://arxiv.org/abs/1704.04861",
        summary="depthwise separable convolutions for mobile devices",
        file="mobilenet_{width}_{size}_tf.h5",
        sizes={"MobileNet": 224},
        preprocessing="tf",
        narrowest=1 / 32,
        widths={0.25: "2_5", 0.5: "5_0", 0.75: "7_5", 1.0: "1_0"},
    ),
    Family(
        source="Sandler et al. 2018, https://arxiv.org/abs/1801.04381",
        summary="inverted residual blocks for mobile devices",
        file="mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{width}_{size}.h5",
        sizes={"MobileNetV2": 224},
        preprocessing="tf",
        widths={width: str(width) for width in (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)},
        files_of_size=(96, 128, 160, 192, 224),
    ),
    *(
        Family(
            source="Howard et al. 2019, https://arxiv.org/abs/1905.02244",
            summary="inverted residual blocks with squeeze and excitation, found by search",
            file=f"weights_mobilenet_v3_{variant.lower()}_{{size}}_{{width}}_float.h5",
            sizes={f"MobileNetV3{variant}": 224},
            preprocessing=None,
            widths={0.75: "0.75", 1.0: "1.0"},
        )
        for variant in ("Small", "Large")
    ),
    Family(
        source="Huang et al. 2016, https://arxiv.org/abs/1608.06993",
        summary="dense blocks: each layer gets the outputs of all layers before it",
        file=KERNELS,
        sizes={"DenseNet121": 224, "DenseNet169": 224, "DenseNet201": 224},
        preprocessing="torch",
    ),
    *(
        Family(
            source="Zoph et al. 2017, https://arxiv.org/abs/1707.07012",
            summary="cells that were found by search",
            file=f"nasnet_{variant.lower()}.h5",
            sizes={f"NASNet{variant}": size},
            preprocessing="tf",
        )
        for variant, size in (("Mobile", 224), ("Large", 331))
    ),
    Family(
        source="Tan and Le 2019, https://arxiv.org/abs/1905.11946",
        summary="inverted residual blocks, scaled in depth, width and size at once",
        file="{name}.h5",
        sizes={f"EfficientNetB{i}": size for i, size in enumerate((224, 240, 260, 300, 380, 456, 528, 600))},
        preprocessing=None,
    ),
    *(
        Family(
            source="Tan and Le 2021, https://arxiv.org/abs/2104.00298",
            summary="inverted residual blocks, fused in the early stages",
            file=f"efficientnetv2-{variant.lower()}.h5",
            sizes={f"EfficientNetV2{variant}": size},
            preprocessing=None,
        )
        for variant, size in zip(
            ("B0", "B1", "B2", "B3", "S", "M", "L"), (224, 240, 260, 300, 384, 480, 480), strict=True
        )
    ),
    *(
        Family(
            source="Liu et al. 2022, https://arxiv.org/abs/2201.03545",
            summary="a residual network with the choices of a vision transformer, layer norm by default",
            file=f"convnext_{variant.lower()}.h5",
            sizes={f"ConvNeXt{variant}": 224},
            preprocessing=None,
        )
        for variant in ("Tiny", "Small", "Base", "Large", "XLarge")
    ),
)


def application(
    function: str,
    family: Family,
    *,
    norm: Norm,
    classes: int,
    input_shape: tuple[int, ...],
    width: float,
    preprocessing: keras.layers.Layer | bool | None,
    weights: str | None,
    name: str,
) -> keras.Model:
    """A network of `keras.applications` with another norm.

    With `weights="imagenet"` and `preprocessing=None` the network takes pixels 0–255 and does its own preprocessing.
    Otherwise it has the preprocessing that is passed alone.

    Warns:
        UserWarning: With `weights="imagenet"`, where trained weights are lost: those of norms that normalize by other
            moments, those that an option such as `scale=False` drops, and those of the head for other classes than
            1000.
    """
    refuse_in_applications(name, norm)
    own_preprocessing = weights is not None and preprocessing is None
    if own_preprocessing and family.preprocessing:
        preprocessing = preprocessing_of(family.preprocessing)
    inputs, x = begin(input_shape, preprocessing)
    check_arguments(function, family, weights, tuple(x.shape[1:]), width)
    build = getattr(keras.applications, function)
    arguments = {"alpha": float(width)} if family.widths else {}
    if "include_preprocessing" in inspect.signature(build).parameters:
        arguments["include_preprocessing"] = weights is not None
    model = build(
        weights=weights,
        input_tensor=x,
        classes=classes if weights is None else 1000,
        classifier_activation=None,
        **arguments,
    )
    # Keras takes the input in a list, and other names: those of the files.
    model = keras.Model(inputs, model.output, name=name)
    kinds = (keras.layers.Rescaling, keras.layers.Normalization)
    inside = [layer for layer in model.layers if isinstance(layer, kinds) and layer is not preprocessing]
    return transplanted(
        model,
        norm,
        classes=classes,
        unwanted=() if own_preprocessing else inside,
        pretrained=weights is not None,
    )


def check_arguments(
    function: str, family: Family, weights: str | None, input_shape: tuple[int, ...], width: float
) -> None:
    """Raises an error for what the function of Keras would not build, or build something else for.

    `input_shape` is that of the preprocessed images.
    """
    if len(input_shape) != 3 or None in input_shape:
        raise ValueError(
            "`preprocessing` must give images (height, width, channels) of a fixed size. "
            f"Received: preprocessing that gives {input_shape}."
        )
    if min(input_shape[:2]) < family.smallest:
        raise ValueError(
            f"`input_shape` must have a height and width ≥ {family.smallest} for {function}. "
            f"Received: input_shape={input_shape}. Resize the images, or choose another network."
        )
    if width != 1 and not family.widths:
        raise ValueError(
            f"`width` must be 1 for {function}: keras.applications has it in one width. Received: width={width}. "
            'Choose another member of the family, or "mobilenet", "mobilenetv2" or "mobilenetv3small".'
        )
    if width < family.narrowest:
        raise ValueError(f"`width` must be ≥ {family.narrowest} for {function}. Received: width={width}.")
    if weights is None:
        return
    if input_shape[2] != 3:
        raise ValueError(
            f"`input_shape` must have 3 channels with weights={weights!r}. Received: input_shape={input_shape}. "
            "Repeat the channel of grey images three times, or pass weights=None."
        )
    if family.widths and width not in family.widths:
        raise ValueError(
            f"`width` must be one of {list(family.widths)} for {function} with weights={weights!r}. "
            f"Received: width={width}."
        )
    check_available(function, file_of(function, family, input_shape, width))


def file_of(function: str, family: Family, input_shape: tuple[int, ...], width: float) -> str:
    """The name of the file of ImageNet weights that the function of Keras loads."""
    height, breadth = input_shape[:2]
    size = height if height == breadth and height in family.files_of_size else family.files_of_size[-1]
    return family.file.format(name=function.lower(), width=family.widths.get(width), size=size)


PRESETS = [
    Preset(
        name=function.lower(),
        summary=f"{function} of keras.applications: {family.summary}",
        source=family.source,
        builder=functools.partial(application, function, family),
        classes=1000,
        input_shape=(size, size, 3),
        pretrained=("imagenet",),
    )
    for family in FAMILY_LIST
    for function, size in family.sizes.items()
]
