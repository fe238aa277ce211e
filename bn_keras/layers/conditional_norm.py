"""Conditional normalization as a Keras layer: FiLM, AdaIN, conditional batch norm."""

import inspect
import typing

import keras
import tensorflow as tf

from bn_keras.layers.arguments import (
    CENTER_AND_SCALE,
    INITIALIZERS,
    REGULARIZERS_AND_CONSTRAINTS,
    Argument,
    Constraint,
    Initializer,
    InnerNorm,
    Regularizer,
    constraint,
    drawing_anew,
    initializer,
    regularizer,
)
from bn_keras.layers.base import NormalizationLayer, Shape, axes_of
from bn_keras.layers.checks import checked_axis, checked_classes
from bn_keras.layers.kinds import KINDS
from bn_keras.ops.conditional import modulate, of_classes

PairOfShapes = tuple[Shape, Shape] | list[Shape]
CALL = "ConditionalNorm is called on a list of two tensors, `layer([x, condition])`."


@keras.saving.register_keras_serializable(package="bn_keras")
class ConditionalNorm(NormalizationLayer):
    r"""Normalizes by another layer, and takes γ and β from a second input, the condition.

    $$ y = \gamma(c) \, \mathrm{normalize}(x) + \beta(c) \qquad
       \gamma(c) = \gamma + c W_\gamma \qquad \beta(c) = \beta + c W_\beta $$

    Call it on a list: `layer([x, condition])`. `norm` picks the method:

    | `norm` | method |
    | --- | --- |
    | `None` | FiLM |
    | `"instance"` | AdaIN with a learned map of the style |
    | `"batch"`, with `classes=n` | conditional batch norm of GANs |
    | `"layer"` | adaptive layer norm |

    W starts at 0, so the layer starts as the plain norm with γ and β, and learns to heed the condition. For a deeper
    map of the condition, put Dense layers before it.

    The layer that normalizes is `layer.norm`. It has the statistics, and decides on masks, replicas and precision as it
    does alone. `bn_keras.surgery` finds it inside. γ(c) and β(c) are computed in float32 at least, and the output has
    the layer's compute dtype. The weights `gamma` and `beta` have the sizes of the input along `axis`; `gamma_kernel`
    and `beta_kernel`, the two W, have an axis more before them, of the features or classes.

    Args:
        norm: What normalizes. A str, as in `bn_keras.models.norm`: `"batch"`, `"sync"`, `"ghost"`, `"renorm"`,
            `"layer"`, `"group"`, `"instance"`, `"rms"` or `"decorrelated"`; a tuple of such a name and a dict of
            options, `("group", {"groups": 8})`; a Keras layer, made with `center=False, scale=False`; or `None` for no
            normalization. A norm that is made by its name has no γ and β of its own, except `"rms"`, whose scale
            multiplies γ(c). A dict is the config of a layer. Defaults to `"batch"`.
        classes: Int ≥ 1, the number of classes, if the condition is the number of a class; or `None` if the condition
            is a vector of features. Defaults to `None`.
        axis: Int, or list or tuple of ints: the axes along which γ and β vary, without the batch axis. `None` takes the
            `axis` of a `norm` that is given as a layer, and -1 otherwise. A norm that is made by its name gets the same
            `axis`. Defaults to `None`.
        center: Bool, whether to add the offset β(c). Defaults to `True`.
        scale: Bool, whether to multiply by the scale γ(c). Defaults to `True`.
        beta_initializer: Initializer of `beta`. Defaults to `"zeros"`.
        gamma_initializer: Initializer of `gamma`. Defaults to `"ones"`.
        kernel_initializer: Initializer of `gamma_kernel` and `beta_kernel`. Defaults to `"zeros"`.
        beta_regularizer: Regularizer of `beta`, or `None`. Defaults to `None`.
        gamma_regularizer: Regularizer of `gamma`, or `None`. Defaults to `None`.
        beta_constraint: Constraint of `beta`, or `None`. Defaults to `None`.
        gamma_constraint: Constraint of `gamma`, or `None`. Defaults to `None`.
        kernel_regularizer: Regularizer of `gamma_kernel` and `beta_kernel`, or `None`. Defaults to `None`.
        kernel_constraint: Constraint of `gamma_kernel` and `beta_kernel`, or `None`. Defaults to `None`.
        **kwargs: Arguments of `keras.layers.Layer`: `name`, `dtype`, `trainable`, … A norm that is made by its name
            gets the same `dtype`.

    Call arguments:
        inputs: List of the tensor to normalize and the condition. A condition of features is a float tensor
            `(batch, features)`. A class is an int tensor `(batch,)` or `(batch, 1)`, from
            `keras.Input((), dtype="int32")`. A class out of range gives NaN. One row holds for the whole batch.
        training: Bool or `None`, for the layer that normalizes. Defaults to `None`.
        mask: Tensor, or list of a tensor and `None`, or `None`: the mask of the tensor to normalize, for the layer that
            normalizes. Defaults to `None`.

    Input shape:
        A list of `(batch, …, channels)`, of any rank ≥ 2, and the shape of the condition.

    Output shape:
        The shape of the tensor to normalize.

    Raises:
        TypeError, ValueError: For an argument of the wrong type or out of range, when the layer is made. For inputs
            that are no such list, or that `norm` cannot normalize, when the layer is built. For a condition of the
            wrong dtype, when the layer is called.

    References:
        - [Perez et al. 2018](https://arxiv.org/abs/1709.07871), section 2.1, for FiLM.
        - [Huang and Belongie 2017](https://arxiv.org/abs/1703.06868), section 5, for AdaIN.
        - [de Vries et al. 2017](https://arxiv.org/abs/1707.00683), section 3, for conditional batch norm.

    Example:

    >>> x, style = keras.Input((4, 2)), keras.Input((3,))
    >>> layer = ConditionalNorm("instance")
    >>> model = keras.Model([x, style], layer([x, style]))
    >>> [(weight.name, tuple(weight.shape)) for weight in layer.weights[2:]]
    [('gamma_kernel', (3, 2)), ('beta_kernel', (3, 2))]
    >>> layer.norm
    <InstanceNorm name=conditional_norm_norm, built=True>
    """

    arguments = (
        Argument("norm", "batch", annotation=InnerNorm, serialize=keras.saving.serialize_keras_object),
        Argument("classes", None, checked_classes, annotation=int | None),
        Argument("axis", None, annotation=int | list[int] | tuple[int, ...] | None),
        *CENTER_AND_SCALE,
        *INITIALIZERS,
        initializer("kernel_initializer", "zeros"),
        *REGULARIZERS_AND_CONSTRAINTS,
        regularizer("kernel_regularizer"),
        constraint("kernel_constraint"),
    )

    if typing.TYPE_CHECKING:  # what a type checker sees; `arguments` makes the constructor
        norm: keras.layers.Layer
        axis: int | list[int]

        def __init__(
            self,
            norm: InnerNorm = "batch",
            classes: int | None = None,
            axis: int | list[int] | tuple[int, ...] | None = None,
            center: bool = True,
            scale: bool = True,
            beta_initializer: Initializer = "zeros",
            gamma_initializer: Initializer = "ones",
            kernel_initializer: Initializer = "zeros",
            beta_regularizer: Regularizer = None,
            gamma_regularizer: Regularizer = None,
            beta_constraint: Constraint = None,
            gamma_constraint: Constraint = None,
            kernel_regularizer: Regularizer = None,
            kernel_constraint: Constraint = None,
            **kwargs: typing.Any,
        ) -> None: ...

    gamma_kernel = None
    beta_kernel = None

    def check_arguments(self) -> None:
        self.autocast = False
        if not (self.center or self.scale):
            raise ValueError(
                "ConditionalNorm needs `center`, `scale` or both: nothing would follow the condition. "
                "Received: center=False, scale=False. Use the layer that normalizes by itself."
            )
        axis = -1 if self.axis is None else checked_axis(self.axis)
        self.norm = layer_of(
            self.norm, axis, name=f"{self.name}_norm", dtype=keras.dtype_policies.serialize(self.dtype_policy)
        )
        if getattr(self.norm, "activation", keras.activations.linear) is not keras.activations.linear:
            raise ValueError(
                "`norm` must have no activation: it would come before γ(c) and β(c). "
                f"Received: norm={self.norm!r} with activation={self.norm.activation!r}. "
                "Apply the activation to the output of this layer."
            )
        self.axis = checked_axis(getattr(self.norm, "axis", -1)) if self.axis is None else axis
        if not self.trainable:
            self.norm.trainable = False

    def build(self, input_shape: PairOfShapes) -> None:  # type: ignore[override]  # the base class takes one shape
        shape, condition_shape = pair_of_shapes(input_shape)
        super().build(shape)
        if 0 in axes_of(self.axis, shape):
            raise ValueError(
                f"`axis` must not hold the batch axis: γ(c) and β(c) are those of an example. "
                f"Received: axis={self.axis}, an input of shape {tuple(shape)}. Use -1 for channels last."
            )
        for name, wanted in (("gamma_kernel", self.scale), ("beta_kernel", self.center)):
            if wanted:
                weight = self.add_weight(
                    shape=(self.rows_of(condition_shape), *self.sizes),
                    name=name,
                    initializer=drawing_anew(self.kernel_initializer),
                    regularizer=self.kernel_regularizer,
                    constraint=self.kernel_constraint,
                    autocast=False,
                )
                setattr(self, name, weight)
        if not self.norm.built:
            self.norm.build(shape)

    def rows_of(self, condition_shape: Shape) -> int:
        """The number of rows of W: the classes or the features of the condition."""
        if self.classes is not None:
            if len(condition_shape) != 1 and tuple(condition_shape[1:]) != (1,):
                raise ValueError(
                    "With `classes`, the condition must have the shape (batch,) or (batch, 1). "
                    f"Received: classes={self.classes}, a condition of shape {tuple(condition_shape)}. "
                    "Pass the numbers of the classes, or classes=None for a vector per example."
                )
            return self.classes
        if len(condition_shape) != 2 or condition_shape[1] is None:
            raise ValueError(
                "The condition must have the shape (batch, features), with a known number of features. "
                f"Received: a condition of shape {tuple(condition_shape)}. Flatten or pool it, or pass classes=n if it "
                "is the number of a class."
            )
        return condition_shape[1]

    def rows(self, condition: tf.Tensor) -> tf.Tensor:
        """The condition as a float vector per example."""
        condition = tf.convert_to_tensor(condition)
        if self.classes is None and not condition.dtype.is_floating:
            raise TypeError(
                f"The condition of {self.name!r} must be floats. Received: dtype {condition.dtype.name}. "
                "Pass classes=n if it is the number of a class, or cast it."
            )
        if self.classes is not None and not condition.dtype.is_integer:
            raise TypeError(
                f"The condition of {self.name!r} must be ints, as classes={self.classes}. "
                f'Received: dtype {condition.dtype.name}. Feed it from keras.Input((), dtype="int32"), or cast it.'
            )
        return condition if self.classes is None else of_classes(condition, self.classes)

    def call(self, inputs: list[tf.Tensor], training: bool | None = None, mask=None) -> tf.Tensor:
        x, condition = pair_of(inputs)
        mask = of_the_first(mask)
        # Keras hands `training` on by itself.
        heeds = {"mask": mask} if "mask" in inspect.signature(self.norm.call).parameters else {}
        outputs, axes = self.prepared(self.norm(x, **heeds))
        scale, offset = self.scale_and_offset()
        outputs = modulate(
            outputs,
            self.rows(condition),
            None if self.gamma_kernel is None else (scale, tf.convert_to_tensor(self.gamma_kernel)),
            None if self.beta_kernel is None else (offset, tf.convert_to_tensor(self.beta_kernel)),
            axes,
            masked=mask is not None,
        )
        return tf.cast(outputs, self.compute_dtype)

    def compute_output_shape(self, input_shape: PairOfShapes) -> Shape:  # type: ignore[override]  # as `build`
        return super().compute_output_shape(pair_of_shapes(input_shape)[0])

    def compute_mask(self, inputs, previous_mask=None):
        return of_the_first(previous_mask)


def layer_of(norm: InnerNorm, axis: int | list[int], **settings) -> keras.layers.Layer:
    """The layer that normalizes: one that is given, or a new one by its name, without γ and β."""
    if isinstance(norm, keras.layers.Layer):
        return norm
    if isinstance(norm, dict):
        return keras.saving.deserialize_keras_object(norm)
    name: typing.Any = norm
    options: dict = {}
    if isinstance(norm, (tuple, list)) and len(norm) == 2 and isinstance(norm[1], dict):
        name, options = norm
    if name is None and not options:
        return keras.layers.Identity(**settings)
    if not isinstance(name, str) or name not in KINDS:
        raise ValueError(
            f"`norm` must be None, one of {', '.join(map(repr, KINDS))}, a pair of such a name and a dict of options, "
            f"or a layer. Received: norm={norm!r}. Make the layer: norm=BatchNorm(center=False, scale=False)."
        )
    kind, defaults = KINDS[name]
    bare = dict.fromkeys({"center", "scale"} & {each.name for each in kind.arguments}, False)
    return kind(**{"axis": axis, **bare, **defaults, **settings, **options})


def pair_of_shapes(shapes) -> tuple[Shape, Shape]:
    if len(shapes) != 2 or not all(isinstance(each, (list, tuple, tf.TensorShape)) for each in shapes):
        raise ValueError(f"{CALL} Received: an input of shape {shapes}. Pass the condition too.")
    x, condition = map(tuple, shapes)
    return x, condition


def pair_of(inputs) -> tuple[tf.Tensor, tf.Tensor]:
    """The tensor to normalize and the condition. A tensor of two rows would unpack too."""
    if not isinstance(inputs, (list, tuple)) or len(inputs) != 2:
        shapes = [tuple(each.shape) for each in inputs] if isinstance(inputs, (list, tuple)) else inputs.shape
        raise ValueError(f"{CALL} Received: an input of shape {shapes}. Pass the condition too.")
    x, condition = inputs
    rows, wanted = condition.shape[0], x.shape[0]
    if None not in (rows, wanted) and rows not in (1, wanted):
        raise ValueError(
            f"The condition must have a row for each of the {wanted} examples, or one row for all. "
            f"Received: a condition of shape {tuple(condition.shape)}. Repeat its rows, or those of the input."
        )
    return x, condition


def of_the_first(mask):
    """The mask of the first input, where Keras gives one for each."""
    return mask[0] if isinstance(mask, (list, tuple)) else mask
