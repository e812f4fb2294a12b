"""Signals that come while a connection is waited for, in the short time before the wait sleeps too."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from connections import connection_of, meanwhile

# One process: nothing depends on how others are started.
pytestmark = [pytest.mark.standard, pytest.mark.methods("fork")]
both_kinds = pytest.mark.parametrize("duplex", [True, False])


@contextlib.contextmanager
def signals(handler: Callable[[int, Any], Any], every: float) -> Iterator[None]:
    """In the block, a signal each time that so many seconds have passed."""
    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, every, every)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture
def reader(ctx: Any, duplex: bool) -> Iterator[Any]:
    """An end with nothing to read."""
    reader, writer = ctx.Pipe(duplex)
    yield reader
    reader.close()
    writer.close()


@both_kinds
def test_poll_sees_no_message_in_a_signal(reader: Any) -> None:
    came: list[int] = []
    with signals(lambda *_: came.append(1), 70e-6):
        answers = [reader.poll(0.0003) for _ in range(1_000)]
    assert came
    assert not any(answers)


@both_kinds
def test_wait_goes_on_after_a_signal(ctx: Any, reader: Any) -> None:
    wait = connection_of(ctx).wait
    came: list[int] = []
    with signals(lambda *_: came.append(1), 70e-6):
        for _ in range(500):
            begin = time.monotonic()
            assert wait([reader], 0.001) == []
            assert time.monotonic() - begin >= 0.001
    assert came


#: How many single signals; each comes at another time.
TRIES = 200


class _Stop(Exception):
    pass


def _rescue(trying: list[Any], ended: threading.Event, rescued: list[Any]) -> None:
    """Sends something to a try that is still going on long after its signal, whose handler runs then."""
    seen: Any = None
    while not ended.wait(0.3):
        writer: Any = trying[0]
        if writer is not None and writer is seen:
            # It may be over just now.
            with contextlib.suppress(OSError):
                writer.send("too late")
                rescued.append(writer)
        seen = writer


@both_kinds
@pytest.mark.deadline(120)
def test_a_handler_runs_though_nothing_comes(ctx: Any, duplex: bool) -> None:
    """One that raises ends `recv`, however soon after its beginning the signal came.

    A signal between the last look at signals and the call that sleeps is seen when that returns, as in the standard
    library: a few tries may end that way.
    """
    armed = False

    def stop(*_: Any) -> None:
        if armed:
            raise _Stop

    trying: list[Any] = [None]
    rescued: list[Any] = []
    ended = threading.Event()
    with signals(stop, 0), meanwhile(_rescue, trying, ended, rescued):
        for delay in range(TRIES):
            reader, writer = ctx.Pipe(duplex)
            trying[0] = writer
            with contextlib.suppress(_Stop):
                armed = True
                signal.setitimer(signal.ITIMER_REAL, (10 + delay % 80) * 1e-6)
                reader.recv()
            armed = False
            trying[0] = None
            reader.close()
            writer.close()
        ended.set()
    print(f"{len(rescued)} of {TRIES} handlers ran when a message came")
    assert len(rescued) <= TRIES // 20
