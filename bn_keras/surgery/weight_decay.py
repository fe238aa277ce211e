"""Which weights an optimizer does not decay."""

from bn_keras.layers import DecorrelatedBatchNorm
from bn_keras.surgery.convert import OURS
from bn_keras.surgery.rewrite import layers_of

NORMALIZATIONS = (*OURS, *OURS.values(), DecorrelatedBatchNorm)


def exclude_from_weight_decay(optimizer, model, *, biases=False):
    """Tells an optimizer not to decay the scales and offsets of the normalization layers of a model.

    What comes before a normalization can be scaled at will without a change of the output, so decay of kernels only
    sets the size of steps; decay of γ and β pulls at what the net computes.

    Args:
        optimizer: A Keras optimizer with `weight_decay`, not built yet.
        model: A Keras model that has been built.
        biases: Whether all biases are left alone too.

    Returns:
        The optimizer.

    Raises:
        ValueError: If the optimizer decays nothing, or has been built: it has made its list then; if the model has
            no such weights.

    Source: Goyal et al. 2017, https://arxiv.org/abs/1706.02677, section 5.3; of biases He et al. 2019,
    https://arxiv.org/abs/1812.01187, section 3.1.

    Example:

    >>> import keras
    >>> from bn_keras import BatchNorm
    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2), BatchNorm()])
    >>> model.compile(exclude_from_weight_decay(keras.optimizers.AdamW(weight_decay=0.1), model), "mse")
    """
    if not getattr(optimizer, "weight_decay", None):
        raise ValueError(f"Expected an optimizer with weight decay, such as AdamW. Received: {optimizer!r}.")
    if optimizer.built:
        raise ValueError("The optimizer is built, so its list is made. Call this before `fit` and `build`.")
    layers = layers_of(model)
    spared = [weight for layer in layers if isinstance(layer, NORMALIZATIONS) for weight in layer.trainable_weights]
    if biases:
        spared += [weight for weight in model.trainable_weights if weight.name == "bias"]
    if not spared:
        raise ValueError(f"The model {model.name!r} has no scale or offset of a normalization layer to leave alone.")
    optimizer.exclude_from_weight_decay(var_list=spared)
    return optimizer
