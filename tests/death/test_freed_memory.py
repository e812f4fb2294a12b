"""Memory that was freed serves every size, and what is dropped costs the same however much there was.

`MANYHANDS_FREED_KILLS` says how many processes are killed while memory changes from one size to another.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

KILLS = int(os.environ.get("MANYHANDS_FREED_KILLS", "10"))

PROGRAM = """
import gc, os, random, re, sys, time

import numpy

import manyhands

SIZES = [1000, 100_000, 1 << 20, 5 << 20, 300_000, 12 << 20, 20_000, 30 << 20, 2 << 20, 700_000, 1 << 20]


def held():
    gc.collect()
    return int(re.search(r"in ([0-9]+) held block", manyhands.doctor()).group(1))


def fill(queue, size):
    count = 0
    try:
        while True:
            queue.put(bytes([count % 256]) * size)
            count += 1
    except MemoryError:
        return count


def drain(queue, size, count):
    for number in range(count):
        message = queue.get()
        assert len(message) == size and message[0] == message[-1] == number % 256, (size, number)


def serve(requests, answers):
    for size, count in iter(requests.get, None):
        drain(answers, size, count)
        requests.task_done()
    requests.task_done()


def sizes(ctx):
    # Filled by one process and emptied by another, in blocks of one size after the other.
    requests, answers = ctx.JoinableQueue(), ctx.Queue()
    child = ctx.Process(target=serve, args=(requests, answers))
    child.start()
    least = {}
    for _ in range(2):
        for size in SIZES:
            count = fill(answers, size)
            assert count * size > 20_000_000, f"{count} messages of {size} bytes, of 128 MiB"
            requests.put((size, count))
            requests.join()
            assert answers.empty()
            # The second time nothing has been lost of what there was the first time.
            assert count >= least.setdefault(size, count) * 0.9, (size, count, least)
    requests.put(None)
    child.join()
    assert child.exitcode == 0


def check_large(queue, answers):
    message = queue.get()
    answers.put((len(message), message[:1], message[-1:]))


def borders(ctx):
    # Two extents are full of small messages and empty again: what is larger than either of them fits into both.
    queue, answers = ctx.Queue(), ctx.Queue()
    fill_and_drain = fill(queue, 10 << 20)
    drain(queue, 10 << 20, fill_and_drain)
    message = bytearray(b"1") * (90 << 20)
    message[-1:] = b"2"
    for _ in range(3):
        queue.put(message)
        child = ctx.Process(target=check_large, args=(queue, answers))
        child.start()
        assert answers.get() == (90 << 20, b"1", b"2")
        child.join()
    # Received arrays are used where they lie, and are each process's own over a fork.
    queue.put(numpy.full((90 << 20) // 8, 7.0))
    received = queue.get()
    assert received[0] == received[-1] == 7 and len(received) == (90 << 20) // 8
    received[-1] = 8
    if ctx.get_start_method() == "fork":
        pid = os.fork()
        if pid == 0:
            received[0] = received[-1] = 9
            os._exit(0 if received[-1] == 9 else 1)
        assert os.waitpid(pid, 0)[1] == 0
    assert (received[0], received[-1]) == (7, 8)
    del received
    array = ctx.Array("d", (90 << 20) // 8)
    with array.get_lock():
        array[-1] = 5.5
    child = ctx.Process(target=add_to_last, args=(array,))
    child.start()
    child.join()
    assert array[-1] == 6.5


def add_to_last(array):
    array[-1] += 1


def juggle(queue, seed):
    # Until it is killed: whatever is in the queue is taken, and something of another size put.
    rng = random.Random(seed)
    mine = []
    while True:
        try:
            mine.append(bytes(1 << rng.randrange(10, 24)))
            queue.put(mine[-1])
            if rng.random() < 0.7:
                queue.get()
        except MemoryError:
            queue.get()
        mine = mine[-3:]


def kills(ctx, count):
    ctx.Process(target=int).start()
    before = held()
    for number in range(count):
        queue = ctx.Queue()
        children = [ctx.Process(target=juggle, args=(queue, 2 * number + i)) for i in range(2)]
        for child in children:
            child.start()
        time.sleep(0.05 + 0.2 * random.Random(number).random())
        for child in children:
            child.kill()
            child.join()
        del queue
        # All of it serves again, whatever the dead were at.
        queue = ctx.Queue()
        size = SIZES[number % len(SIZES)]
        found = fill(queue, size)
        assert found * size > 20_000_000, (number, size, found)
        drain(queue, size, found)
        del queue
    for _ in range(4):
        last = ctx.Process(target=juggle, args=(ctx.Queue(), 0))
        last.start()
        last.kill()
        last.join()
        del last
    assert held() == before, (held(), before)


def queues(ctx):
    # A queue that holds little takes little; dropping many is no slower than dropping few.
    times = []
    for count in (1_000, 8_000):
        queues = [ctx.SimpleQueue() for _ in range(count)]
        began = time.perf_counter()
        queues.clear()
        gc.collect()
        times.append(time.perf_counter() - began)
    began = time.perf_counter()
    for _ in range(100):
        ctx.SimpleQueue().put(1)
    lone = time.perf_counter() - began
    print(f"dropping 1,000 queues: {times[0]:.3f} s, 8,000: {times[1]:.3f} s; 100 lone ones: {lone:.4f} s")
    # The square would be 64 times.
    assert times[1] < 24 * times[0], times


def cost(ctx):
    queues = [ctx.SimpleQueue() for _ in range(1_000)]
    for queue in queues:
        queue.put(1)
    mebibytes = float(re.search(r"Memory\\n  ([0-9.]+) MiB", manyhands.doctor()).group(1))
    print(f"{mebibytes * 1_048.576:.0f} bytes a queue")
    assert mebibytes < 16
    assert all(queue.get() == 1 for queue in queues)


if __name__ == "__main__":
    scene, method, *rest = sys.argv[1:]
    globals()[scene](manyhands.get_context(method), *map(int, rest))
"""


def run(tmp_path: Path, limit: str, *arguments: str) -> str:
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, str(script), *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "MANYHANDS_ARENA_MAX": limit},
        capture_output=True,
        text=True,
        timeout=100 + 5 * KILLS,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.deadline(200)
@pytest.mark.parametrize("limit", ["64M", "128M"])
def test_what_one_size_has_used_serves_every_other(ctx: Any, tmp_path: Path, limit: str) -> None:
    run(tmp_path, limit, "sizes", ctx.get_start_method())


@pytest.mark.deadline(200)
def test_what_is_larger_than_an_extent_lies_in_several(ctx: Any, tmp_path: Path) -> None:
    run(tmp_path, "192M", "borders", ctx.get_start_method())


@pytest.mark.deadline(100 + 5 * KILLS)
def test_processes_killed_while_memory_changes_its_size(ctx: Any, tmp_path: Path) -> None:
    run(tmp_path, "128M", "kills", ctx.get_start_method(), str(KILLS))


def test_dropping_queues_costs_the_same_however_many(tmp_path: Path, figure: Callable[[str], None]) -> None:
    figure(run(tmp_path, "2G", "queues", "fork").strip())


def test_a_queue_takes_little(tmp_path: Path, figure: Callable[[str], None]) -> None:
    figure(run(tmp_path, "2G", "cost", "fork").strip())
