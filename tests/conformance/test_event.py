"""`Event`, as the standard library's documentation has it."""

from __future__ import annotations

import re
import threading
import time
from typing import Any

import lockers
import pytest

pytestmark = pytest.mark.standard

LONG = 30.0


class TestFlag:
    def test_begins_unset(self, ctx: Any) -> None:
        assert ctx.Event().is_set() is False

    def test_is_set_and_cleared(self, ctx: Any) -> None:
        event = ctx.Event()
        for _ in range(3):
            assert event.set() is None
            assert event.is_set() is True
            assert event.set() is None
            assert event.is_set() is True
            assert event.clear() is None
            assert event.is_set() is False
            assert event.clear() is None
            assert event.is_set() is False

    def test_is_the_same_in_all_processes(self, ctx: Any, remote: Any) -> None:
        event = ctx.Event()
        others = [remote(event) for _ in range(2)]
        others[0]("set")
        assert event.is_set()
        assert others[1]("is_set") is True
        event.clear()
        assert [other("is_set") for other in others] == [False, False]

    def test_each_is_its_own(self, ctx: Any) -> None:
        events = [ctx.Event() for _ in range(10)]
        for event in events[::2]:
            event.set()
        assert [event.is_set() for event in events] == [True, False] * 5


class TestWait:
    @pytest.mark.parametrize("timeout", [None, 0, -1, 5, 0.5])
    def test_of_a_set_one(self, ctx: Any, timeout: float | None) -> None:
        event = ctx.Event()
        event.set()
        assert event.wait(timeout) is True
        assert event.wait(timeout=timeout) is True
        assert event.is_set() is True

    @pytest.mark.parametrize("timeout", [0, 0.0, -1, -0.5, 0.02])
    def test_gives_up(self, ctx: Any, timeout: float) -> None:
        event = ctx.Event()
        assert event.wait(timeout) is False
        assert event.wait(timeout=timeout) is False

    def test_with_a_timeout_waits_at_least_that_long(self, ctx: Any) -> None:
        event = ctx.Event()
        started = time.monotonic()
        assert event.wait(0.2) is False
        assert time.monotonic() - started >= 0.18

    def test_is_ended_by_another_process(self, ctx: Any, remote: Any) -> None:
        event = ctx.Event()
        other = remote(event)
        other.begin("set")
        assert event.wait() is True
        other.answer()

    @pytest.mark.parametrize("timeout", [None, LONG])
    def test_of_many_in_processes_and_threads(self, ctx: Any, remote: Any, timeout: float | None) -> None:
        event = ctx.Event()
        others = [remote(event) for _ in range(5)]
        answers: list[bool] = []
        threads = [threading.Thread(target=lambda: answers.append(event.wait(timeout))) for _ in range(5)]
        for other in others:
            other.begin("wait", timeout)
        for thread in threads:
            thread.start()
        assert not any(other.has_answered(0.01) for other in others)
        event.set()
        for thread in threads:
            thread.join()
        assert answers == [True] * 5
        assert [other.answer() for other in others] == [True] * 5

    def test_some_give_up_and_others_wait(self, ctx: Any, remote: Any) -> None:
        event = ctx.Event()
        patient, impatient = remote(event), remote(event)
        patient.begin("wait")
        assert impatient("wait", 0.05) is False
        assert not patient.has_answered()
        event.set()
        assert patient.answer() is True

    def test_after_it_was_cleared(self, ctx: Any, remote: Any) -> None:
        event = ctx.Event()
        other = remote(event)
        for _ in range(10):
            other.begin("wait")
            assert not other.has_answered(0.005)
            event.set()
            assert other.answer() is True
            event.clear()
            assert other("wait", 0) is False

    def test_ping_pong(self, ctx: Any) -> None:
        ping, pong = ctx.Event(), ctx.Event()
        child = ctx.Process(target=lockers.answer_pings, args=(ping, pong, 100))
        child.start()
        for _ in range(100):
            ping.set()
            assert pong.wait(LONG)
            pong.clear()
        child.join(LONG)
        assert child.exitcode == 0

    @pytest.mark.ours_only
    def test_set_does_not_wait_for_a_killed_waiter(self, ctx: Any, remote: Any) -> None:
        """In the standard library it does, for ever."""
        event = ctx.Event()
        victim, other = remote(event), remote(event)
        victim.begin("wait")
        other.begin("wait")
        assert not victim.has_answered(0.05)
        victim.process.kill()
        victim.process.join()
        event.set()
        assert other.answer() is True


class TestRepr:
    def test_says_whether_it_is_set(self, ctx: Any) -> None:
        event = ctx.Event()
        assert re.fullmatch(r"<Event at 0x[0-9a-f]+ unset>", repr(event))
        assert f"{id(event):#x}" in repr(event)
        event.set()
        assert re.fullmatch(r"<Event at 0x[0-9a-f]+ set>", repr(event))

    def test_of_a_subclass(self, ctx: Any) -> None:
        class Signal(type(ctx.Event())):  # type: ignore[misc]
            pass

        assert "Signal at 0x" in repr(Signal(ctx=ctx))
