"""Processes are killed that hold one end of a connection: whoever holds the other end is told, and waits for nobody."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from typing import Any

import connections
import pytest
from connections import LONG, connection_of

pytestmark = pytest.mark.standard

# More than a socket or a pipe takes without a reader.
LARGE = bytes(8 << 20)


def echoing(ctx: Any) -> tuple[Any, Any]:
    """A child that sends messages back, and our end; the child has got so far that it waits for one."""
    mine, theirs = ctx.Pipe()
    child = ctx.Process(target=connections.echo_bytes, args=(theirs,))
    child.start()
    theirs.close()
    mine.send_bytes(b"ready")
    assert mine.recv_bytes() == b"ready"
    return mine, child


def end(conn: Any, child: Any) -> None:
    conn.close()
    child.join(LONG)
    assert child.exitcode == -signal.SIGKILL


def kill_soon(child: Any, seconds: float = 0.1) -> threading.Timer:
    timer = threading.Timer(seconds, os.kill, (child.pid, signal.SIGKILL))
    timer.start()
    return timer


@pytest.mark.parametrize("call", ["recv", "recv_bytes", "poll", "wait"])
def test_while_we_wait(ctx: Any, call: str) -> None:
    mine, child = echoing(ctx)
    timer = kill_soon(child)
    if call == "poll":
        assert mine.poll(LONG)
    elif call == "wait":
        assert connection_of(ctx).wait([mine], LONG) == [mine]
    with pytest.raises(EOFError):
        (mine.recv_bytes if call == "recv_bytes" else mine.recv)()
    timer.join()
    end(mine, child)


def test_while_we_send(ctx: Any) -> None:
    mine, child = echoing(ctx)
    os.kill(child.pid, signal.SIGSTOP)
    timer = kill_soon(child)
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        mine.send_bytes(LARGE)
    timer.join()
    end(mine, child)


def test_with_a_message_unread(ctx: Any) -> None:
    """What it had not read is lost with it; that is told as an error or as the end."""
    mine, child = echoing(ctx)
    os.kill(child.pid, signal.SIGSTOP)
    mine.send_bytes(b"never read")
    os.kill(child.pid, signal.SIGKILL)
    with pytest.raises((EOFError, ConnectionResetError)):
        mine.recv_bytes()
    end(mine, child)


@pytest.mark.deadline(120)
def test_at_random_moments(ctx: Any, figure: Any) -> None:
    """Every message that comes is whole and the one that was sent; then comes the end."""
    rounds, whole = 30, 0
    for number in range(rounds):
        dice = random.Random(number)
        mine, child = echoing(ctx)
        timer = kill_soon(child, dice.random() * 0.02)
        until = time.monotonic() + LONG
        try:
            while time.monotonic() < until:
                message = dice.randbytes(dice.choice([0, 1, 100, 5000, 70_000, 1 << 20]))
                thread = threading.Thread(target=_send, args=(mine, message))
                thread.start()
                try:
                    assert mine.recv_bytes() == message
                finally:
                    thread.join()
                whole += 1
            pytest.fail("the killed child answers")
        except (EOFError, OSError):
            pass
        timer.join()
        end(mine, child)
    figure(f"{whole} messages came back before {rounds} deaths")


def _send(conn: Any, message: bytes) -> None:
    # The receiving thread hears of it, too.
    with contextlib.suppress(OSError):
        conn.send_bytes(message)
