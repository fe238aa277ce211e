"""The ImageNet weights of Keras: whether they are available, and the preprocessing of their images."""

import os
import pathlib
import threading
import urllib.error
import urllib.request

import keras

SERVER = "https://storage.googleapis.com/tensorflow/keras-applications/"
PROBE_SECONDS = 5

# Of the pixels 0–255: the means that the weights of Caffe were trained with, in the order blue, green, red; the means
# and deviations that those of PyTorch were trained with, in the order red, green, blue and as a share of 255.
CAFFE_MEAN = (103.939, 116.779, 123.68)
TORCH_MEAN = (0.485, 0.456, 0.406)
TORCH_DEVIATION = (0.229, 0.224, 0.225)


def preprocessing_of(mode: str) -> keras.layers.Layer:
    """Returns a layer of Keras that does what `preprocess_input` of a family of `keras.applications` does.

    Args:
        mode: "tf" scales pixels to [-1, 1]; "torch" standardizes each channel; "caffe" turns red, green, blue into
            blue, green, red and takes the mean of each channel off.

    Returns:
        The layer, for images of pixels 0–255. It has no weights.

    >>> preprocessing_of("tf")(np.array([[[[0.0, 127.5, 255.0]]]])).numpy().tolist()
    [[[[-1.0, 0.0, 1.0]]]]
    """
    if mode == "tf":
        return keras.layers.Rescaling(1 / 127.5, offset=-1.0, name="preprocessing")
    if mode == "torch":
        mean, variance = [255 * each for each in TORCH_MEAN], [(255 * each) ** 2 for each in TORCH_DEVIATION]
        return keras.layers.Normalization(mean=mean, variance=variance, name="preprocessing")
    if mode == "caffe":
        images = keras.Input((None, None, 3), name="rgb")
        centered = keras.layers.Normalization(mean=list(CAFFE_MEAN), variance=[1.0] * 3, name="centered")
        return keras.Model(images, centered(keras.ops.flip(images, axis=-1)), name="preprocessing")
    raise ValueError(f'`mode` must be "tf", "torch" or "caffe". Received: mode={mode!r}.')


def check_available(function: str, file: str) -> None:
    """Raises an error within seconds where Keras would try to download weights without a network.

    Args:
        function: The name of the function of `keras.applications`.
        file: The name of the file that it downloads.

    Raises:
        ConnectionError: When the file is not in the cache of Keras and its server does not answer.
    """
    path = cache() / file
    if path.is_file() or reachable(SERVER, PROBE_SECONDS):
        return
    raise ConnectionError(
        f"The ImageNet weights of {function} are not at {path}, and {SERVER} does not answer. Run "
        f"`keras.applications.{function}()` on a machine with a network and copy ~/.keras/models/{file} from there to "
        f"{path}; or pass weights=None for new weights."
    )


def cache() -> pathlib.Path:
    """The folder in which Keras keeps downloaded weights."""
    return pathlib.Path(os.environ.get("KERAS_HOME") or pathlib.Path.home() / ".keras") / "models"


def reachable(address: str, seconds: float) -> bool:
    """Whether a server answers within `seconds`; a thread asks, because name look-ups have no time limit."""
    answered = threading.Event()

    def ask():
        try:
            urllib.request.urlopen(address, timeout=seconds).close()
        except OSError as error:
            if not isinstance(error, urllib.error.HTTPError):  # which is an answer all the same
                return
        answered.set()

    threading.Thread(target=ask, daemon=True).start()
    return answered.wait(seconds)
