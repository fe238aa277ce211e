"""The formats a model can be exported to, and the paths that they can be written to."""

import dataclasses
import os
import pathlib


@dataclasses.dataclass(frozen=True)
class Format:
    """A format.

    Attributes:
        name: The `format` argument of `export`.
        title: The name in a sentence.
        suffix: The end of the file's name; `""` for a folder.
        needs: The packages that the conversion imports.
        runtime: The package that serves the file, where that is another one.
        int8: Whether there is a file of 8-bit integers.
    """

    name: str
    title: str
    suffix: str
    needs: tuple = ()
    runtime: tuple = ()
    int8: bool = False


FORMATS = {
    format.name: format
    for format in (
        Format("saved_model", "SavedModel", ""),
        Format("tflite", "LiteRT", ".tflite", int8=True),
        Format("onnx", "ONNX", ".onnx", ("tf2onnx", "onnx"), ("onnxruntime",), int8=True),
    )
}


def free_path(path: str | os.PathLike, chosen: Format) -> pathlib.Path:
    """The path, if a file of that format can be written there."""
    if "://" in str(path):
        raise ValueError(f"Expected a path of this machine. Received: {path!r}. Export to one, and copy it from there.")
    path = pathlib.Path(path)
    suffixes = {each.suffix for each in FORMATS.values()} - {""} | {".keras", ".h5"}
    if path.suffix != chosen.suffix and (chosen.suffix or path.suffix in suffixes):
        what = f"must end in {chosen.suffix}" if chosen.suffix else "must be a folder, such as exported/1"
        raise ValueError(f"For {chosen.title} the path {what}. Received: {str(path)!r}. Or choose another `format`.")
    if os.path.lexists(path):
        raise FileExistsError(f"There is something at {str(path)!r} already. Choose another path, or remove it first.")
    above = existing(path)
    if not above.is_dir():
        raise NotADirectoryError(f"{str(above)!r} is no folder. Received: {str(path)!r}. Choose another path.")
    return path


def existing(path: pathlib.Path) -> pathlib.Path:
    """The innermost folder above a path that exists."""
    return next(folder for folder in path.absolute().parents if os.path.lexists(folder))
