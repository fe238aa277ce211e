"""Text as tokens: every character is a token, and the label of a character is the next one."""

import pathlib

import numpy as np

from bn_keras.experiments.data.arrays import ArraySplit
from bn_keras.experiments.data.dataset import Data, DataError, check_size, described, mebibytes

TOKEN_BYTES = 4


def load_text(name: str, path: str, length: int, memory_limit: int) -> Data:
    """The characters of a UTF-8 file as `Data`; the last tenth of them is the test.

    Raises:
        DataError: When the file is missing, is not UTF-8, or is too short or too large.
    """
    text = read(pathlib.Path(path).expanduser())
    cut = len(text) * 9 // 10
    return tokens_of(name, text[:cut], text[cut:], length, memory_limit)


def read(path):
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"The file {str(path)!r} does not exist. Check the path after 'text:'.") from None
    except OSError as error:
        raise DataError(f"{str(path)!r} cannot be read: {error.strerror}. 'text:PATH' needs a text file.") from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"The file {str(path)!r} is not UTF-8: byte {error.start:,} cannot be decoded. Convert it, for example "
            "with iconv -t UTF-8."
        ) from error


def tokens_of(name: str, train: str, test: str, length: int, memory_limit: int) -> Data:
    """Two texts as `Data`: sequences of `length` tokens one after the other; the vocabulary is that of both."""
    if length < 1:
        raise DataError(f"`length` must be a number of tokens ≥ 1. Received: length={length}.")
    shortest = min(len(train), len(test))
    if shortest <= length:
        raise DataError(
            f"The text {name!r} is too short: its test part needs more than {length} characters, the length of a "
            f"sequence. Received: {shortest:,}. Use a longer text or a smaller `length`."
        )
    size = TOKEN_BYTES * (len(train) + len(test))
    if not check_size(name, size, memory_limit):
        raise DataError(
            f"The text {name!r} needs {mebibytes(size)} as tokens, more than the limit of {mebibytes(memory_limit)}; "
            "text is not streamed. Raise `memory_limit` or use a part of the text."
        )
    codes = np.frombuffer((train + test).encode("utf-32-le"), np.uint32)
    vocabulary, tokens = np.unique(codes, return_inverse=True)
    tokens = tokens.astype(np.int32)
    splits = [sequences(part, length) for part in (tokens[: len(train)], tokens[len(train) :])]
    inputs = f"a sequence of {length} tokens, {len(vocabulary)} different ones"
    summary = described(name, tuple(split.examples for split in splits), inputs, size, memory_limit)
    characters = tuple(chr(code) for code in vocabulary)
    return Data(name, len(characters), (length,), *splits, summary, characters)


def sequences(tokens, length):
    """Views of one array: the labels are the inputs one token later."""
    count = (len(tokens) - 1) // length
    inputs, labels = (tokens[start : start + count * length].reshape(count, length) for start in (0, 1))
    return ArraySplit(inputs, labels)
