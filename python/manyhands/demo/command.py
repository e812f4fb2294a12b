"""The command line of the demonstration, and the order of its runs."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
from collections.abc import Sequence
from multiprocessing.context import BaseContext
from pathlib import Path

import manyhands

from .runs import CHUNKSIZE, Engine, digest, run_in_pool, run_serially
from .sources import python_files, standard_library, warm


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the demonstration; 0 if all results are equal and exactly the killed worker's file was lost."""
    options = _parser().parse_args(argv)
    try:
        import rich  # noqa: F401
    except ImportError:
        print(
            "the demo draws with rich, which is not installed: pip install 'manyhands[demo]'", file=sys.stderr
        )
        return 2
    ours = Engine("manyhands", manyhands.get_context(options.start_method), manyhands.WorkerDied)
    theirs = Engine("multiprocessing", multiprocessing.get_context(options.start_method))
    folder = Path(options.dir).resolve() if options.dir else standard_library()
    if not folder.is_dir():
        print(f"{folder} is not a folder", file=sys.stderr)
        return 2
    return demonstrate(folder, options.files, options.processes, ours, None if options.no_stdlib else theirs)


def demonstrate(folder: Path, limit: int | None, processes: int, ours: Engine, theirs: Engine | None) -> int:
    """The runs in order: serially, with both engines, and with `ours` again, one of its workers being killed."""
    # Not at the top: workers import this module too, and have no use for rich.
    from rich.console import Console

    from . import report

    console = Console()
    paths = _spread(python_files(folder), limit)
    if not paths:
        console.print(f"No Python files in {folder}.", highlight=False, markup=False)
        return 2
    megabytes = warm(folder, paths) / 1e6
    console.print(
        f"{len(paths):,} Python files ({megabytes:.1f} MB) in {folder}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )

    with report.progress_bar("serially", len(paths)) as advance:
        runs = [run_serially(folder, paths, advance)]
    for engine in (ours, theirs):
        if engine is not None:
            with report.progress_bar(f"with {engine.name}", len(paths)) as advance:
                runs.append(run_in_pool(engine, folder, paths, processes, advance))

    victim = paths[len(paths) // 2]
    with report.progress_bar(f"{ours.name}, a worker killed", len(paths)) as advance:
        killed = run_in_pool(ours, folder, paths, processes, advance, victim)

    serial = runs[0]
    rest = digest(each for each in serial.reports if each.path != victim)
    all_equal = all(run.digest() == serial.digest() for run in runs)
    one_lost = [loss.path for loss in killed.losses] == [victim] and killed.digest() == rest

    report.show_ranking(console, serial.reports)
    console.print()
    caption = (
        f"{processes} processes, start method {_method(ours.context)}, imap_unordered with chunksize={CHUNKSIZE}; "
        "times include making the pool and its end"
    )
    report.show_times(console, runs, caption)
    console.print()
    report.show_loss(console, killed, len(paths), killed.digest() == rest)
    return 0 if all_equal and one_lost else 1


def _spread(paths: list[str], limit: int | None) -> list[str]:
    """At most `limit` of the paths, from everywhere rather than from the beginning of the alphabet."""
    if limit is None or limit >= len(paths):
        return paths
    return [paths[index * len(paths) // limit] for index in range(limit)]


def _method(context: BaseContext) -> str:
    return context.get_start_method()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m manyhands demo",
        description="Rank the functions of a source tree: serially, with manyhands' Pool, with multiprocessing's, and "
        "with manyhands' again while a worker is killed.",
    )
    parser.add_argument(
        "dir", metavar="DIR", nargs="?", help="a folder with Python files (default: the standard library)"
    )
    parser.add_argument("--processes", type=_positive, default=len(os.sched_getaffinity(0)), metavar="N")
    parser.add_argument(
        "--start-method", choices=["fork", "forkserver", "spawn"], help="default: the interpreter's own"
    )
    parser.add_argument("--files", type=_positive, metavar="N", help="only N of the files")
    parser.add_argument("--no-stdlib", action="store_true", help="leave out the run with multiprocessing")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number
