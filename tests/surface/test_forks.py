"""Forks, whoever asks for them.

A pool's own thread ends before a fork and goes on after it; that it does is looked for after every test
(`tests/conftest.py`), this makes sure that there is one.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from multiprocessing.context import BaseContext
from pathlib import Path

import pytest
import targets


@pytest.mark.methods("fork")
def test_a_fork_while_a_pool_works_for_nobody_who_waits(ctx: BaseContext) -> None:
    with ctx.Pool(2) as pool:
        for _ in range(5):
            results = [pool.apply_async(targets.square, (number,)) for number in range(200)]
            assert "PoolDriver" in {thread.name for thread in threading.enumerate()}
            child = ctx.Process(target=targets.nothing)
            child.start()
            assert [result.get(30) for result in results] == [number**2 for number in range(200)]
            child.join()
            assert child.exitcode == 0


FORKS_ITSELF = """
import gc, os
import manyhands

context = manyhands.get_context("fork")

def run(target):
    child = context.Process(target=target)
    child.start()
    child.join()

run(int)  # nothing that is shared was there before this fork
queue = context.Queue()
queue.put("its own")
reading, writing = os.pipe()
child = os.fork()
if child == 0:
    os.read(reading, 1)
    print(queue.get(timeout=30), flush=True)
    os._exit(0)
del queue
gc.collect()
for _ in range(6):
    run(context.Queue)  # deaths, after which the memory of what nobody has is free
another = context.Queue()
another.put("another's")
os.write(writing, b"!")
os.waitpid(child, 0)
"""


def test_a_child_of_os_fork_keeps_what_it_inherits_after_a_process_was_started_without_anything_shared() -> (
    None
):
    ended = subprocess.run([sys.executable, "-c", FORKS_ITSELF], capture_output=True, text=True, timeout=100)
    assert (ended.stdout, ended.stderr) == ("its own\n", "")


RECEIVES_AND_FORKS = """
import os, sys
import manyhands, numpy

def make(value):
    return numpy.full(100_000, value)

if __name__ == "__main__":
    pool = manyhands.get_context(sys.argv[1]).Pool(1)
    array = pool.apply(make, (3.0,))
    reading, writing = os.pipe()
    word, told = os.pipe()
    child = os.fork()
    if child == 0:
        array[:] = -1.0
        os.write(told, b"!")
        os.read(reading, 1)
        # Its parent has no such array any more, and others have the memory.
        print(array.min(), array.max(), flush=True)
        os._exit(0)
    os.read(word, 1)
    print(array.min(), array.max(), flush=True)
    del array
    others = [pool.apply(make, (7.0,)) for _ in range(3)]
    os.write(writing, b"!")
    os.waitpid(child, 0)
    print({float(other.min()) for other in others})
    pool.close()
    pool.join()
"""


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_a_child_of_os_fork_has_its_own_of_what_came_from_a_pool(method: str, tmp_path: Path) -> None:
    """Also in a program that has no queue, lock or value."""
    pytest.importorskip("numpy")
    program = tmp_path / "program.py"
    program.write_text(RECEIVES_AND_FORKS)
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", str(program), method], capture_output=True, text=True, timeout=100
    )
    assert (ended.stdout, ended.stderr) == ("3.0 3.0\n-1.0 -1.0\n{7.0}\n", "")
