"""Stored results: a JSON file that is rewritten after every entry, so that an interruption loses at most one."""

import dataclasses
import hashlib
import json
import os
import pathlib
import socket

RESULTS = "results.json"


class ResultsError(Exception):
    """Stored results are missing, unreadable or unfinished, or they were made with other settings."""


@dataclasses.dataclass(frozen=True)
class ResultsFile:
    """The `results.json` of one command: how it is read, resumed and written.

    Attributes:
        command: The command that makes it, such as `"bn-keras compare"`; error messages name it.
        entries: The key of the list that grows; the file has a line for each entry.
        fields: The other keys that a file must have.
    """

    command: str
    entries: str
    fields: tuple[str, ...]

    def read(self, path: str | os.PathLike) -> dict:
        """The results in a `results.json`, or in the directory that holds one.

        Raises:
            ResultsError: When there is no such file, or it holds something else.
        """
        path = pathlib.Path(path)
        path = path / RESULTS if path.is_dir() else path
        try:
            results = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            raise ResultsError(f"There is no {str(path)!r}. Make it with `{self.command}`.") from None
        except ValueError as error:
            raise ResultsError(f"{str(path)!r} is not JSON: {error}. Remove it and run `{self.command}`.") from None
        if not isinstance(results, dict) or not {self.entries, *self.fields} <= set(results):
            raise ResultsError(f"{str(path)!r} does not hold the results of `{self.command}`. Choose another path.")
        return results

    def read_to_resume(self, path: pathlib.Path, resume: bool) -> dict | None:
        """The results to continue; `None` where there are none yet.

        Raises:
            ResultsError: When there are results and `resume` is false.
        """
        results = self.read(path) if path.exists() else None
        if not results or not results[self.entries]:
            return None
        if not resume:
            raise ResultsError(
                f"{str(path)!r} exists already. Continue it with --resume, or choose another directory with --out."
            )
        return results

    def write(self, results: dict, path: pathlib.Path) -> None:
        """Replaces the file in one step."""
        write_whole(path, self.to_json(results))

    def to_json(self, results: dict) -> str:
        """JSON with one line per entry."""
        head = json.dumps({key: value for key, value in results.items() if key != self.entries}, indent=1)
        lines = ",\n".join("  " + json.dumps(entry) for entry in results[self.entries])
        return head.removesuffix("\n}") + f',\n "{self.entries}": [\n{lines}\n ]\n}}\n'


def write_whole(path: pathlib.Path, text: str) -> None:
    """Writes or replaces a file in one step: an interruption leaves either the old file or the new one.

    Each process writes an unfinished file of its own, so that two that write the same file do not mix.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.stem}.{socket.gethostname()}-{os.getpid()}.partial")
    unfinished.write_text(text, encoding="utf-8")
    os.replace(unfinished, path)


def check_same(path: pathlib.Path, stored: dict, wanted: dict) -> None:
    """Raises a `ResultsError` that names the first field in which stored results differ from the wanted ones."""
    for field, value in wanted.items():
        if stored.get(field) != value:
            raise ResultsError(
                f"{str(path)!r} was made with {field}={stored.get(field)!r}, not {value!r}. "
                "Resume with the same values, or choose another directory with --out."
            )


def digest_of(path: pathlib.Path) -> str:
    """The line in a picture that says which results it was drawn from."""
    return f"drawn from {path.name}, sha256 " + hashlib.sha256(path.read_bytes()).hexdigest()
