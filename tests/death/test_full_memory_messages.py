"""What lies in a queue when shared memory is full can be received: no memory is needed for it, and nothing is
lost. Its consumer is the one that makes memory free again.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = """
import os
import sys

import manyhands

COUNT = 20


def fill(ctx):
    kept = []
    queue = ctx.SimpleQueue()
    kept.append(queue)
    for size in (1 << 20, 1 << 16, 1 << 12, 256, 8):
        try:
            while True:
                queue.put(bytes(size))
        except MemoryError:
            pass
    # References have units of their own: each of these takes some, and one of them the last.
    lock = ctx.Lock()
    makers = [lambda: ctx.Value("q", 1), ctx.Lock, ctx.Event, lambda: ctx.Semaphore(1)]
    for make in [*makers, lambda: queue.put(lock)]:
        try:
            while True:
                kept.append(make())
        except MemoryError:
            pass
    return kept


def values(ctx, i):
    return i, ctx.Value("q", i), ctx.Lock(), ctx.RawArray("i", [i] * 10), ctx.Event()


def queues(ctx, i):
    queue = ctx.SimpleQueue()
    queue.put(i)
    return i, queue, [queue]


def messages(ctx, kind):
    makers = {
        "bytes": lambda i: i.to_bytes(4, "little") + bytes(1 << 20),
        "text": lambda i: f"{i:06}" + "x" * (1 << 17),
        "pair": lambda i: (i, *(bytearray(1 << 17) for _ in range(8))),
        "values": lambda i: values(ctx, i),
        "queues": lambda i: queues(ctx, i),
    }
    return [makers[kind](i) for i in range(COUNT)]


def number(kind, message):
    if kind == "bytes":
        return int.from_bytes(message[:4], "little")
    if kind == "text":
        return int(message[:6])
    if kind == "values":
        with message[2]:
            message[4].set()
            assert message[1].value == message[3][9] == message[0] and message[4].is_set()
    if kind == "queues":
        assert message[1].get() == message[0]
    return message[0]


def drain(queue, kind, go, kept_too):
    go.acquire()
    kept = []
    for i in range(COUNT):
        message = queue.get()
        assert number(kind, message) == i
        if kept_too:
            kept.append(message)
    assert queue.empty()


def drain_many(queue, kind, go):
    go.acquire()
    got = []
    while len(got) < COUNT:
        got += [number(kind, message) for message in queue.get_many(7)]
    assert got == list(range(COUNT))


def one(ctx, method, many):
    for kind in ("bytes", "text", "pair", "values", "queues"):
        queue, go = ctx.Queue() if many else ctx.SimpleQueue(), ctx.Semaphore(0)
        for message in messages(ctx, kind):
            queue.put(message)
        del message
        arguments = (queue, kind, go) if many else (queue, kind, go, kind != "bytes")
        child = ctx.Process(target=drain_many if many else drain, args=arguments)
        child.start()
        kept = fill(ctx)
        go.release()
        child.join()
        assert child.exitcode == 0, kind
        del kept


def queue(ctx, method):
    one(ctx, method, False)


def get_many(ctx, method):
    one(ctx, method, True)


def killed(ctx, method):
    # What the dead one had made its own is free again: the memory takes as many as before.
    def round():
        queue, go = ctx.SimpleQueue(), ctx.Semaphore(0)
        for message in messages(ctx, "values") + messages(ctx, "bytes"):
            queue.put(message)
        del message
        child = ctx.Process(target=drain_and_die, args=(queue, go))
        child.start()
        kept = fill(ctx)
        go.release()
        child.join()
        assert child.exitcode == -9
        assert number("bytes", queue.get()) == 1
        return len(kept)

    counts = [round() for _ in range(4)]
    assert counts[-1] >= 0.9 * counts[0], counts


def drain_and_die(queue, go):
    go.acquire()
    kept = [queue.get() for _ in range(COUNT)]
    kept.append(queue.get())
    os.kill(os.getpid(), 9)


def begin(go):
    go.acquire()


def work(kind, message):
    return number(kind, message)


def pool(ctx, method):
    with ctx.Pool(1) as pool:
        for kind in ("bytes", "pair", "values", "queues"):
            go = ctx.Semaphore(0)
            first = pool.apply_async(begin, (go,))
            tasks = [pool.apply_async(work, (kind, message)) for message in messages(ctx, kind)[:5]]
            kept = fill(ctx)
            go.release()
            first.get(60)
            assert [task.get(60) for task in tasks] == list(range(5)), kind
            del kept


if __name__ == "__main__":
    scene, method = sys.argv[1:]
    globals()[scene](manyhands.get_context(method), method)
"""


@pytest.mark.deadline(130)
@pytest.mark.parametrize("scene", ["queue", "get_many", "killed", "pool"])
def test_what_lies_in_a_queue_is_received_when_memory_is_full(ctx: Any, tmp_path: Path, scene: str) -> None:
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, str(script), scene, ctx.get_start_method()],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "MANYHANDS_ARENA_MAX": "64M"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
