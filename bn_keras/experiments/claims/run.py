"""Measures claims: every cell once, in several processes, one stored file per claim."""

import concurrent.futures
import concurrent.futures.process
import functools
import multiprocessing
import os
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence

from bn_keras.choices.ranges import is_int
from bn_keras.experiments.claims.claim import SHARED, Cell, Claim, Form, Values, key_of, plain
from bn_keras.experiments.claims.stored import Stored, read_to_continue
from bn_keras.experiments.data import Data, load
from bn_keras.lab.machine import most_jobs
from bn_keras.lab.one_thread import start_worker
from bn_keras.lab.watcher import Watcher

# TensorFlow keeps the gradient functions of each traced network (tensorflow#97697): a process grows by some megabytes
# with each cell. New processes take over after so many cells.
CELLS_PER_PROCESS = 100


class LostProcessError(Exception):
    """A process that measured a cell has died."""


def measure_claims(
    claims: Sequence[Claim],
    out: str | os.PathLike,
    *,
    form: Form | None = None,
    data_dir: str | os.PathLike | None = None,
    jobs: int = 1,
    resume: bool = False,
    watcher: Watcher | None = None,
) -> dict[str, Stored]:
    """Measures what is missing of some claims.

    Every cell is stored when it ends, in `C1.json` and so on, so an interruption loses only the cells under way.

    Args:
        claims: The claims, such as `all_claims()`.
        out: The folder; `measure_claims` creates it.
        form: A `Form`; `None` for the full one.
        data_dir: Where tensorflow-datasets keeps its data sets; `None` for its default.
        jobs: The number of processes, each with one thread: at least 1, at most 8 or twice the number of cores,
            whichever is more. With 1, this process measures.
        resume: Whether to continue the results that `out` holds.
        watcher: A `bn_keras.lab.watcher.Watcher` that shows the progress; `None` shows nothing.

    Returns:
        The results by the id of the claim.

    Raises:
        ValueError: For a number of `jobs` out of range.
        ResultsError: When `out` has results and `resume` is false, when they are of another form, or when unfinished
            ones have another protocol or other versions.
        DataError: When a data set of a claim cannot be used; nothing has been measured then.
        FileNotFoundError: When a data set cannot be downloaded; nothing has been measured then.
        LostProcessError: When a process has died.
        Exception: What the measurement of a cell raised, with a note that names the cell.
    """
    if not is_int(jobs) or not 1 <= jobs <= most_jobs():
        raise ValueError(f"`jobs` must be an int in [1, {most_jobs()}]. Received: jobs={jobs!r}.")
    form, watcher = form or Form(), watcher or Watcher()
    results = {claim.id: read_to_continue(claim, form, pathlib.Path(out).expanduser(), resume) for claim in claims}
    pending = [claim for claim in claims if claim.missing(form, results[claim.id].found)]
    for name in sorted({name for claim in pending for name in claim.data(form)}):
        load(name, data_dir)
    while pending:
        with make_executor(jobs) as executor:
            measure_pending(pending, results, form, executor, jobs, data_dir, watcher)
        pending = [claim for claim in pending if claim.missing(form, results[claim.id].found)]
    return results


def measure_pending(
    claims: Sequence[Claim],
    results: Mapping[str, Stored],
    form: Form,
    executor: concurrent.futures.Executor,
    jobs: int,
    data_dir: str | os.PathLike | None,
    watcher: Watcher,
) -> None:
    """Keeps `jobs` cells under way until no claim misses any, or until the processes have done their share."""
    total, left = 0, jobs * CELLS_PER_PROCESS
    under_way: dict[concurrent.futures.Future, tuple[Claim, Cell]] = {}
    others = set(multiprocessing.active_children())
    try:
        while True:
            share(claims, results, form)
            # A second stage of a claim appears when its first stage is complete.
            cells = {work_of(claim, cell) for claim in claims for cell in claim.cells(form, results[claim.id].found)}
            if total != (total := len(cells)):
                missing = {work_of(*pair) for pair in next_cells(claims, results, form, [])}
                watcher.begin("measurement", total, total - len(missing))
            for claim, cell in next_cells(claims, results, form, list(under_way.values())):
                if len(under_way) == jobs or not left:
                    break
                left -= 1
                watcher.item_begins(words_of(claim, cell))
                under_way[executor.submit(measure_cell, claim.measure, cell, data_dir)] = claim, cell
            if not under_way:
                return
            ended, _ = concurrent.futures.wait(under_way, return_when=concurrent.futures.FIRST_COMPLETED)
            # What succeeded is stored before an error ends everything.
            for future in sorted(ended, key=lambda future: future.exception() is not None):
                claim, cell = under_way[future]
                values = values_of(future, claim, cell)
                results[claim.id].put(cell, values)
                del under_way[future]
                watcher.item_begins(words_of(claim, cell))
                watcher.item_advances(1.0, f"{values['seconds']:.1f} s")
                watcher.item_ends(f"{values['seconds']:.1f} s")
    except BaseException as error:  # an interruption too: a cell can take minutes, and nobody waits for it
        executor.shutdown(wait=False, cancel_futures=True)
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        if isinstance(error, concurrent.futures.process.BrokenProcessPool):
            raise lost(list(under_way.values())) from None
        raise


def work_of(claim: Claim, cell: Cell) -> tuple[str, str]:
    """What tells measurements apart; a shared cell is the same work in every claim."""
    return "" if SHARED in cell else claim.id, key_of(cell)


def share(claims: Sequence[Claim], results: Mapping[str, Stored], form: Form) -> None:
    """Gives the claims the shared cells that another claim has measured."""
    pairs = [pair for stored in results.values() for pair in stored.found.pairs.values()]
    known = {key_of(cell): values for cell, values in pairs if SHARED in cell}
    for claim in claims if known else ():
        for cell in claim.missing(form, results[claim.id].found):
            if key_of(cell) in known:
                results[claim.id].put(cell, known[key_of(cell)])


def next_cells(claims, results, form, under_way):
    """The cells that nobody measures yet, claim by claim."""
    busy = {work_of(claim, cell) for claim, cell in under_way}
    for claim in claims:
        for cell in claim.missing(form, results[claim.id].found):
            if work_of(claim, cell) not in busy:
                yield claim, cell


def values_of(future: concurrent.futures.Future, claim: Claim, cell: Cell) -> Values:
    """What a cell gave; an error names the cell."""
    try:
        return future.result()
    except Exception as error:
        error.add_note(f"This happened in the measurement of {words_of(claim, cell)}.")
        raise


def lost(cells: Sequence[tuple[Claim, Cell]]) -> LostProcessError:
    """The error for a process that died; nobody knows which of the cells under way it measured."""
    words = "; ".join(words_of(claim, cell) for claim, cell in cells)
    return LostProcessError(
        f"A process died while these measurements were under way: {words}. The memory may be too small. "
        "The finished measurements are stored. Continue with --resume and fewer --jobs."
    )


def words_of(claim: Claim, cell: Cell) -> str:
    """A cell for people."""
    return f"{claim.id}, " + ", ".join(f"{name} {value}" for name, value in cell.items())


def measure_cell(measure: Callable, cell: Cell, data_dir: str | os.PathLike | None) -> Values:
    """Measures a cell, in this process or in one of several."""
    started = time.perf_counter()
    values = plain(measure(cell, functools.partial(cached_data, data_dir=data_dir)))
    return values | {"seconds": round(time.perf_counter() - started, 2)}


@functools.lru_cache(maxsize=4)
def cached_data(name: str, data_dir: str | os.PathLike | None, image_size: int | None = None) -> Data:
    """A data set, loaded once by each process."""
    return load(name, data_dir, image_size=image_size)


class Here(concurrent.futures.Executor):
    """Measures in this process, at once."""

    def submit(self, function, /, *args, **kwargs):
        future = concurrent.futures.Future()
        try:
            future.set_result(function(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def make_executor(jobs: int) -> concurrent.futures.Executor:
    """This process, or several that have one thread each."""
    if jobs == 1:
        return Here()
    context = multiprocessing.get_context("spawn")
    return concurrent.futures.ProcessPoolExecutor(jobs, mp_context=context, initializer=start_worker)
