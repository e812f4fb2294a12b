"""What a process does at its end, which it does only where there is something to do."""

from __future__ import annotations

import contextlib
import os
import sys
from multiprocessing import util
from typing import Any

import ends_of_processes as targets
import pytest
from processes import is_running, wait_gone

pytestmark = pytest.mark.standard


def answers(ctx: Any, target: Any, count: int) -> list[Any]:
    """What a process sends that runs the target to its end."""
    ours, theirs = ctx.Pipe()
    process = ctx.Process(target=target, args=(theirs,))
    process.start()
    theirs.close()
    received = [ours.recv() for _ in range(count)]
    process.join()
    ours.close()
    assert process.exitcode == 0
    return received


def test_a_target_that_stands_for_nothing_is_called(ctx: Any) -> None:
    assert answers(ctx, targets.StandIn(), 1) == ["called"]


def test_finalizers_run_at_the_end(ctx: Any) -> None:
    assert answers(ctx, targets.leave_a_finalizer, 2) == ["returned", "finalized"]


def test_exit_handlers_run_where_the_standard_library_runs_them(ctx: Any) -> None:
    """Before 3.13 a forked child ends without them."""
    ours, theirs = ctx.Pipe()
    process = ctx.Process(target=targets.leave_an_exit_handler, args=(theirs,))
    process.start()
    theirs.close()
    received = []
    with contextlib.suppress(EOFError):
        while True:
            received.append(ours.recv())
    process.join()
    ours.close()
    runs = ctx.get_start_method() == "spawn" or sys.version_info >= (3, 13)
    assert received == ["returned", *["at exit"] * runs]
    assert process.exitcode == 0


def test_daemons_end_with_their_parent(ctx: Any) -> None:
    ours, theirs = ctx.Pipe()
    process = ctx.Process(target=targets.leave_a_daemon, args=(ctx, theirs))
    process.start()
    daemon = ours.recv()
    process.join()
    assert process.exitcode == 0
    wait_gone([daemon])
    ours.close()
    theirs.close()


def test_the_end_is_logged(ctx: Any) -> None:
    logged = answers(ctx, targets.log_to_the_end, 2)
    assert set(logged) == {"process shutting down", "process exiting with exitcode 0"}


@pytest.mark.ours_only
def test_a_users_fork_has_none_of_its_parents_children(ctx: Any) -> None:
    """The standard library's at-exit function would end the daemons among them."""
    ours, theirs = ctx.Pipe()
    process = ctx.Process(target=ours.recv, daemon=True)
    process.start()
    forked = os.fork()
    if forked == 0:
        try:
            children = ctx.active_children()
            util._exit_function()  # type: ignore[attr-defined]
            os._exit(len(children))
        finally:
            os._exit(99)
    assert os.waitstatus_to_exitcode(os.waitpid(forked, 0)[1]) == 0
    assert process.pid is not None
    assert is_running(process.pid)
    assert ctx.active_children() == [process]
    theirs.send(None)
    process.join()
    assert process.exitcode == 0
    ours.close()
    theirs.close()
