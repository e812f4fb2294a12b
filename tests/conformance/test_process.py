"""`Process` and what belongs to it, as the standard library's documentation has it."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from multiprocessing import process as processes
from multiprocessing.connection import wait
from typing import Any

import pytest
import targets
from processes import is_running, kill, wait_gone, wait_until

pytestmark = pytest.mark.standard

# Long enough to mean "for ever" to a test that waits for something that happens at once.
LONG = 30.0
SHORT = 0.05


@pytest.fixture
def waiting(ctx: Any) -> Any:
    """Makes processes that run until they are told to stop, and collects them at the end."""
    made = []

    def make(target: Any = targets.report_then_wait, **kwargs: Any) -> tuple[Any, Any]:
        ours, theirs = ctx.Pipe()
        process = ctx.Process(target=target, args=(theirs,), **kwargs)
        process.start()
        theirs.close()
        made.append((process, ours))
        assert ours.recv() == process.pid
        return process, ours

    yield make
    for process, ours in made:
        # Not by closing our end: a forked child has a copy of it, and would never see the end.
        with contextlib.suppress(OSError):
            ours.send("stop")
        ours.close()
        with contextlib.suppress(ValueError):  # closed by the test
            process.join(LONG)
            process.kill()
            process.join()
            process.close()


def run(ctx: Any, target: Any, *args: Any) -> Any:
    process = ctx.Process(target=target, args=args)
    process.start()
    process.join(LONG)
    return process


def ask(ctx: Any, target: Any, *args: Any, **options: Any) -> Any:
    """Runs `target(conn, *args)` in a child and returns the one thing that it sends."""
    ours, theirs = ctx.Pipe()
    process = ctx.Process(target=target, args=(theirs, *args), **options)
    process.start()
    theirs.close()
    try:
        return ours.recv()
    finally:
        ours.close()
        process.join(LONG)
        assert process.exitcode == 0


@pytest.fixture
def output_of(ctx: Any, tmp_path: Any) -> Any:
    """Runs something in a child; returns the process and all that it wrote."""

    def output(target: Any, *args: Any) -> tuple[Any, str]:
        path = tmp_path / "output"
        process = run(ctx, targets.with_output, str(path), target, *args)
        return process, path.read_text()

    return output


class TestExitCode:
    def test_is_none_before_the_start(self, ctx: Any) -> None:
        assert ctx.Process(target=targets.nothing).exitcode is None

    def test_is_none_while_running(self, waiting: Any) -> None:
        process, _ = waiting()
        assert process.exitcode is None

    def test_is_0_after_a_return(self, ctx: Any) -> None:
        assert run(ctx, targets.nothing).exitcode == 0

    @pytest.mark.parametrize(
        ("code", "expected"),
        [(None, 0), (0, 0), (7, 7), (255, 255), (True, 1), (False, 0), ("a text", 1), ([], 1), (2.5, 1)],
        ids=repr,
    )
    def test_sys_exit(self, ctx: Any, code: Any, expected: int) -> None:
        assert run(ctx, targets.leave, code).exitcode == expected

    @pytest.mark.parametrize(("code", "expected"), [(-1, 255), (256, 0), (300, 44), (-300, 212)])
    def test_sys_exit_with_more_than_a_byte(self, ctx: Any, code: int, expected: int) -> None:
        assert run(ctx, targets.leave, code).exitcode == expected

    # The standard library's forked child goes on with its parent's program here, since it cannot end.
    @pytest.mark.ours_only
    @pytest.mark.parametrize(
        ("code", "spawned"), [(1 << 40, 0), (5 + (1 << 32), 5), (1 << 70, 255)], ids=repr
    )
    def test_sys_exit_with_more_than_an_int(self, ctx: Any, code: int, spawned: int) -> None:
        expected = spawned if ctx.get_start_method() == "spawn" else 1
        assert run(ctx, targets.leave, code).exitcode == expected

    def test_sys_exit_with_a_text_prints_it(self, output_of: Any) -> None:
        assert "goodbye to all that" in output_of(targets.leave, "goodbye to all that")[1]

    def test_is_1_after_an_exception(self, output_of: Any) -> None:
        process, err = output_of(targets.fail, "what went wrong")
        assert process.exitcode == 1
        assert f"Process {process.name}:" in err
        assert "Traceback" in err
        assert "ValueError: what went wrong" in err

    @pytest.mark.parametrize("code", [0, 1, 42])
    def test_os_exit(self, ctx: Any, code: int) -> None:
        assert run(ctx, targets.leave_hard, code).exitcode == code

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGUSR1, signal.SIGINT])
    def test_of_a_signal_is_negative(self, ctx: Any, number: int) -> None:
        assert run(ctx, targets.signal_self, int(number)).exitcode == -number

    def test_of_a_kill_from_outside(self, waiting: Any) -> None:
        process, _ = waiting()
        kill(process.pid)
        process.join(LONG)
        assert process.exitcode == -signal.SIGKILL

    def test_without_a_target(self, ctx: Any) -> None:
        process = ctx.Process()
        process.start()
        process.join(LONG)
        assert process.exitcode == 0


class TestStart:
    def test_twice_is_refused(self, ctx: Any) -> None:
        process = run(ctx, targets.nothing)
        with pytest.raises(AssertionError, match="cannot start a process twice"):
            process.start()

    def test_passes_arguments(self, ctx: Any) -> None:
        got = ask(ctx, targets.send_args, 1, ["two", 3.0], kwargs={"four": {5: b"6"}})
        assert got == ((1, ["two", 3.0]), {"four": {5: b"6"}})

    def test_from_a_child(self, ctx: Any) -> None:
        ours, theirs = ctx.Pipe()
        process = ctx.Process(target=targets.nest, args=(ctx, theirs, 2))
        process.start()
        assert ours.recv() == "reached"
        process.join(LONG)
        assert process.exitcode == 0
        ours.close()
        theirs.close()

    def test_many_at_once(self, ctx: Any) -> None:
        started = [ctx.Process(target=targets.leave, args=(number,)) for number in range(8)]
        for process in started:
            process.start()
        for process in started:
            process.join(LONG)
        assert [process.exitcode for process in started] == list(range(8))

    def test_group_must_be_none(self, ctx: Any) -> None:
        with pytest.raises(AssertionError):
            ctx.Process(group=1)


class TestSubclass:
    @pytest.mark.methods("fork")
    def test_run_is_what_runs(self, ctx: Any) -> None:
        # A class made here cannot be pickled: fork alone needs no pickling.
        ours, theirs = ctx.Pipe()

        class Adder(ctx.Process):  # type: ignore[misc]
            def __init__(self, left: int, right: int) -> None:
                super().__init__(name="adder")
                self.numbers = left, right

            def run(self) -> None:
                theirs.send(sum(self.numbers))

        process = Adder(3, 4)
        process.start()
        assert ours.recv() == 7
        process.join(LONG)
        assert process.exitcode == 0
        ours.close()
        theirs.close()

    def test_run_called_directly_runs_here(self, ctx: Any) -> None:
        seen: list[int] = []
        ctx.Process(target=lambda: seen.append(os.getpid())).run()
        assert seen == [os.getpid()]


class TestJoin:
    def test_before_the_start_is_refused(self, ctx: Any) -> None:
        with pytest.raises(AssertionError, match="can only join a started process"):
            ctx.Process(target=targets.nothing).join()

    @pytest.mark.parametrize("timeout", [0, 0.0, SHORT, -1])
    def test_timeout_returns_none_and_the_process_runs_on(self, waiting: Any, timeout: float) -> None:
        process, _ = waiting()
        assert process.join(timeout) is None
        assert process.is_alive()

    def test_without_timeout_waits_for_the_end(self, waiting: Any) -> None:
        process, conn = waiting()
        conn.send("go")
        assert process.join() is None
        assert not process.is_alive()

    def test_can_be_repeated(self, ctx: Any) -> None:
        process = run(ctx, targets.nothing)
        process.join()
        process.join(SHORT)
        assert process.exitcode == 0

    @pytest.mark.methods("fork")
    def test_of_a_sibling_is_refused(self, ctx: Any, waiting: Any) -> None:
        process, _ = waiting()
        ours, theirs = ctx.Pipe()

        def join_it() -> None:
            try:
                process.join()
            except AssertionError as error:
                theirs.send(str(error))

        sibling = ctx.Process(target=join_it)
        sibling.start()
        assert ours.recv() == "can only join a child process"
        sibling.join()
        ours.close()
        theirs.close()


class TestAlive:
    def test_is_false_before_the_start(self, ctx: Any) -> None:
        assert ctx.Process(target=targets.nothing).is_alive() is False

    def test_is_true_while_running_then_false(self, waiting: Any) -> None:
        process, conn = waiting()
        assert process.is_alive() is True
        conn.send("go")
        process.join(LONG)
        assert process.is_alive() is False


class TestTerminateAndKill:
    def test_terminate(self, waiting: Any) -> None:
        process, _ = waiting()
        process.terminate()
        process.join(LONG)
        assert process.exitcode == -signal.SIGTERM

    def test_kill(self, waiting: Any) -> None:
        process, _ = waiting(targets.ignore_sigterm_then_wait)
        process.terminate()
        process.join(SHORT)
        assert process.is_alive()
        process.kill()
        process.join(LONG)
        assert process.exitcode == -signal.SIGKILL

    def test_after_the_end_does_nothing(self, ctx: Any) -> None:
        process = run(ctx, targets.nothing)
        process.terminate()
        process.kill()
        assert process.exitcode == 0

    def test_of_one_that_was_stopped(self, waiting: Any) -> None:
        process, _ = waiting()
        os.kill(process.pid, signal.SIGSTOP)
        process.kill()
        process.join(LONG)
        assert process.exitcode == -signal.SIGKILL


class TestClose:
    def test_of_a_running_one_is_refused(self, waiting: Any) -> None:
        process, _ = waiting()
        with pytest.raises(ValueError, match="Cannot close a process while it is still running"):
            process.close()
        assert process.is_alive()

    def test_gives_up_the_object(self, ctx: Any) -> None:
        process = run(ctx, targets.nothing)
        process.close()
        process.close()
        for use in (
            process.is_alive,
            process.join,
            process.terminate,
            process.kill,
            lambda: process.exitcode,
            lambda: process.pid,
            lambda: process.sentinel,
        ):
            with pytest.raises(ValueError, match="process object is closed"):
                use()
        assert "closed" in repr(process)

    def test_of_one_never_started(self, ctx: Any) -> None:
        process = ctx.Process(target=targets.nothing)
        process.close()
        with pytest.raises(ValueError, match="closed"):
            process.start()


class TestNames:
    def test_default_counts_up(self, ctx: Any) -> None:
        first, second = ctx.Process(), ctx.Process()
        prefix, number = first.name.rsplit("-", 1)
        assert prefix.endswith("Process")
        assert second.name == f"{prefix}-{int(number) + 1}"

    def test_given_and_changed(self, ctx: Any) -> None:
        process = ctx.Process(name="bee")
        assert process.name == "bee"
        process.name = "wasp"
        assert process.name == "wasp"
        with pytest.raises(AssertionError):
            process.name = 3

    def test_reaches_the_child(self, ctx: Any) -> None:
        assert ask(ctx, targets.send_facts, name="bee")["name"] == "bee"

    def test_repr_tells_the_state(self, ctx: Any, waiting: Any) -> None:
        fresh = ctx.Process(name="bee")
        assert "name='bee'" in repr(fresh)
        assert "initial" in repr(fresh)
        process, conn = waiting(name="wasp")
        assert "started" in repr(process)
        assert f"pid={process.pid}" in repr(process)
        assert f"parent={os.getpid()}" in repr(process)
        conn.send("go")
        process.join(LONG)
        assert "stopped" in repr(process)
        assert "exitcode=0" in repr(process)
        assert "SIGTERM" in repr(run(ctx, targets.signal_self, int(signal.SIGTERM)))


class TestIdentity:
    def test_of_the_child(self, ctx: Any) -> None:
        facts = ask(ctx, targets.send_facts)
        assert facts["pid"] == facts["ident"] != os.getpid()
        assert facts["parent pid"] == os.getpid()
        assert facts["parent name"] == processes.current_process().name
        assert facts["parent alive"] is True
        assert facts["children"] == 0

    def test_pid_and_ident(self, ctx: Any, waiting: Any) -> None:
        assert ctx.Process().pid is None
        process, _ = waiting()
        assert process.pid == process.ident
        assert is_running(process.pid)

    def test_current_process(self, ctx: Any) -> None:
        current = ctx.current_process()
        assert current.pid == os.getpid()
        assert current.name == "MainProcess"
        assert current.daemon is False
        assert ctx.parent_process() is None

    def test_parent_process_ends(self, ctx: Any) -> None:
        # A child of a child, whose parent leaves: it sees that through parent_process().
        ours, theirs = ctx.Pipe()
        middle = ctx.Process(target=targets.start_orphan, args=(ctx, theirs))
        middle.start()
        theirs.close()
        assert ours.recv() is True
        ours.send("you may end")
        middle.join(LONG)
        assert ours.recv() is False
        ours.close()


class TestAuthkey:
    def test_is_the_parents(self, ctx: Any) -> None:
        own = processes.current_process().authkey
        assert isinstance(own, bytes)
        assert ask(ctx, targets.send_facts)["authkey"] == bytes(own)

    def test_can_be_set(self, ctx: Any) -> None:
        ours, theirs = ctx.Pipe()
        process = ctx.Process(target=targets.send_facts, args=(theirs,))
        process.authkey = b"open sesame"
        process.start()
        assert ours.recv()["authkey"] == b"open sesame"
        process.join(LONG)
        ours.close()
        theirs.close()

    def test_cannot_be_pickled(self, ctx: Any) -> None:
        import pickle

        with pytest.raises(TypeError, match="Pickling an AuthenticationString"):
            pickle.dumps(ctx.current_process().authkey)


class TestDaemon:
    def test_is_inherited_as_false_and_can_be_given(self, ctx: Any) -> None:
        assert ctx.Process().daemon is False
        assert ctx.Process(daemon=True).daemon is True
        process = ctx.Process()
        process.daemon = True
        assert process.daemon is True

    def test_reaches_the_child(self, ctx: Any) -> None:
        assert ask(ctx, targets.send_facts, daemon=True)["daemon"] is True

    def test_cannot_be_set_after_the_start(self, waiting: Any) -> None:
        process, _ = waiting()
        with pytest.raises(AssertionError, match="process has already started"):
            process.daemon = True

    def test_may_not_have_children(self, ctx: Any) -> None:
        ours, theirs = ctx.Pipe()
        process = ctx.Process(target=targets.start_child_and_report, args=(ctx, theirs), daemon=True)
        process.start()
        assert ours.recv() == "daemonic processes are not allowed to have children"
        process.join(LONG)
        ours.close()
        theirs.close()


class TestActiveChildren:
    def test_lists_those_that_run(self, ctx: Any, waiting: Any) -> None:
        process, conn = waiting()
        assert process in ctx.active_children()
        conn.send("go")
        process.join(LONG)
        assert process not in ctx.active_children()

    def test_collects_those_that_ended(self, ctx: Any) -> None:
        process = ctx.Process(target=targets.nothing)
        process.start()
        # The sentinel may be ready a moment before the process can be collected.
        wait_until(lambda: process not in ctx.active_children())
        assert process.exitcode == 0


class TestSentinel:
    def test_needs_a_start(self, ctx: Any) -> None:
        with pytest.raises(ValueError, match="process not started"):
            _ = ctx.Process().sentinel

    def test_is_ready_when_the_process_has_ended(self, waiting: Any) -> None:
        process, conn = waiting()
        assert isinstance(process.sentinel, int)
        assert wait([process.sentinel], SHORT) == []
        conn.send("go")
        assert wait([process.sentinel], LONG) == [process.sentinel]
        process.join(LONG)
        assert process.exitcode == 0

    def test_of_several(self, waiting: Any) -> None:
        first, _ = waiting()
        second, conn = waiting()
        conn.send("go")
        assert wait([first.sentinel, second.sentinel], LONG) == [second.sentinel]

    def test_of_a_killed_one(self, waiting: Any) -> None:
        process, _ = waiting()
        kill(process.pid)
        assert wait([process.sentinel], LONG) == [process.sentinel]
        wait_gone([process.pid])


class TestStandardStreams:
    def test_output_is_flushed_at_the_end(self, output_of: Any) -> None:
        assert output_of(print, "said by the child")[1] == "said by the child\n"

    def test_input_is_empty(self, output_of: Any) -> None:
        assert output_of(exec, "import sys; print(repr(sys.stdin.read()))")[1] == "''\n"

    def test_argv_and_path_are_the_parents(self, output_of: Any) -> None:
        # That the child has found its target shows that it has the path.
        assert output_of(exec, "import sys; print(sys.argv)")[1] == f"{sys.argv}\n"
