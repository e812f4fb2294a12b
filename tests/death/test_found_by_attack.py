"""Faults that programs from outside have found: each ends as it should, in a program of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

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

NO_DESCRIPTORS_FOR_ERRORS = """
import os, queue, resource, sys
import manyhands

def die_with_it(lock):
    lock.acquire()
    os._exit(0)

def tell(call):
    try:
        return call()
    except BaseException as error:
        return type(error)

if __name__ == "__main__":
    context = manyhands.get_context(sys.argv[1])
    lock, bounded = context.Lock(), context.Queue(1)
    process = context.Process(target=die_with_it, args=(lock,))
    process.start()
    process.join()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    told = [tell(lambda: lock.acquire(timeout=5)) for _ in range(2)]
    empty, put = tell(bounded.get_nowait), tell(lambda: bounded.put(process.name.__class__))
    full = tell(lambda: bounded.put_nowait(1))
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert issubclass(told[0], RuntimeError) and told[1] is True, told
    assert (empty, put, full) == (queue.Empty, None, queue.Full), (empty, put, full)
"""

LIMIT_LOWERED_AFTER_FIRST_USE = """
import resource, sys
import manyhands

if __name__ == "__main__":
    context = manyhands.get_context(sys.argv[1])
    manyhands.Queue().put(1)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for limit in (256, 20):
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
        process = context.Process(target=int)
        process.start()
        process.join()
        assert process.exitcode == 0
        process.close()
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == limit
        with context.Pool(2) as pool:
            assert pool.map(abs, range(9)) == list(range(9))
"""

PROGRAMS = {
    "no descriptor is left when an error is to be told": NO_DESCRIPTORS_FOR_ERRORS,
    "the limit of descriptors is lowered after the first use": LIMIT_LOWERED_AFTER_FIRST_USE,
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
