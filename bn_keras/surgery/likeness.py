"""Whether two layers are alike: of one class and config, whatever their names and weights."""

import keras

from bn_keras.surgery.tree import graph_layers, slots

# What Keras numbers anew in each process, or keeps of the state rather than of the arguments.
NAMES = {"name", "shared_object_id", "build_config", "build_input_shape", "compile_config"}


def original_class(layer) -> type:
    """The class of a layer before surgery derived another one from it, see `bn_keras.surgery.changed`."""
    return getattr(type(layer), "class_before_surgery", type(layer))


def original_config(layer) -> dict:
    """What `get_config` of the original class returns."""
    changed, original = type(layer), original_class(layer)
    if changed is original:
        return layer.get_config()
    # Keras derives a config from the arguments of the constructor only if the class has no `get_config`.
    layer.__class__ = original
    try:
        return layer.get_config()
    finally:
        layer.__class__ = changed


def same(one, other) -> bool:
    """Whether two layers have one class and one config but for names."""
    return type(one) is type(other) and config_without_names(one) == config_without_names(other)


def alike(one, other, seen=()) -> bool:
    """Whether two layers are the same but for `trainable`, with all that they hold.

    Layers that one of them has not made yet do not count.
    """
    if one in seen:
        return True
    if type(one) is not type(other):
        return False
    if config_without_names(one, {"trainable"}) != config_without_names(other, {"trainable"}):
        return False
    seen = (*seen, one)
    rows, others = graph_layers(one), graph_layers(other)
    if len(rows) != len(others) or not all(alike(*pair, seen) for pair in zip(rows, others, strict=True)):
        return False
    made = dict(slots(other))
    return all(alike(each, made[path], seen) for path, each in slots(one) if path in made)


def config_without_names(layer, more=frozenset()):
    """The config of a layer; `None` where its class has none, or none that works: then the class alone counts."""
    try:
        return without(NAMES | more, layer.get_config())
    except Exception:
        return None


def without(names, config):
    if isinstance(config, dict):
        return {key: without(names, value) for key, value in config.items() if key not in names}
    if isinstance(config, (list, tuple)):
        return [without(names, value) for value in config]
    return config


def is_plain(layer) -> bool:
    """Whether Keras' own config of a functional or Sequential model tells all of its layers."""
    return isinstance(layer, keras.Model) and "layers" in original_config(layer)
