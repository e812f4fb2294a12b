"""What waiting costs: run as a program, once with the standard library and once with manyhands, which does one case and
prints how much processor time the waiters took and how often they woke up, a second each."""

from __future__ import annotations

import importlib
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

SECONDS = 3.0


def usage(pid: int) -> tuple[float, int]:
    """Processor seconds of a process, and how often its threads have gone to sleep."""
    ran = slept = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        ran += int((task / "schedstat").read_text().split()[0])
        for line in (task / "status").read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches:"):
                slept += int(line.split()[1])
    return ran / 1e9, slept


def measured(pids: list[int], seconds: float = SECONDS) -> dict[str, float]:
    """While this thread sleeps, beside others of its process that wait."""
    # What comes before a wait is at rest, and its first, shorter, sleep over.
    time.sleep(0.7)
    before, began = {pid: usage(pid) for pid in pids}, time.monotonic()
    time.sleep(seconds)
    elapsed, after = time.monotonic() - began, {pid: usage(pid) for pid in pids}
    ran = sum(after[pid][0] - before[pid][0] for pid in pids)
    slept = max(after[pid][1] - before[pid][1] for pid in pids)
    return {"processor": ran / elapsed, "wake-ups": slept / elapsed}


def take(queue: Any) -> None:
    for _ in iter(queue.get, None):
        pass


def hold(lock: Any, held: Any, seconds: float) -> None:
    with lock:
        held.set()
        time.sleep(seconds)


def idle_pool(ctx: Any) -> dict[str, float]:
    with ctx.Pool(4) as pool:
        pool.map_async(abs, range(1000)).get()
        return measured([os.getpid(), *(process.pid for process in pool._pool)])


def slow_producer(ctx: Any) -> dict[str, float]:
    queue = ctx.Queue()
    child = ctx.Process(target=take, args=(queue,))
    child.start()
    queue.put(1)
    before, began = None, time.monotonic()
    while (now := time.monotonic()) < began + SECONDS:
        time.sleep(0.01)
        queue.put(1)
        if before is None and now > began + 0.5:
            before = usage(child.pid), now
    assert before is not None
    (ran, slept), since = before
    after = usage(child.pid)
    elapsed = time.monotonic() - since
    queue.put(None)
    child.join()
    return {"processor": (after[0] - ran) / elapsed, "wake-ups": (after[1] - slept) / elapsed}


def held_lock(ctx: Any) -> dict[str, float]:
    lock, held = ctx.Lock(), ctx.Event()
    ran = waited = 0.0
    for _ in range(3):
        held.clear()
        child = ctx.Process(target=hold, args=(lock, held, 1.0))
        child.start()
        held.wait()
        began, before = time.monotonic(), time.thread_time()
        with lock:
            ran, waited = ran + time.thread_time() - before, waited + time.monotonic() - began
        child.join()
    return {"processor": ran / waited, "wake-ups": 0.0}


def beside(wait: Any, *args: Any) -> dict[str, float]:
    """This process, while one thread of it is in that wait."""
    threading.Thread(target=wait, args=args, daemon=True).start()
    return measured([os.getpid()])


def in_get(ctx: Any) -> dict[str, float]:
    return beside(ctx.Queue().get)


def in_recv(ctx: Any) -> dict[str, float]:
    ends = ctx.Pipe()
    return beside(ends[0].recv)


def in_event(ctx: Any) -> dict[str, float]:
    return beside(ctx.Event().wait)


def in_result(ctx: Any) -> dict[str, float]:
    pool = ctx.Pool(1)
    try:
        return beside(pool.apply_async(time.sleep, (60,)).wait)
    finally:
        pool.terminate()


def in_two_results(ctx: Any) -> dict[str, float]:
    """One of the two leads the pool, the other follows."""
    pool = ctx.Pool(2)
    try:
        jobs = [pool.apply_async(time.sleep, (60,)) for _ in range(2)]
        threading.Thread(target=jobs[0].wait, daemon=True).start()
        return beside(jobs[1].wait)
    finally:
        pool.terminate()


CASES = (idle_pool, slow_producer, held_lock, in_get, in_recv, in_event, in_result, in_two_results)


if __name__ == "__main__":
    module, method, case = sys.argv[1:]
    found = globals()[case](importlib.import_module(module).get_context(method))
    print(json.dumps(found), flush=True)
    # Threads that wait for ever end with it.
    os._exit(0)
