"""`doctor`: what it says of processes that wait, work or are dead, from inside and from an unrelated process."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import manyhands
import meetings
import pytest
import targets
from processes import kill, wait_until


def doctor_of(pid: int | str, *options: str) -> subprocess.CompletedProcess[str]:
    """The command line, as a process of its own."""
    command = [sys.executable, "-m", "manyhands", "doctor", str(pid), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=50)


def seen_from_outside() -> str:
    """The report on this process's family."""
    done = doctor_of(os.getpid(), "--once")
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def seen_to_say(is_said: Callable[[str], object]) -> str:
    """The report, once it says so: a sleeper that looks around does not wait for a moment."""
    seen = [""]

    def look() -> bool:
        seen[0] = seen_from_outside()
        return bool(is_said(seen[0]))

    wait_until(look)
    return seen[0]


def about(pid: int | None, report: str) -> str:
    """The lines about one process."""
    found = re.search(rf"^  {pid} .*\n(?:^ {{11}}.*\n)*", report, re.MULTILINE)
    return found[0] if found else ""


def waited(pid: int | None, report: str) -> float:
    """For how many seconds a process has waited for a message, and for no longer than it likes."""
    pattern = r"has waited ([\d.]+) s for a message in queue \d+, without a time limit"
    found = re.search(pattern, about(pid, report))
    return float(found[1]) if found else -1.0


def test_a_stuck_get_shows_who_waits_for_what_since_when(ctx: Any) -> None:
    queue, results = ctx.Queue(), ctx.Queue()
    process = ctx.Process(target=targets.take_until_none, args=(queue, results), name="Patient")
    process.start()
    # Longer than a sleep may last at a time: the wait is one, however often the sleeper looks around.
    wait_until(lambda: waited(process.pid, manyhands.doctor()) > 1.2)
    report = seen_from_outside()
    assert waited(process.pid, report) > 1.2
    assert f"child of {os.getpid()}: alive" in about(process.pid, report)
    assert "runs Patient: take_until_none" in about(process.pid, report)
    number = re.search(r"for a message in (queue \d+)", about(process.pid, report))
    assert number is not None
    assert re.search(rf"{number[1]} \(0x[0-9a-f]+\): empty, no bound\n.*{process.pid}", report)

    queue.put(None)
    process.join()
    assert process.exitcode == 0
    assert "for a message" not in about(process.pid, manyhands.doctor())


def test_a_put_into_a_full_queue_and_a_join_are_shown(ctx: Any) -> None:
    queue = ctx.Queue(1)
    queue.put("first")
    process = ctx.Process(target=targets.put, args=(queue, "second"))
    process.start()
    joiner = threading.Thread(target=process.join, args=(40,))
    joiner.start()

    def shown() -> bool:
        report = manyhands.doctor()
        joined = f"for process {process.pid} to end, at most" in about(os.getpid(), report)
        return joined and "s for room in queue" in about(process.pid, report)

    wait_until(shown)
    room = rf"\): 1 \(\d+ bytes\), bound 1\n.*\n    process {process.pid} waits for room"
    seen_to_say(lambda report: re.search(room, report))
    assert (queue.get(), queue.get()) == ("first", "second")
    joiner.join()


def test_a_busy_worker_shows_its_task_and_an_idle_one_none(ctx: Any) -> None:
    with ctx.Pool(2) as pool:
        assert pool.apply(targets.square, (3,)) == 9
        pool.map_async(targets.sleep, [0, 0, 300], chunksize=3)

        def works(report: str) -> bool:
            pids = {process.pid: about(process.pid, report) for process in pool._pool}
            task = r"works on task \d+ \(items 0 to 2 of job \d+, 3 of them begun\), for [\d.]+ s now"
            busy = [pid for pid, text in pids.items() if re.search(task, text)]
            idle = [pid for pid, text in pids.items() if "s for tasks of pool" in text]
            return len(busy) == len(idle) == 1 and all("worker on seat" in text for text in pids.values())

        wait_until(lambda: works(manyhands.doctor()))
        report = seen_from_outside()
        assert works(report)
        assert "2 workers; tasks that nobody has taken: empty" in report
        assert re.search(r"seat [01]: process \d+: task \d+ \(items 0 to 2", report)
        assert re.search(r"seat [01]: process \d+: no task", report)
        # Whoever leads waits for answers: here the driver thread, as nobody waits for the result.
        wait_until(lambda: "s for answers from pool" in about(os.getpid(), manyhands.doctor()))
        pool.terminate()
        pool.join()


def test_a_killed_member_shows_as_dead_with_what_it_waited_for(ctx: Any) -> None:
    queue, results = ctx.Queue(), ctx.Queue()
    process = ctx.Process(target=targets.take_until_none, args=(queue, results))
    process.start()
    wait_until(lambda: waited(process.pid, manyhands.doctor()) >= 0)
    kill(process.pid)
    wait_until(lambda: "DEAD" in about(process.pid, manyhands.doctor()))
    text = about(process.pid, seen_from_outside())
    assert re.search(r"died while it waited for a message in queue \d+, begun [\d.]+ s ago", text)
    process.join()
    assert f"process {process.pid} waits" not in manyhands.doctor()


@pytest.mark.methods("forkserver")
def test_a_fork_server_is_named(ctx: Any) -> None:
    process = ctx.Process(target=targets.nothing)
    process.start()
    process.join()
    assert re.search(rf"fork server of {os.getpid()}: alive", seen_from_outside())


def test_a_process_without_a_family_sees_none() -> None:
    program = "import manyhands; print(manyhands.doctor())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=50)
    assert "has not used manyhands yet" in done.stdout


def test_what_cannot_be_looked_into_is_said_in_a_sentence() -> None:
    nobody = 2**22 + 1  # beyond every pid that Linux gives
    for pid, sentence in ((nobody, "there is no process"), (os.getppid(), "is in no manyhands family")):
        done = doctor_of(pid, "--once")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("manyhands doctor: ")
        assert sentence in done.stderr
        assert done.stderr.count("\n") == 1
    with pytest.raises(ProcessLookupError):
        manyhands.doctor(nobody)
    with pytest.raises(ValueError):
        manyhands.doctor(os.getppid())


def test_another_users_process_is_refused() -> None:
    family = os.getpid()
    manyhands.Queue()  # founds the family, if no other test has
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            else:
                family = 1
            manyhands.doctor(family)
        except PermissionError as refused:
            code = 0 if "does not let this user" in str(refused) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.mark.parametrize("words", [[], ["nonsense"], ["-1"], ["0"], ["1", "2"], ["1", "--twice"]])
def test_a_command_line_that_makes_no_sense_is_refused(words: list[str]) -> None:
    command = [sys.executable, "-m", "manyhands", "doctor", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stdout) == (2, "")
    assert "usage: python -m manyhands doctor" in done.stderr


def test_waits_at_events_conditions_and_barriers_are_shown(ctx: Any) -> None:
    told, event, condition, barrier = ctx.Queue(), ctx.Event(), ctx.Condition(), ctx.Barrier(3)
    waits = [
        (ctx.Process(target=event.wait), r"for event \d+, without a time limit"),
        (
            ctx.Process(target=meetings.wait_for_notification, args=(condition, told)),
            r"for condition \d+, without",
        ),
        (
            ctx.Process(target=meetings.meet, args=(barrier, told)),
            r"for barrier \d+ \(2 of 3 are there\), without",
        ),
        (
            ctx.Process(target=meetings.meet, args=(barrier, told)),
            r"for barrier \d+ \(2 of 3 are there\), without",
        ),
    ]
    for process, _ in waits:
        process.start()

    def shown(report: str) -> bool:
        return all(re.search(pattern, about(process.pid, report)) for process, pattern in waits)

    wait_until(lambda: shown(manyhands.doctor()))
    there = r"barrier \d+ \(0x[0-9a-f]+\): 2 of 3 are there\n    processes \d+, \d+ wait there"
    unset = rf"event \d+ \(0x[0-9a-f]+\): not set\n    process {waits[0][0].pid} waits there"
    report = seen_to_say(
        lambda report: shown(report) and re.search(there, report) and re.search(unset, report)
    )
    assert re.search(rf"condition \d+ \(0x[0-9a-f]+\): 1 waiter not notified\n.*{waits[1][0].pid}", report)
    event.set()
    barrier.wait()
    with condition:
        condition.notify()
    for process, _ in waits:
        process.join()
        assert process.exitcode == 0
    assert "Events, conditions, barriers\n" in manyhands.doctor()
    assert "wait there" not in manyhands.doctor()
