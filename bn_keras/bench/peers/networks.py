"""Networks of keras.applications, with another layer in place of every batch norm of Keras."""

import keras
import tensorflow as tf

from bn_keras.bench.peers import NotOfferedError, inputs_of
from bn_keras.layers import BatchNorm
from bn_keras.surgery import fold


class Nothing(keras.layers.Layer):
    """In place of a batch norm: takes what it takes."""

    def call(self, inputs, training=None, mask=None):
        return inputs


NORM_OF_LIBRARY = {
    "bn_keras": BatchNorm.from_config,
    "keras": keras.layers.BatchNormalization.from_config,
    "without norm": lambda config: Nothing(name=config["name"]),
}


def prepare(case, norm, folded=False):
    """One step of gradient descent on random targets, or one inference."""
    if folded and case.mode != "inference":
        raise NotOfferedError("a folded network is for inference")
    model = network(case, NORM_OF_LIBRARY[norm])
    if folded:
        model = fold(model, report=None)
    x = tf.constant(inputs_of(case)[0])
    if case.mode == "inference":
        infer = tf.function(lambda x: model(x, training=False))
        return lambda: infer(x)
    labels = tf.range(case.shape[0])
    optimizer = keras.optimizers.SGD(1e-3)
    optimizer.build(model.trainable_variables)

    @tf.function
    def step(x, labels):
        with tf.GradientTape() as tape:
            y = model(x, training=True)
            loss = tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(labels, y))
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        return loss

    return lambda: step(x, labels)


def network(case, norm):
    original = getattr(keras.applications, case.layer)(weights=None, input_shape=case.shape[1:])

    def clone(layer):
        is_norm = isinstance(layer, keras.layers.BatchNormalization)
        return (norm if is_norm else type(layer).from_config)(layer.get_config())

    return keras.models.clone_model(original, clone_function=clone)
