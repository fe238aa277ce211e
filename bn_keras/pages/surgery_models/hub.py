"""How the catalogue builds a model of KerasHub."""

import functools

from bn_keras.lab.extras import packages_of


def hub(name, **settings):
    """A function that imports KerasHub and builds its model `name`; each `Part` in the settings is built first."""

    def build():
        with packages_of("dev"):
            import keras_hub

        made = {key: value() if isinstance(value, Part) else value for key, value in settings.items()}
        return getattr(keras_hub.models, name)(**made)

    return build


class Part(functools.partial):
    """A setting that is itself built, such as the image encoder of a detector."""
