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


def made_alike(layer, made) -> bool:
    """Whether a class has made a layer like another one, whatever both hold."""
    if type(made) is not original_class(layer):
        return False
    return equal(config_or_none(layer), config_or_none(made), NAMES | {"trainable"})


def same(one, other) -> bool:
    """Whether two layers have one class and one config but for names."""
    return type(one) is type(other) and equal(derived_config_or_none(one), derived_config_or_none(other), NAMES)


def alike(one, other, seen=()) -> bool:
    """Whether two layers are the same but for `trainable`, with all that they hold.

    Layers that one of them has not made yet do not count.
    """
    if one in seen:
        return True
    if type(one) is not type(other):
        return False
    if not equal(derived_config_or_none(one), derived_config_or_none(other), NAMES | {"trainable"}):
        return False
    seen = (*seen, one)
    rows, others = graph_layers(one), graph_layers(other)
    if len(rows) != len(others) or not all(alike(*pair, seen) for pair in zip(rows, others, strict=True)):
        return False
    made = dict(slots(other))
    return all(alike(each, made[path], seen) for path, each in slots(one) if path in made)


def equal(one, other, without) -> bool:
    """Whether two configs are equal but for some keys.

    A class without a config, or whose config does not work, counts alone; so does a layer that stands in a config.
    """
    if one is None or other is None:
        return True
    return comparable(one, without) == comparable(other, without)


def comparable(config, without, places=None):
    """A config without some keys, and with the place of a layer in its graph instead of its name."""
    places = places or {}
    if isinstance(config, dict):
        layers = config.get("layers")
        if isinstance(layers, (list, tuple)):
            names = [each.get("name") for each in layers if isinstance(each, dict)]
            places = places | {name: i for i, name in enumerate(names)}
        return {key: comparable(value, without, places) for key, value in config.items() if key not in without}
    if isinstance(config, (list, tuple)):
        return [comparable(value, without, places) for value in config]
    if isinstance(config, str):
        return places.get(config, config)
    return type(config) if isinstance(config, keras.layers.Layer) else config


def config_or_none(layer):
    try:
        return original_config(layer)
    except Exception:
        return None


def derived_config_or_none(layer):
    try:
        return layer.get_config()
    except Exception:
        return None


def is_plain(layer) -> bool:
    """Whether Keras' own config of a functional or Sequential model tells all of its layers."""
    return isinstance(layer, keras.Model) and "layers" in (config_or_none(layer) or {})
