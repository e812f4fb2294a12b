"""Faults that programs from outside have found: each ends as it should, in a program of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

EXECUTOR_IN_A_CYCLE = """
import gc, os, sys, threading, time
import manyhands
from manyhands.futures import ProcessPoolExecutor

class Service:
    def __init__(self, context):
        self.executor = ProcessPoolExecutor(1, mp_context=context, initializer=self.set_up)

    def set_up(self):
        pass

    def __getstate__(self):
        return {}

def children():
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return len(file.read().split())

if __name__ == "__main__":
    context = manyhands.get_context(sys.argv[1])
    context.Process(target=int).start()
    manyhands.active_children()
    for _ in range(4):
        service = Service(context)
        assert service.executor.submit(abs, -3).result() == 3
        del service
        gc.collect()
    deadline = time.monotonic() + 30
    helpers = 2 if sys.argv[1] != "fork" else 0
    while (children() > helpers or threading.active_count() > 1) and time.monotonic() < deadline:
        gc.collect()
        manyhands.active_children()
        time.sleep(0.05)
    assert not [o for o in gc.get_objects() if isinstance(o, Service)]
    assert children() <= helpers, children()
    assert threading.active_count() == 1
"""

TERMINATE_INTERRUPTED = """
import sys
import manyhands

class Boom(Exception):
    pass

def interrupt(frame, event, arg):
    if frame.f_code.co_name != "terminate" or "pool" not in frame.f_code.co_filename:
        return None
    def line(frame, event, arg):
        if event == "line" and frame.f_locals["self"]._state == "TERMINATE":
            sys.settrace(None)
            raise Boom
        return line
    return line

if __name__ == "__main__":
    pool = manyhands.get_context(sys.argv[1]).Pool(2)
    assert pool.map(abs, [-1]) == [1]
    sys.settrace(interrupt)
    try:
        pool.terminate()
    except Boom:
        pass
    else:
        raise AssertionError("it was not interrupted")
    pool.close()
    pool.join()
"""

CONNECTION_LEFT_IN_A_QUEUE = """
import sys
import manyhands

if __name__ == "__main__":
    context = manyhands.get_context(sys.argv[1])
    ends, queue = context.Pipe(), context.Queue()
    queue.put(ends[0])
"""

QUEUES_AFTER_A_BURST = """
import os, sys
os.environ["MANYHANDS_ARENA_MAX"] = "64M"
import manyhands

if __name__ == "__main__":
    queues = [manyhands.get_context(sys.argv[1]).Queue() for _ in range(24)]
    for queue in queues:
        for number in range(20_000):
            queue.put(b"x" * 500)
        for number in range(20_000):
            assert queue.get() == b"x" * 500
    queues[0].put(bytes(8 << 20))
    assert queues[0].get() == bytes(8 << 20)
"""

PROGRAMS = {
    "an executor in a cycle is collected": EXECUTOR_IN_A_CYCLE,
    "a terminate that was interrupted": TERMINATE_INTERRUPTED,
    "a connection that lies in a queue at the end": CONNECTION_LEFT_IN_A_QUEUE,
    "many queues after a burst of short messages": QUEUES_AFTER_A_BURST,
}


@pytest.mark.deadline(120)
@pytest.mark.parametrize("name", PROGRAMS)
def test_program(name: str, ctx: Any, tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(PROGRAMS[name])
    done = subprocess.run(
        [sys.executable, str(script), ctx.get_start_method()],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert (done.returncode, done.stderr) == (0, "")
