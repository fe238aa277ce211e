"""The weights that an optimizer does not decay."""

import keras

from bn_keras.layers import ConditionalNorm, DecorrelatedBatchNorm, DomainBatchNorm
from bn_keras.layers.kernel_layer import KernelLayer
from bn_keras.surgery.convert import OUR_CLASS_OF
from bn_keras.surgery.tree import layers_of

NORMALIZATIONS = (*OUR_CLASS_OF, *OUR_CLASS_OF.values(), DecorrelatedBatchNorm, DomainBatchNorm)


def exclude_from_weight_decay(
    optimizer: keras.optimizers.Optimizer, model: keras.Model, *, biases: bool = False
) -> keras.optimizers.Optimizer:
    """Excludes the scales and offsets of normalization layers from the weight decay of an optimizer.

    A normalization undoes any scaling of the kernel before it, so weight decay of kernels only changes the effective
    learning rate. Weight decay of γ and β changes what the network computes. Weights that earlier calls of this
    function or of `optimizer.exclude_from_weight_decay` excluded stay excluded. The optimizer decays the kernels of a
    `ConditionalNorm`, as those of a Dense layer.

    The g of `WeightNorm` and the gain of `WeightStandardization` are scales as γ is, and are excluded too. The
    optimizer decays v, whose size does not change the kernel that the layer computes with.

    Args:
        optimizer: Keras optimizer with `weight_decay`, not built yet.
        model: Keras model that has been built.
        biases: Bool, whether to exclude all biases too. Defaults to `False`.

    Returns:
        The optimizer.

    Raises:
        ValueError: If the optimizer has no weight decay, or has been built; if the model has no such weights.

    References:
        - [Goyal et al. 2017](https://arxiv.org/abs/1706.02677), section 5.3.
        - [He et al. 2019](https://arxiv.org/abs/1812.01187), section 3.1, for biases.

    Example:

    >>> import keras
    >>> from bn_keras import BatchNorm
    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2), BatchNorm()])
    >>> model.compile(exclude_from_weight_decay(keras.optimizers.AdamW(weight_decay=0.1), model), "mse")
    """
    if not getattr(optimizer, "weight_decay", None):
        raise ValueError(f"Expected an optimizer with weight decay, such as AdamW. Received: {optimizer!r}.")
    if optimizer.built:
        raise ValueError("The optimizer is built, and has made its list. Call this before `fit` and `build`.")
    layers = layers_of(model)
    spared = [weight for layer in layers for weight in scales_and_offsets(layer)]
    if biases:
        spared += [weight for weight in model.trainable_weights if weight.name == "bias"]
    if not spared:
        raise ValueError(f"The model {model.name!r} has no scale or offset of a normalization layer to leave alone.")
    exclude_too(optimizer, spared)
    return optimizer


def scales_and_offsets(layer) -> list:
    """The weights of one layer that are spared; the layer inside a `ConditionalNorm` is one of its own."""
    if isinstance(layer, KernelLayer):
        within = {id(weight) for weight in layer.layer.weights}
        return [weight for weight in layer.trainable_weights if id(weight) not in within]
    if isinstance(layer, ConditionalNorm):
        return [weight for weight in layer.trainable_weights if weight is layer.gamma or weight is layer.beta]
    return layer.trainable_weights if isinstance(layer, NORMALIZATIONS) else []


def exclude_too(optimizer, variables) -> None:
    """Excludes variables and keeps what earlier calls have excluded, which Keras would forget.

    Keras has no public name for the latter: `tests/surgery/test_weight_decay.py` fails when the private ones move.
    """
    names = getattr(optimizer, "_exclude_from_weight_decay_pattern", None)
    earlier: set = getattr(optimizer, "_exclude_from_weight_decay", set())
    optimizer.exclude_from_weight_decay(var_list=variables, var_names=[names.pattern] if names else None)
    optimizer._exclude_from_weight_decay |= earlier


def decayed(optimizer, variables) -> list:
    """Those of the variables that the weight decay of an optimizer reaches, exclusions considered.

    Keras has no public name for the latter: `tests/surgery/test_weight_decay.py` fails when the private ones move.
    """
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)  # of a LossScaleOptimizer
    if not getattr(optimizer, "weight_decay", None):
        return []
    cache = vars(optimizer).get("_exclude_from_weight_decay_cache")
    optimizer._exclude_from_weight_decay_cache = {}
    try:
        return [variable for variable in variables if optimizer._use_weight_decay(variable)]
    finally:
        if cache is None:
            del optimizer._exclude_from_weight_decay_cache
        else:
            optimizer._exclude_from_weight_decay_cache = cache
