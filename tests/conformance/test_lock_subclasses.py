"""Locks and their kin as base classes of a program's own, and locks of a program's own in the place of ours."""

from __future__ import annotations

import ctypes
import threading
from typing import Any

import lockers
import pytest

pytestmark = pytest.mark.standard


def synchronize_of(ctx: Any) -> Any:
    """The module that the context's locks come from."""
    return lockers.module_of(ctx, "synchronize")


class TestCondition:
    def test_with_arguments_of_its_own(self, ctx: Any) -> None:
        class Named(synchronize_of(ctx).Condition):
            def __init__(self, name: str, size: int) -> None:
                super().__init__(ctx=ctx)
                self.name, self.size = name, size

        condition = Named("full", 3)
        assert (condition.name, condition.size) == ("full", 3)
        with condition:
            assert condition.wait(0.01) is False
            condition.notify()

    def test_wait_for_and_notify_all_ask_those_of_the_subclass(self, ctx: Any) -> None:
        class Counting(synchronize_of(ctx).Condition):
            calls: list[str] = []

            def wait(self, timeout: float | None = None) -> Any:
                self.calls.append("wait")
                return super().wait(timeout)

            def notify(self, n: int = 1) -> Any:
                self.calls.append("notify")
                return super().notify(n)

        condition = Counting(ctx=ctx)
        with condition:
            assert condition.wait_for(lambda: False, 0.01) is False
            condition.notify_all()
        assert condition.calls == ["wait", "notify"]


class TestEvent:
    def test_takes_its_attributes_along(self, ctx: Any) -> None:
        event = lockers.named_event(ctx, "ready")
        near, far = ctx.Pipe()
        process = ctx.Process(target=lockers.tell_name, args=(event, far))
        process.start()
        assert near.poll(50)
        assert near.recv() == "ready"
        assert event.wait(50) is True
        process.join()
        near.close()
        far.close()


class TestLocksOfAProgramsOwn:
    class OnlyTwoMethods:
        """A lock that is no context manager."""

        def __init__(self) -> None:
            self.acquire, self.release = (lock := threading.RLock()).acquire, lock.release

    class Point(ctypes.Structure):
        _fields_ = (("x", ctypes.c_int),)

    def test_guard_a_structure(self, ctx: Any) -> None:
        point = ctx.Value(self.Point, 7, lock=self.OnlyTwoMethods())
        point.x += 1
        assert point.x == 8

    @pytest.mark.ours_only
    def test_guard_characters(self, ctx: Any) -> None:
        text = ctx.Array("c", b"abc", lock=self.OnlyTwoMethods())
        text.value = b"xy"
        assert (text.value, text.raw) == (b"xy", b"xy\0")
