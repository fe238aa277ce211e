"""The benchmark's page and pictures, and the README's table, each made from `results.json` alone."""

import hashlib
import pathlib
import re

from bn_keras.bench import report
from bn_keras.bench.cases import GROUPS
from bn_keras.bench.plot import draw
from bn_keras.bench.results import RESULTS, ResultsError, read_results

PAGE = "README.md"


def write_pages(directory, readme=None):
    """Writes the page and the pictures beside a `results.json`, and the table between a README's marks.

    Args:
        directory: Holds the `results.json`.
        readme: The file with the marks; `None` to leave it alone.

    Returns:
        The paths written.

    Raises:
        ResultsError: When there are no results, or no marks.
    """
    directory = pathlib.Path(directory)
    results = read_results(directory)
    digest = digest_of(directory / RESULTS)
    written = [directory / PAGE]
    for group, *_ in report.sections(results):
        written.append(directory / f"{group}.svg")
        draw(results, group, written[-1], digest)
    written[0].write_text(page_text(results), encoding="utf-8")
    if readme is not None:
        written.append(pathlib.Path(readme))
        fill(written[-1], report.performance_text(results))
    return written


def digest_of(path):
    """What a picture carries to show which results it was drawn from."""
    return "drawn from results.json, sha256 " + hashlib.sha256(path.read_bytes()).hexdigest()


def fill(path, text):
    """Puts the text, marks and all, in place of what is between the marks."""
    page = path.read_text(encoding="utf-8")
    between = re.compile(re.escape(report.BEGIN) + ".*?" + re.escape(report.END), re.DOTALL)
    if not between.search(page):
        raise ResultsError(
            f"{str(path)!r} has no lines {report.BEGIN} and {report.END}. Put them where the table goes."
        )
    path.write_text(between.sub(lambda match: text, page, count=1), encoding="utf-8")


def page_text(results):
    machine = ", ".join(f"{key} {value}" for key, value in results["machine"].items() if value is not None)
    versions = ", ".join(f"{key} {value}" for key, value in results["versions"].items())
    return f"""# How fast the layers are beside their peers

{METHOD.format(rounds=results["rounds"])}
- Machine: {machine}. It copied {bandwidth_text(results)} (what is read and what is written both counted).
- Versions: {versions}. Started {results["started"]}.

{"".join(section(*each) for each in report.sections(results))}{left_out_text(results)}
---
Made by `bn-keras bench` (`make bench` writes this page) from `results.json`, which has every round. Not to be edited.
"""


METHOD = """\
- Each peer is in a process of its own, one for each section of this page, with a thread per core. They take turns,
  never two at once, in a new random order each round, so that a drift of the machine's speed reaches them all.
- A turn is as many calls as take 0.2 s, after one that is not timed. A figure is the median over {rounds} rounds,
  in brackets the lowest and the highest; a ratio is taken round by round, and more than 1 is slower than the first.
- A training step is forward and backward, with the output and the gradients of the input, the scale and the offset
  returned, so that nothing is left out. TensorFlow's peers run in a `tf.function`, PyTorch as it is usually called,
  JAX (flax.linen) under `jit`. `fused_op` is TensorFlow's kernel alone, without moving statistics.
- PyTorch's batch, group and instance norm have channels first, as is its custom.
- The floor is the time that the bytes take which have to be moved at the least, at the bandwidth at which the machine
  copies large arrays (NumPy, a thread per core), measured before and after each case: for a training step of batch
  norm 8 tensors of x's size, of the others 5, and for inference 2. What fits into the caches can be faster.
- Memory is by how much a call lifts the resident memory of a process that has made the same call before. A library
  that keeps what it once got from the system, as JAX does, shows nothing of it."""


def bandwidth_text(results):
    found = [each["copy"] / 1e9 for entry in results["cases"] for each in entry.get("bandwidth", {}).values()]
    return f"{min(found):.1f} to {max(found):.1f} GB/s meanwhile" if found else "at an unknown rate"


def section(group, columns, rows):
    title = GROUPS[group].title
    return f"## {title}\n\n![{title}]({group}.svg)\n\n{report.markdown_table(columns, rows)}\n\n"


def left_out_text(results):
    lines = report.left_out(results)
    return "## Left out\n\n" + "\n".join(f"- {line}" for line in lines) + "\n\n" if lines else ""
