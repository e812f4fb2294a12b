"""An emptied family has its memory whole: the largest message that it could send when it was fresh, it can send again,
whatever filled the memory, whatever was made meanwhile and lives on, and whichever member was killed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = """
import random, sys, time

import numpy

import manyhands

STEP = 2_000_000


def largest():
    queue = manyhands.Queue()
    for size in range(60_000_000, 0, -STEP):
        try:
            queue.put(bytes(size))
        except MemoryError:
            continue
        assert len(queue.get()) == size
        return size
    return 0


def as_much_as(fresh, what):
    # A worker that has just answered may hold its argument for a moment longer.
    end = time.monotonic() + 20
    while (found := largest()) < 0.9 * fresh and time.monotonic() < end:
        time.sleep(0.1)
    assert found >= 0.9 * fresh, f"{what}: {found} bytes at most, {fresh} when the memory was fresh"


def until_full(make):
    made = []
    try:
        while True:
            made.append(make())
    except MemoryError:
        return made


def queue_of_one(size):
    queue = manyhands.Queue()
    queue.put(bytes(size))
    return queue


def mixed(ctx, fresh):
    queues = until_full(lambda: queue_of_one(2_000_000))
    del queues
    as_much_as(fresh, "queues dropped")
    queue, held = ctx.Queue(), 0
    rng = random.Random(1)

    def drain():
        for _ in range(held):
            queue.get(timeout=10)

    for number in range(3):
        for i in range(4_000):
            try:
                queue.put((i, bytes(int(2 ** rng.uniform(0, 23)))))
                held += 1
            except MemoryError:
                drain()
                held = 0
        drain()
        held = 0
        as_much_as(fresh, f"round {number}, the queue lives")
    del queue
    as_much_as(fresh, "the queue is gone")


def filled(ctx, fresh):
    makers = [
        ctx.Queue,
        lambda: ctx.Value("i", 1),
        lambda: ctx.Array("d", 100),
        lambda: ctx.Barrier(3),
    ]
    for number, make in enumerate(makers):
        made = until_full(make)
        assert len(made) > 2_000
        del made
        as_much_as(fresh, f"maker {number}")


def made_while_full(ctx, fresh):
    queue = ctx.Queue()
    count = len(until_full(lambda: queue.put(bytes(300_000))))
    for _ in range(10):
        queue.get()
        count -= 1

    def make():
        return ctx.Value("i", 1), ctx.Array("d", 200), ctx.Lock(), ctx.Event(), ctx.Semaphore(2), ctx.Queue()

    kept = [make() for _ in range(20)]
    others = until_full(make)
    kept += others[::10]
    del others
    for _ in range(count):
        queue.get()
    kept = kept[:20]
    as_much_as(fresh, "what was made lives")
    # And what is made now does not take the place of a message in the middle of the memory.
    count = len(until_full(lambda: queue.put(bytes(5_000))))
    for _ in range(count):
        queue.get()
    kept += [make() for _ in range(5)]
    as_much_as(fresh, "made behind it")
    del kept, queue
    as_much_as(fresh, "everything is gone")


def juggle(queue, back, seed, count):
    rng = random.Random(seed)
    for _ in range(count):
        try:
            queue.put(bytes(int(2 ** rng.uniform(0, 22))))
        except MemoryError:
            pass
        if rng.random() < 0.6 and not queue.empty():
            try:
                queue.get(timeout=0.01)
            except manyhands.queues.Empty:
                pass
    back.put(seed)


def empty(queue):
    while not queue.empty():
        queue.get()


def family(ctx, fresh):
    queue, back = ctx.Queue(), ctx.Queue()
    for number in range(2):
        children = [ctx.Process(target=juggle, args=(queue, back, 8 * number + i, 200)) for i in range(8)]
        for child in children:
            child.start()
        for _ in children:
            back.get()
        for child in children:
            child.join()
            assert child.exitcode == 0
        empty(queue)
        as_much_as(fresh, f"eight processes, round {number}")


def hold(queue, ready):
    held = []
    try:
        while True:
            held.append((manyhands.Queue(), manyhands.Array("i", 50)))
            held[-1][0].put(bytes(50_000))
    except MemoryError:
        ready.set()
    rng = random.Random(9)
    while True:
        try:
            queue.put(bytes(int(2 ** rng.uniform(0, 22))))
        except MemoryError:
            if held:
                held.pop(rng.randrange(len(held)))
            elif not queue.empty():
                queue.get()


def killed(ctx, fresh):
    queue = ctx.Queue()
    for number in range(3):
        ready = ctx.Event()
        child = ctx.Process(target=hold, args=(queue, ready))
        child.start()
        ready.wait()
        time.sleep(0.1 * number)
        child.kill()
        child.join()
        empty(queue)
        as_much_as(fresh, f"killed, round {number}")


def twice(array):
    return array * 2


def pool(ctx, fresh):
    rng = random.Random(3)
    with ctx.Pool(3) as pool:
        for number in range(2):
            for _ in range(10):
                # Of 0.4 MB on average: all arguments and all results have room at a time.
                arrays = [numpy.zeros(int(2 ** rng.uniform(5, 19))) for _ in range(20)]
                for array in pool.imap_unordered(twice, arrays):
                    assert array.sum() == 0
            del array
            as_much_as(fresh, f"the pool lives, round {number}")
    del pool
    as_much_as(fresh, "the pool is gone")


if __name__ == "__main__":
    scene, method = sys.argv[1:]
    globals()[scene](manyhands.get_context(method), largest())
"""


def run(tmp_path: Path, scene: str, method: str) -> None:
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, str(script), scene, method],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "MANYHANDS_ARENA_MAX": "64M"},
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.deadline(260)
@pytest.mark.parametrize("scene", ["mixed", "filled", "made_while_full"])
def test_one_process_that_emptied_its_memory_has_all_of_it(tmp_path: Path, scene: str) -> None:
    run(tmp_path, scene, "fork")


@pytest.mark.deadline(260)
@pytest.mark.parametrize("scene", ["family", "killed", "pool"])
def test_a_family_that_emptied_its_memory_has_all_of_it(ctx: Any, tmp_path: Path, scene: str) -> None:
    run(tmp_path, scene, ctx.get_start_method())
