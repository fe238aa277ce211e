"""Augmentations by name, all of them Keras' own layers."""

import keras

AUGMENTATIONS = {
    "flip": lambda largest: [keras.layers.RandomFlip("horizontal")],
    "shift": lambda largest: [keras.layers.RandomTranslation(0.1, 0.1, fill_mode="constant")],
    "rotate": lambda largest: [keras.layers.RandomRotation(15 / 360, fill_mode="constant")],
    "zoom": lambda largest: [keras.layers.RandomZoom(0.1, fill_mode="constant")],
    "contrast": lambda largest: [keras.layers.RandomContrast(0.2, value_range=(0, largest))],
    "brightness": lambda largest: [keras.layers.RandomBrightness(0.2, value_range=(0, largest))],
}


def make_augmentation(
    names: tuple[str, ...], input_shape: tuple[int, ...], largest: int = 255
) -> keras.Sequential | None:
    """A model that augments raw images, (batch, height, width, channels) in [0, largest]; `None` for no names."""
    if not names:
        return None
    layers = [layer for name in names for layer in AUGMENTATIONS[name](largest)]
    return keras.Sequential([keras.Input(input_shape), *layers], name="augmentation")
