"""The face of the demonstration: a progress bar on standard error, tables on standard output. Needs rich."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
from rich.table import Table
from rich.text import Text

from .analysis import FileReport
from .runs import Progress as Advance
from .runs import Run

_REDRAW_SECONDS = 0.1


class _Speed(ProgressColumn):
    """Files per second so far."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed or 0.0
        return Text(f"{speed:,.0f} files/s", style="dim")


@contextmanager
def progress_bar(title: str, total: int) -> Iterator[Advance]:
    """Yields the function to call with the number of files done; says nothing when nobody is watching."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description:<28}"), BarColumn(), MofNCompleteColumn(), _Speed())
    # Redrawn by the caller: rich's own thread would be forked into by every worker that is started meanwhile.
    with Progress(*columns, console=console, auto_refresh=False, disable=not console.is_terminal) as progress:
        task = progress.add_task(title, total=total)
        drawn = 0.0

        def advance(done: int) -> None:
            nonlocal drawn
            now = time.monotonic()
            if now - drawn >= _REDRAW_SECONDS or done == total:
                drawn = now
                progress.update(task, completed=done, refresh=True)

        yield advance


def show_ranking(console: Console, reports: list[FileReport], count: int = 10) -> None:
    """The most branched functions, and what all files come to."""
    ranked = sorted(
        ((function, report.path) for report in reports for function in report.functions),
        key=lambda pair: (-pair[0].complexity, -pair[0].lines, pair[1], pair[0].line),
    )
    table = Table(title=f"The {min(count, len(ranked))} most branched functions", title_justify="left")
    table.add_column("complexity", justify="right")
    table.add_column("lines", justify="right")
    table.add_column("function", overflow="fold")
    table.add_column("file", overflow="fold", style="dim")
    for function, path in ranked[:count]:
        table.add_row(
            str(function.complexity),
            str(function.lines),
            Text(function.name),
            Text(f"{path}:{function.line}"),
        )
    console.print(table)

    heaviest = max(reports, key=lambda report: report.complexity, default=None)
    unparsed = sum(1 for report in reports if report.error)
    text = (
        f"{len(reports):,} files, {sum(report.lines for report in reports):,} lines, {len(ranked):,} functions; "
        f"{unparsed} files do not parse."
    )
    if heaviest is not None:
        text += f" The most branched file is {heaviest.path}, {heaviest.complexity:,} in all."
    console.print(text, highlight=False, markup=False)


def show_times(console: Console, runs: list[Run], caption: str) -> None:
    """One row a run; the first is what the others are compared with."""
    first = runs[0]
    table = Table(
        title="The same files each time", title_justify="left", caption=caption, caption_justify="left"
    )
    table.add_column("run")
    table.add_column("wall time", justify="right")
    table.add_column("speed-up", justify="right")
    table.add_column("files/s", justify="right")
    table.add_column("results")
    for run in runs:
        same = "reference" if run is first else "equal" if run.digest() == first.digest() else "DIFFERENT"
        table.add_row(
            run.name,
            f"{run.seconds:.2f} s",
            f"{first.seconds / run.seconds:.2f} x",
            f"{run.files_per_second:,.0f}",
            f"{same} ({run.digest()[:12]})",
        )
    console.print(table)


def show_loss(console: Console, run: Run, total: int, rest_equal: bool) -> None:
    """What the killed worker cost, in plain words."""
    console.print(
        f"With a worker killed (SIGKILL) in the middle, {run.name}, {run.seconds:.2f} s:", style="bold"
    )
    for loss in run.losses:
        console.print(f"  lost: {loss.path} ({loss.reason})", highlight=False, markup=False, soft_wrap=True)
    verdict = "equal to the serial run's" if rest_equal else "NOT equal to the serial run's"
    console.print(
        f"  the other {len(run.reports):,} of {total:,} files arrived, their results {verdict}.",
        highlight=False,
        markup=False,
    )
