"""`doctor` on locks and semaphores: who holds each, who waits, who died with one, and who waits for each other."""

from __future__ import annotations

import os
import re
import threading
from typing import Any

import manyhands
import pytest
import targets
from processes import kill, wait_until


def lines_of(kind: str, report: str) -> str:
    """What the report says of the locks that are held, waited for, or were recovered."""
    found = re.search(rf"^{kind}s\n((?:  .*\n)*)", report, re.MULTILINE)
    return found[1] if found else ""


def is_said(pattern: str, kind: str = "Lock") -> bool:
    return re.search(pattern, lines_of(kind, manyhands.doctor()), re.MULTILINE) is not None


def test_a_held_lock_shows_its_holder_and_who_waits(ctx: Any) -> None:
    lock, free, reply = ctx.Lock(on_owner_death="recover"), ctx.RLock(), ctx.Queue()
    holder = ctx.Process(target=targets.hold_until_told, args=(lock, reply, ctx.Queue()))
    holder.start()
    assert reply.get() == "held"
    waiter = threading.Thread(target=lock.acquire, args=(True, 40))
    waiter.start()
    thread = waiter.native_id
    wait_until(lambda: is_said(rf"held by process {holder.pid}\n    process {os.getpid()} waits for it"))
    waits = rf"has waited [\d.]+ s for lock \d+, at most .* \(thread {thread}\)"
    wait_until(lambda: re.search(waits, manyhands.doctor()) is not None)
    assert is_said(r"^  1 lock free$")
    assert free.acquire()
    assert free.acquire()
    assert is_said(rf"recursive lock \d+ \(0x[0-9a-f]+\): held 2 times by process {os.getpid()}$")
    kill(holder.pid)
    holder.join()
    waiter.join()


def test_a_lock_whose_holder_was_killed_shows_so_until_somebody_finds_it(ctx: Any) -> None:
    lock, reply = ctx.Lock(), ctx.Queue()
    holder = ctx.Process(target=targets.hold_until_told, args=(lock, reply, ctx.Queue()))
    holder.start()
    assert reply.get() == "held"
    kill(holder.pid)
    wait_until(lambda: is_said(rf"held by process {holder.pid}, which was killed: whoever wants it next"))
    holder.join()
    assert is_said("which was killed")
    with pytest.raises(manyhands.OwnerDied):
        lock.acquire()
    assert is_said(r"\): free\n    a process that held it was killed once$")


def test_a_lock_that_a_process_left_locked_shows_so(ctx: Any) -> None:
    lock = ctx.Lock()
    process = ctx.Process(target=targets.acquire, args=(lock,))
    process.start()
    process.join()
    assert is_said("left locked by a process that has ended")
    lock.release()
    assert is_said("1 lock free")


def test_who_waits_for_each_other_is_said_first(ctx: Any) -> None:
    locks = [ctx.Lock(), ctx.RLock()]
    answers, orders = ctx.Queue(), [ctx.Queue(), ctx.Queue()]
    processes = [
        ctx.Process(target=targets.hold_then_want, args=(*pair, answers, order))
        for pair, order in zip([locks, locks[::-1]], orders, strict=True)
    ]
    for process in processes:
        process.start()
    assert [answers.get(), answers.get()] == ["held", "held"]
    assert "DEADLOCK" not in manyhands.doctor()
    for order in orders:
        order.put("now")
    wait_until(lambda: "DEADLOCK" in manyhands.doctor())
    line = next(line for line in manyhands.doctor().splitlines() if "DEADLOCK" in line)
    one, two = (process.pid for process in processes)
    assert f"process {one} waits for lock" in line
    assert f"which process {two} holds" in line
    assert f"process {two} waits for lock" in line
    assert f"which process {one} holds" in line
    assert line.count(";") == 1
    # The one that is left gets the other's lock, and goes on.
    kill(one)
    assert answers.get() == "OwnerDied"
    for process in processes:
        process.join()
    assert "DEADLOCK" not in manyhands.doctor()


def test_a_lock_taken_twice_waits_for_itself(ctx: Any) -> None:
    lock = ctx.Lock()
    process = ctx.Process(target=targets.acquire_twice, args=(lock,))
    process.start()
    wait_until(
        lambda: (
            re.search(
                rf"DEADLOCK: process {process.pid} waits for lock \d+, which it holds itself\n",
                manyhands.doctor(),
            )
            is not None
        )
    )
    kill(process.pid)
    process.join()


def test_a_semaphore_shows_who_waits(ctx: Any) -> None:
    semaphore, other = ctx.BoundedSemaphore(3), ctx.Semaphore(0)
    for _ in range(3):
        semaphore.acquire()
    process = ctx.Process(target=targets.acquire, args=(semaphore,))
    process.start()
    wait_until(lambda: is_said(rf"\): 0 of 3 left\n    process {process.pid} waits for it", "Semaphore"))
    assert is_said("1 semaphore that nobody waits for", "Semaphore")
    semaphore.release()
    process.join()
    assert process.exitcode == 0
    assert other.get_value() == 0
