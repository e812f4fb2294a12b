"""A program whose descriptors are closed, as daemons do, and whose numbers become somebody else's. Run as a script:

``strangers.py METHOD KIND [bare]`` makes one of everything, closes all descriptors, gives each of their numbers to a
thing of the user's of that kind, and goes on. After each step every such thing must be as it was. ``bare`` gives up
what administrators may do, so that closed memory cannot be had anew. It prints a line for each step.
"""

from __future__ import annotations

import atexit
import ctypes
import faulthandler
import fcntl
import gc
import multiprocessing.connection
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from typing import Any

#: Beyond what is closed: where the user's own things are kept meanwhile.
OUT_OF_REACH = 5000
MIB = 1 << 20
SIZES = (10, 10_000, MIB, 5 * MIB)


def seven(*_args: Any) -> int:
    return 7


def put_each_size(queue: Any) -> None:
    for size in SIZES:
        queue.put(bytes(size))


def wait_for(event: Any) -> None:
    event.wait(60)


def say_so_and_wait_for(event: Any, began: Any) -> None:
    began.set()
    event.wait(60)


class Stranger:
    """A thing of the user's, with something in it that reading, writing or closing would change."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.descriptor, self.peer = self._make()
        os.set_inheritable(self.descriptor, False)
        self.before: tuple[int, int] = (0, 0)

    def _make(self) -> tuple[int, int]:
        if self.kind == "file":
            with tempfile.TemporaryFile() as file:
                file.write(b"D" * MIB)
                file.flush()
                descriptor = away(os.dup(file.fileno()))
            os.lseek(descriptor, 100, os.SEEK_SET)
            return descriptor, -1
        if self.kind == "socket":
            ours, peer = socket.socketpair()
            peer.send(b"hello")
            return away(ours.detach()), away(peer.detach())
        if self.kind == "pipe":
            read, write = os.pipe()
            os.write(write, b"hello")
            return away(read), away(write)
        if self.kind == "written":
            read, write = os.pipe()
            return away(write), away(read)
        if self.kind == "eventfd":
            return away(os.eventfd(5)), -1
        pid = os.fork()
        if pid == 0:
            signal.pause()
            os._exit(0)
        self.pid = pid
        return away(os.pidfd_open(pid)), -1

    def take(self, number: int) -> None:
        os.dup2(self.descriptor, number, inheritable=False)
        os.close(self.descriptor)
        self.descriptor = number
        status = os.fstat(number)
        self.before = (status.st_dev, status.st_ino)

    def check(self) -> None:
        number = self.descriptor
        status = os.fstat(number)
        assert (status.st_dev, status.st_ino) == self.before, "another file"
        if self.kind == "file":
            assert os.lseek(number, 0, os.SEEK_CUR) == 100, "somebody has read or written"
            assert status.st_size == MIB, "lengthened"
            assert os.pread(number, MIB, 0) == b"D" * MIB, "written to"
        elif self.kind == "socket":
            here, there = waiting(number), waiting(self.peer)
            assert (here, there) == (5, 0), f"{here} bytes here, {there} there"
        elif self.kind in ("pipe", "written"):
            assert waiting(number) == (5 if self.kind == "pipe" else 0)
        elif self.kind == "eventfd":
            with open(f"/proc/self/fdinfo/{number}") as file:
                count = next(line for line in file if line.startswith("eventfd-count"))
            assert count.split()[-1] == "5", count
        else:
            assert os.waitpid(self.pid, os.WNOHANG) == (0, 0), "signalled, or collected"

    def end(self) -> None:
        if self.kind == "pidfd":
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)


def away(descriptor: int) -> int:
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, OUT_OF_REACH)
    os.close(descriptor)
    return moved


def waiting(number: int) -> int:
    """How many bytes lie in it (``FIONREAD``)."""
    count = fcntl.ioctl(number, 0x541B, b"\0\0\0\0")
    return int.from_bytes(count, sys.byteorder)


def give_up_privileges() -> None:
    """``capset``: no capability at all."""
    header, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert ctypes.CDLL(None).capset(header, none) == 0


class Program:
    """One of everything, made before the descriptors are closed."""

    def __init__(self, method: str) -> None:
        import manyhands
        from manyhands.futures import ProcessPoolExecutor

        ctx: Any = manyhands.get_context(method)
        self.ctx = ctx
        self.queue: Any = ctx.Queue()
        self.queue._reader.fileno(), self.queue._writer.fileno()
        self.lock, self.event, self.barrier = ctx.Lock(), ctx.Event(), ctx.Barrier(1)
        self.pool = ctx.Pool(2)
        self.pool.map(seven, range(10))
        self.executor = ProcessPoolExecutor(1, mp_context=ctx)
        self.executor.submit(seven).result()
        self.process = ctx.Process(target=wait_for, args=(self.event,))
        self.daemon = ctx.Process(target=wait_for, args=(self.event,), daemon=True)
        for process in (self.process, self.daemon):
            process.start()

    def steps(self) -> dict[str, Callable[[], Any]]:
        return {
            "queue": lambda: [len(self.there_and_back(size)) for size in (*SIZES, 70 * MIB)],
            "ends": self.poll_ends,
            "lock": lambda: self.lock.acquire(timeout=10) and self.lock.release(),
            "barrier": lambda: self.barrier.wait(10),
            "old process": self.end_process,
            "old daemon": lambda: (self.daemon.join(20), self.daemon.exitcode)[1] is not None,
            "old pool": lambda: self.pool.map_async(seven, range(10)).get(20),
            "old executor": lambda: self.executor.submit(seven).result(20),
            "start": self.start,
            "terminate": self.terminate,
            "new pool": self.new_pool,
            "user's fork": self.fork,
            "close": self.close,
            "drop": self.drop,
        }

    def there_and_back(self, size: int) -> bytes:
        self.queue.put(b"m" * size)
        received: bytes = self.queue.get(timeout=20)
        assert received == b"m" * size
        return received

    def poll_ends(self) -> tuple[bool, bool]:
        self.queue.put(1)
        found = multiprocessing.connection.wait([self.queue._reader], 20)
        self.queue.get(timeout=20)
        empty = multiprocessing.connection.wait([self.queue._reader], 0)
        self.queue._writer.fileno()
        return found == [self.queue._reader], empty == []

    def end_process(self) -> int:
        assert self.process.is_alive()
        self.event.set()
        self.process.join(20)
        return int(self.process.exitcode)

    def start(self) -> tuple[int, int]:
        process = self.ctx.Process(target=put_each_size, args=(self.queue,))
        process.start()
        received = sum(len(self.queue.get(timeout=20)) for _ in SIZES)
        process.join(20)
        return process.exitcode, received

    def terminate(self) -> int:
        process = self.ctx.Process(target=wait_for, args=(self.ctx.Event(),))
        process.start()
        process.terminate()
        process.join(20)
        return int(process.exitcode)

    def new_pool(self) -> list[int]:
        with self.ctx.Pool(2) as pool:
            answers: list[int] = pool.map_async(seven, range(3)).get(20)
            return answers

    def fork(self) -> int:
        pid = os.fork()
        if pid == 0:
            self.queue.put(bytes(MIB))
            os._exit(0)
        os.waitpid(pid, 0)
        return len(self.queue.get(timeout=20))

    def close(self) -> None:
        self.pool.close()
        self.pool.join()
        self.executor.shutdown()

    def drop(self) -> None:
        self.__dict__.clear()
        gc.collect()


def main(method: str, kind: str, *options: str) -> None:
    faulthandler.dump_traceback_later(100, exit=True)
    if "bare" in options:
        give_up_privileges()
    program = Program(method)
    numbers = [int(name) for name in os.listdir("/proc/self/fd") if int(name) > 2]
    strangers = [Stranger(kind) for _ in numbers] if kind != "closed" else []
    os.closerange(3, OUT_OF_REACH)
    for number, stranger in zip(numbers, strangers, strict=False):
        stranger.take(number)
    for name, step in program.steps().items():
        try:
            print(name, step(), flush=True)
        except Exception as error:
            print(name, type(error).__name__, error, flush=True)
        for stranger in strangers:
            stranger.check()
    # As late as Python's own code is run: the extension's objects are dropped by then, or later.
    atexit.register(finish, strangers)


def finish(strangers: list[Stranger]) -> None:
    for stranger in strangers:
        stranger.check()
        stranger.end()
    print("untouched", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
