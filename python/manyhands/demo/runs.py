"""All files with one engine, timed. An engine is a context and the error by which it reports a lost item.

The same code runs manyhands, multiprocessing, or anything else that has their contexts' `Pool`: what is compared is
then the engines, not two programs.
"""

from __future__ import annotations

import hashlib
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any, NamedTuple

from .analysis import FileReport, analyse

# Small enough that a few heavy files at the end keep no worker waiting long, and the same for every engine.
CHUNKSIZE = 8

#: Called after each file with the number of files done so far.
Progress = Callable[[int], None]


class Engine(NamedTuple):
    """Something that has a `Pool`."""

    name: str
    context: BaseContext
    #: What `imap_unordered` raises for an item whose worker died (see `_loss`); None: it does not say.
    loss: type[BaseException] | None = None


class Loss(NamedTuple):
    """A file that no worker lived to report."""

    path: str
    reason: str


@dataclass
class Run:
    """What one engine made of all files."""

    name: str
    seconds: float = 0.0
    reports: list[FileReport] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)

    def digest(self) -> str:
        """Equal for equal results, in whichever order they arrived."""
        return digest(self.reports)

    @property
    def files_per_second(self) -> float:
        """Files arrived by wall time."""
        return len(self.reports) / self.seconds if self.seconds else 0.0


def digest(reports: Iterable[FileReport]) -> str:
    """Equal for equal sets of reports."""
    return hashlib.sha256(repr(sorted(reports)).encode()).hexdigest()


class Analyse:
    """What a worker does with one path. A class, because spawned workers have to be sent the folder with it."""

    def __init__(self, folder: Path, victim: str | None = None) -> None:
        self.folder = folder
        self.victim = victim

    def __call__(self, path: str) -> FileReport:
        if path == self.victim:
            # No exception, no clean-up, no farewell: what the out-of-memory killer does.
            os.kill(os.getpid(), signal.SIGKILL)
        return analyse(path, (self.folder / path).read_bytes())


def run_serially(folder: Path, paths: list[str], progress: Progress) -> Run:
    """In this process, one after the other."""
    run = Run("serial")
    started = time.perf_counter()
    task = Analyse(folder)
    for path in paths:
        run.reports.append(task(path))
        progress(len(run.reports))
    run.seconds = time.perf_counter() - started
    return run


def run_in_pool(
    engine: Engine,
    folder: Path,
    paths: list[str],
    processes: int,
    progress: Progress,
    victim: str | None = None,
) -> Run:
    """In a pool of `engine`; the time is the whole of it, from making the pool to its end."""
    run = Run(engine.name)
    started = time.perf_counter()
    with engine.context.Pool(processes) as pool:
        results = pool.imap_unordered(Analyse(folder, victim), paths, chunksize=CHUNKSIZE)
        for outcome in _outcomes(results, paths, engine.loss):
            if isinstance(outcome, Loss):
                run.losses.append(outcome)
            else:
                run.reports.append(outcome)
            progress(len(run.reports) + len(run.losses))
        pool.close()
        pool.join()
    run.seconds = time.perf_counter() - started
    return run


def _outcomes(
    results: Iterator[FileReport], paths: list[str], loss: type[BaseException] | None
) -> Iterator[FileReport | Loss]:
    """The results, with a `Loss` where the engine reports one: the iterator goes on after it."""
    while True:
        try:
            yield next(results)
        except StopIteration:
            return
        except Exception as error:
            if loss is None or not isinstance(error, loss):
                raise
            yield _loss(error, paths)


def _loss(error: Any, paths: list[str]) -> Loss:
    """In plain words; `error.item` is the place of the lost item in the iterable that was given to the call."""
    how = f"was killed by {error.signal}" if error.signal else f"ended with exit code {error.exitcode}"
    return Loss(paths[error.item], f"its worker, process {error.pid}, {how}")
