"""`install` puts ours in place, and what the standard library builds on its own classes goes on working."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import manyhands
manyhands.install()
import concurrent.futures
import multiprocessing
import multiprocessing.connection
import multiprocessing.queues
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.pool import ThreadPool


def square(n):
    return n * n


def executors_module():
    with ProcessPoolExecutor(1) as made:
        return type(made).__module__


def report(queue):
    this = multiprocessing.current_process()
    queue.put((type(this) is multiprocessing.Process, type(multiprocessing.Queue()).__module__))


class Standard(ProcessPoolExecutor):
    pass


def send_class(conn):
    with conn, multiprocessing.connection.Listener() as listener:
        assert type(listener).__module__ == "manyhands.connection"
        conn.send(type(conn).__module__)


if __name__ == "__main__":
    multiprocessing.set_start_method("{method}")
    queue = multiprocessing.Queue()
    assert isinstance(queue, multiprocessing.queues.Queue) and type(queue).__module__ == "manyhands.queues"
    process = multiprocessing.Process(target=report, args=(queue,))
    process.start()
    assert queue.get() == (True, "manyhands.queues"), "not installed in the child"
    process.join()
    with multiprocessing.Pool(2) as pool:
        assert type(pool).__module__ == "manyhands.pool"
        assert pool.map(square, range(10)) == [n * n for n in range(10)]
    assert ProcessPoolExecutor is concurrent.futures.process.ProcessPoolExecutor
    assert isinstance(ProcessPoolExecutor(1), manyhands.ProcessPoolExecutor)
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context()) as executor:
        assert executor.submit(executors_module).result() == "manyhands.futures", "not installed in the child"
        assert list(executor.map(square, range(10))) == [n * n for n in range(10)]
    with Standard(2, mp_context=multiprocessing.get_context()) as executor:
        assert list(executor.map(square, range(10))) == [n * n for n in range(10)]
    with ThreadPool(2) as threads:
        assert threads.map(square, range(10)) == [n * n for n in range(10)]
    mine, theirs = multiprocessing.Pipe()
    assert isinstance(mine, multiprocessing.connection.Connection)
    assert type(mine).__module__ == "manyhands.connection"
    process = multiprocessing.Process(target=send_class, args=(theirs,))
    process.start()
    assert mine.recv() == "manyhands.connection", "not installed in the child"
    process.join()
    with multiprocessing.Manager() as manager:
        assert manager.dict(a=1).copy() == {"a": 1}
    joinable = multiprocessing.JoinableQueue()
    joinable.put(1)
    assert joinable.get() == 1
    joinable.task_done()
    joinable.join()
    print("all well")
"""


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_program(method: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.replace("{method}", method))
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=50)
    assert (done.stdout, done.returncode) == ("all well\n", 0), done.stderr


UNMODIFIED = """
{imports}

def square(n):
    return n * n

if __name__ == "__main__":
    import multiprocessing
    multiprocessing.set_start_method("{method}")
    with ProcessPoolExecutor(2) as executor:
        print(*executor.map(square, range(4)), type(executor).__module__)
"""


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
@pytest.mark.parametrize(
    "imports",
    [
        "from concurrent.futures import ProcessPoolExecutor",
        "from concurrent.futures.process import ProcessPoolExecutor",
        "import multiprocessing.queues\nfrom concurrent.futures import ProcessPoolExecutor",
        "import multiprocessing.connection as _\nfrom concurrent import futures\nfrom concurrent.futures import *",
    ],
)
def test_an_unmodified_program_with_an_executor(method: str, imports: str, tmp_path: Path) -> None:
    # The main module's first import, in a child, is of a module that stands on multiprocessing.
    program = tmp_path / "program.py"
    program.write_text(UNMODIFIED.replace("{method}", method).replace("{imports}", imports))
    command = [sys.executable, "-m", "manyhands", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50)
    assert (done.stdout, done.returncode) == ("0 1 4 9 manyhands.futures\n", 0), done.stderr
