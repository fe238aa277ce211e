"""How right the outputs of a model are: by the loss that it is compiled with, or by what the labels are."""

import keras
import numpy as np

from bn_keras.doctor.data import Batch

SUMS_TO_ONE = 1e-2  # probabilities in bfloat16 are off by this much at most


class Criterion:
    """Loss and accuracy of a batch.

    The loss is the compiled one. Without a compiled loss, integer or one-hot labels of one output are classes, and the
    loss is the cross-entropy of probabilities (non-negative rows that sum to 1) or logits (anything else); labels with
    the shape of the output are targets, and the loss is the mean squared error.

    Attributes:
        name: The name of the loss; "" if there is none, and `why` says why.
        model: The model that is compiled, or `None`.
    """

    def __init__(self, model, batch: Batch, outputs):
        self.model, self.name, self.why, self.loss = None, "", "", None
        if batch.y is None:
            self.why = "no labels were given"
        elif getattr(model, "compiled", False) and model.loss is not None:
            self.model, self.name = model, "compiled loss"
        else:
            self.guess(batch, outputs)

    def guess(self, batch, outputs):
        flat, labels = keras.tree.flatten(outputs), keras.tree.flatten(batch.y)
        if len(flat) != 1 or len(labels) != 1:
            self.why = "the model has several outputs and no compiled loss"
            return
        output, y = (keras.ops.convert_to_numpy(each) for each in (flat[0], labels[0]))
        if is_class_ids(output, y) or is_one_hot(output, y):
            logits = not is_probability(output)
            kind = "SparseCategoricalCrossentropy" if is_class_ids(output, y) else "CategoricalCrossentropy"
            self.loss = getattr(keras.losses, kind)(from_logits=logits)
            self.name = f"cross-entropy of {'logits' if logits else 'probabilities'}"
        elif output.ndim == 2 and output.shape[1] == 1 and y.size == len(output) and set(np.unique(y)) <= {0, 1}:
            logits = bool((output < 0).any() or (output > 1).any())
            self.loss = keras.losses.BinaryCrossentropy(from_logits=logits)
            self.name = f"binary cross-entropy of {'logits' if logits else 'probabilities'}"
        elif output.shape == y.shape:
            self.loss, self.name = keras.losses.MeanSquaredError(), "mean squared error"
        else:
            self.why = (
                f"labels of shape {y.shape} say nothing of outputs of shape {output.shape}; compile the model with a "
                "loss"
            )

    def __call__(self, model, batch: Batch, outputs) -> tuple[float, float]:
        """`(loss, accuracy)` of what a model has just returned; NaN for what there is not."""
        return self.loss_of(model, batch, outputs), accuracy_of(batch.y, outputs)

    def ready(self, copy):
        """A copy of the model, compiled so that it adds up its own losses, such as those of `add_loss`."""
        if self.model is not None and not copy.compiled:
            try:
                weights = loss_weights_of(self.model)
            except Exception:  # of an optimizer without a config, say: then the model itself judges the copy
                return copy
            keras.Model.compile(copy, loss=self.model.loss, loss_weights=weights)  # the class may have its own
        return copy

    def loss_of(self, model, batch, outputs):
        if self.model is not None:
            judge = model if model.compiled else self.model
            value = judge.compute_loss(x=batch.x, y=batch.y, y_pred=outputs, sample_weight=batch.weight)
        elif self.loss is not None:
            (output,), (y,) = keras.tree.flatten(outputs), keras.tree.flatten(batch.y)
            y = keras.ops.reshape(y, (-1, 1)) if self.name.startswith("binary") else y
            value = self.loss(y, keras.ops.cast(output, "float32"), sample_weight=batch.weight)
        else:
            return np.nan
        return float(keras.ops.convert_to_numpy(value))


def loss_weights_of(model):
    """What a model was compiled with."""
    return model.get_compile_config().get("loss_weights")


def accuracy_of(y, outputs) -> float:
    """The share of right classes; NaN where labels are no classes, or there are several outputs."""
    flat, labels = keras.tree.flatten(outputs), keras.tree.flatten(y)
    if y is None or len(flat) != 1 or len(labels) != 1:
        return np.nan
    output, y = (keras.ops.convert_to_numpy(each) for each in (flat[0], labels[0]))
    if is_class_ids(output, y):
        return float(np.mean(np.argmax(output, -1).ravel() == y.ravel()))
    if is_one_hot(output, y):
        return float(np.mean(np.argmax(output, -1) == np.argmax(y, -1)))
    return np.nan


def is_class_ids(output, y) -> bool:
    return (
        output.ndim >= 2
        and output.shape[-1] > 1
        and y.size == output.size // output.shape[-1]
        and bool((y == np.round(y)).all() and y.min() >= 0 and y.max() < output.shape[-1])
    )


def is_one_hot(output, y) -> bool:
    return output.ndim >= 2 and output.shape == y.shape and output.shape[-1] > 1 and set(np.unique(y)) <= {0, 1} and (
        bool((y.sum(-1) == 1).all())
    )  # fmt: skip


def is_probability(output) -> bool:
    output = output.astype(np.float64)
    return bool((output >= 0).all() and np.allclose(output.sum(-1), 1, atol=SUMS_TO_ONE))
