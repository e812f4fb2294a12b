"""`uninstall` gives the standard library its own back; objects of either kind that are there go on working."""

from __future__ import annotations

from pathlib import Path

import pytest
from scripts import run

METHODS = ["fork", "forkserver", "spawn"]

pytestmark = pytest.mark.deadline(120)


LIVING = """
import multiprocessing
import sys
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import Event, Lock, Pipe, Pool, Process, Queue, Value

import manyhands


def add(inbox, outbox, lock, value, conn):
    with lock, value.get_lock():
        value.value += inbox.get(timeout=30)
    conn.send(value.value)
    outbox.put(kind())


def kind():
    return type(multiprocessing.Queue()).__module__


def square(n):
    return n * n


class Made:
    # What is made at one time, and works at any other.
    def __init__(self):
        self.inbox, self.outbox, self.lock, self.value = Queue(), Queue(), Lock(), Value("i", 0)
        self.ours = type(self.inbox).__module__ == "manyhands.queues"
        self.pool, self.executor = Pool(1), ProcessPoolExecutor(1)
        self.never_started = Process(target=square, args=(1,))
        self.pool.map(square, [1])
        self.executor.submit(square, 1).result()

    def work(self, expected):
        mine, theirs = Pipe()
        self.value.value = 1
        self.inbox.put(2)
        child = Process(target=add, args=(self.inbox, self.outbox, self.lock, self.value, theirs))
        child.start()
        assert self.outbox.get(timeout=30) == expected
        assert mine.recv() == self.value.value == 3
        child.join()
        assert child.exitcode == 0
        assert self.pool.map(square, range(5)) == [0, 1, 4, 9, 16]
        assert self.executor.submit(square, 3).result() == 9

    def end(self):
        self.never_started.start()
        self.never_started.join()
        assert self.never_started.exitcode == 0
        self.pool.close()
        self.pool.join()
        self.executor.shutdown()


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    process_class, queue_function = multiprocessing.Process, multiprocessing.Queue
    before = Made()
    manyhands.install()
    between = Made()
    assert (before.ours, between.ours) == (False, True)
    before.work("manyhands.queues")
    between.work("manyhands.queues")
    manyhands.uninstall()
    manyhands.uninstall()
    after = Made()
    assert not after.ours and multiprocessing.get_start_method() == sys.argv[1] == manyhands.get_start_method()
    assert type(manyhands.Queue()).__module__ == "manyhands.queues"
    for made in (before, between, after):
        made.work("multiprocessing.queues")
    manyhands.install()
    again = Made()
    assert again.ours
    for made in (before, between, after, again):
        made.work("manyhands.queues")
        made.end()
    assert multiprocessing.Process is process_class and multiprocessing.Queue == queue_function
    print("well")
"""


@pytest.mark.parametrize("method", METHODS)
def test_living_objects(method: str, tmp_path: Path) -> None:
    run(tmp_path, LIVING, method)


RESTORED = """
import importlib
import inspect
import sys
import types

NAMES = (
    "multiprocessing multiprocessing.connection multiprocessing.context multiprocessing.forkserver multiprocessing.pool"
    " multiprocessing.process multiprocessing.queues multiprocessing.sharedctypes multiprocessing.synchronize"
    " concurrent.futures.process"
).split()
#: A process that is sent something of manyhands' is started by it even then.
LEFT = {"SpawnProcess._Popen", "ForkServerProcess._Popen"}


def state():
    found = {}
    for module in [importlib.import_module(name) for name in NAMES]:
        name = module.__name__
        for key, value in vars(module).items():
            found[name, key] = value
            for inside, part in vars(value).items() if isinstance(value, type) and value.__module__ == name else ():
                if inside == "__new__":
                    continue
                found[name, key, inside] = part
                function = getattr(part, "__func__", part)
                if isinstance(function, types.FunctionType) and f"{key}.{inside}" not in LEFT:
                    found[name, key, inside, "body"] = body(function)
            if isinstance(value, types.FunctionType):
                found[name, key, "body"] = body(value)
    return found


def body(function):
    signature = str(inspect.signature(function))
    return function.__code__, function.__defaults__, function.__kwdefaults__, function.__doc__, signature


if __name__ == "__main__":
    import manyhands

    before = state()
    # Ours, loaded, wait for the standard library's modules, to be recognised by them: that finder stays.
    ours = [importlib.import_module("manyhands." + name) for name in ("queues", "pool", "futures", "synchronize")]
    path = list(sys.meta_path)
    manyhands.install()
    assert state() != before
    importlib.import_module("multiprocessing").Queue().put(1)
    manyhands.uninstall()
    assert (after := state()) == before, [key for key in after if after[key] != before.get(key)]
    assert sys.meta_path == path
    print("well")
"""


def test_everything_is_as_before(tmp_path: Path) -> None:
    run(tmp_path, RESTORED)


THREADS = """
import multiprocessing
import os
import sys
import threading
import time

import manyhands


def make(errors, end):
    while not end.is_set():
        try:
            queue = multiprocessing.SimpleQueue()
            queue.put(1)
            assert queue.get() == 1
            with multiprocessing.Lock():
                pass
        except BaseException as error:
            errors.append(error)
            return


if __name__ == "__main__":
    # A fork must not meet another thread's import: its child would wait for it for ever.
    for change in (manyhands.install, manyhands.uninstall):
        change()
        made = multiprocessing.SimpleQueue(), multiprocessing.Lock()
    errors, end = [], threading.Event()
    threads = [threading.Thread(target=make, args=(errors, end)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(50):
        manyhands.install()
        pid = os.fork()
        if pid == 0:
            manyhands.uninstall()
            fine = type(multiprocessing.Lock()).__module__ == "multiprocessing.synchronize"
            manyhands.install()
            os._exit(0 if fine and type(multiprocessing.Lock()).__module__ == "manyhands.synchronize" else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        manyhands.uninstall()
    end.set()
    for thread in threads:
        thread.join()
    assert not errors, errors
    print("well")
"""


def test_among_threads_and_forks(tmp_path: Path) -> None:
    run(tmp_path, THREADS)


FOREIGN = """
import manyhands
import multiprocessing


def take(queue):
    queue.get()


if __name__ == "__main__":
    queue = manyhands.Queue()
    # Without `install` the standard library starts its own processes, which cannot open what lies in our memory.
    child = multiprocessing.get_context("spawn").Process(target=take, args=(queue,))
    try:
        child.start()
    except RuntimeError as error:
        assert "only to a process that manyhands starts" in str(error), error
        print("well")
"""


def test_what_is_sent_to_a_process_of_the_standard_librarys_is_refused_by_the_sender(tmp_path: Path) -> None:
    run(tmp_path, FOREIGN)
