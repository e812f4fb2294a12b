"""What workers and child processes of the tests run.

A module of its own, on the path, because a spawned process imports it by name. Nothing here imports pytest or an
implementation: what a child learns comes through its arguments.
"""

from __future__ import annotations

import _thread
import contextlib
import functools
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable
from multiprocessing import process as processes
from typing import Any, ClassVar

# --- processes ---


def nothing(*_args: Any) -> None:
    """Returns at once."""


def leave(code: Any) -> None:
    """`sys.exit(code)`."""
    sys.exit(code)


def leave_hard(code: int) -> None:
    """`os._exit(code)`: no clean-up."""
    os._exit(code)


def fail(text: str = "no luck") -> None:
    raise ValueError(text)


def with_output(path: str, target: Callable[..., Any], *args: Any) -> None:
    """`target` with its standard output and error in a file: a fork server's children have not the parent's.

    With new stream objects too: a forked child has those by which pytest captures.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
    target(*args)


def signal_self(number: int) -> None:
    """Dies of a signal, whatever the interpreter has done with it."""
    signal.signal(number, signal.SIG_DFL) if number not in (signal.SIGKILL, signal.SIGSTOP) else None
    os.kill(os.getpid(), number)
    time.sleep(60)


def segfault(*_args: Any) -> None:
    """Reads address 0."""
    import ctypes

    ctypes.string_at(0)


def wait_for(conn: Any) -> None:
    """Until something comes, or the other side is gone."""
    with contextlib.suppress(EOFError):
        conn.recv()


def report_then_wait(conn: Any) -> None:
    """Says that it runs, then waits."""
    conn.send(os.getpid())
    wait_for(conn)


def ignore_sigterm_then_wait(conn: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    report_then_wait(conn)


def put(queue: Any, item: Any) -> None:
    queue.put(item)


def put_all(queue: Any, items: Iterable[Any]) -> None:
    for item in items:
        queue.put(item)


def put_and_leave_hard(queue: Any, item: Any) -> None:
    """Ends without any clean-up the moment `put` has returned."""
    queue.put(item)
    os._exit(0)


def echo(requests: Any, answers: Any) -> None:
    """Answers each item with itself, until None."""
    while (item := requests.get()) is not None:
        answers.put(item)


def take_with_writer_closed(source: Any, results: Any) -> None:
    """A consumer that will never put: hands on one item."""
    source._writer.close()
    results.put(source.get())


def take_until_none(source: Any, results: Any) -> None:
    """A consumer: hands on the list of all it got."""
    taken = []
    while (item := source.get()) is not None:
        taken.append(item)
    results.put(taken)


def send_facts(conn: Any) -> None:
    """What a child knows of itself."""
    current = processes.current_process()
    parent = processes.parent_process()
    assert parent is not None
    conn.send(
        {
            "pid": os.getpid(),
            "ppid": os.getppid(),
            "name": current.name,
            "daemon": current.daemon,
            "ident": current.ident,
            "authkey": bytes(current.authkey),
            "parent pid": parent.pid,
            "parent name": parent.name,
            "parent alive": parent.is_alive(),
            "children": len(processes.active_children()),
        }
    )


def send_args(conn: Any, *args: Any, **kwargs: Any) -> None:
    conn.send((args, kwargs))


def nest(ctx: Any, conn: Any, depth: int) -> None:
    """A child with a child of its own, `depth` levels down."""
    if depth == 0:
        conn.send("reached")
        return
    child = ctx.Process(target=nest, args=(ctx, conn, depth - 1))
    child.start()
    child.join()
    sys.exit(child.exitcode)


def start_child_and_report(ctx: Any, conn: Any) -> None:
    """Tries to have a child, and says how that went."""
    try:
        child = ctx.Process(target=nothing)
        child.start()
    except AssertionError as error:
        conn.send(str(error))
    else:
        child.join()
        conn.send("started")


def wait_for_parent(conn: Any) -> None:
    """Says when its parent is gone."""
    parent = processes.parent_process()
    assert parent is not None
    conn.send(parent.is_alive())
    parent.join()
    conn.send(parent.is_alive())


def start_orphan(ctx: Any, conn: Any) -> None:
    """Leaves a child behind by ending without any clean-up."""
    child = ctx.Process(target=wait_for_parent, args=(conn,))
    child.start()
    conn.recv()
    os._exit(0)


# --- pools ---


def square(number: int) -> int:
    return number * number


def add(left: Any, right: Any) -> Any:
    return left + right


def slow_square(number: int) -> int:
    """The first items take longest, so that results come in another order than items."""
    time.sleep(0.1 if number == 0 else 0.001)
    return number * number


def describe(*args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return args, kwargs


def identity(item: Any) -> Any:
    return item


def pid(_item: Any = None) -> int:
    return os.getpid()


def fail_on(number: int, bad: int = 3) -> int:
    if number == bad:
        raise KeyError(f"item {number}")
    return number


def fail_on_three(number: int) -> int:
    return fail_on(number, 3)


def hand_back_error(text: str) -> Exception:
    """An exception that is a result, not a failure."""
    return ValueError(text)


def unpicklable(_item: Any) -> Any:
    """A result that no pickler takes, not even one that takes functions by value."""
    return threading.Lock()


def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def wait_for_event(event: Any) -> str:
    event.wait()
    return "woken"


_initialised: Any = None


def initialise(value: Any) -> None:
    """An initializer: keeps something for `initialised`."""
    global _initialised
    _initialised = value


def initialised(_item: Any = None) -> Any:
    return _initialised


def nested_initialised() -> Callable[[Any], Any]:
    """A function without a name that uses a global of this module."""
    return lambda _item: _initialised


def call(function: Callable[[], Any]) -> Any:
    return function()


class Counting:
    """Counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, _item: Any) -> int:
        self.calls += 1
        return self.calls

    def count(self, item: Any) -> int:
        return self(item)


def append(to: list[Any], item: Any) -> int:
    to.append(item)
    return len(to)


def appending() -> Callable[[Any], int]:
    """A partial whose argument changes with each call."""
    return functools.partial(append, [])


def is_daemon(_item: Any = None) -> bool:
    return processes.current_process().daemon


def numbers_then_fail(count: int) -> Iterable[int]:
    """An iterable that breaks on the way."""
    yield from range(count)
    raise OverflowError("no more numbers")


# --- death ---


class Dying:
    """Squares numbers, and dies on some of them, in one of the ways that give no time for a farewell.

    Writes down when: the clock is the same in all processes.
    """

    WAYS: ClassVar[dict[str, Callable[[], None]]] = {
        "SIGKILL": lambda: os.kill(os.getpid(), signal.SIGKILL),
        "os._exit": lambda: os._exit(3),
        "segfault": segfault,
    }

    def __init__(self, way: str, victims: Iterable[int], record: str) -> None:
        self.way = way
        self.victims = frozenset(victims)
        self.record = record

    def __call__(self, number: int) -> int:
        if number in self.victims:
            with open(self.record, "w") as record:
                record.write(repr(time.monotonic()))
            self.WAYS[self.way]()
        return number * number


def die_always(_item: Any = None) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fail_to_initialise() -> None:
    raise RuntimeError("this initializer always raises")


def spin_forever(_item: Any = None) -> None:
    """Busy: never in a system call, never back to a loop that could notice something."""
    while True:
        pass


def limit_address_space(limit: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def address_space_limit(_item: Any = None) -> int:
    return resource.getrlimit(resource.RLIMIT_AS)[0]


def allow_core_dumps(folder: str) -> None:
    """As far as the hard limit lets us; what is dumped, if a file, goes to `folder`."""
    os.chdir(folder)
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))


def put_after(queue: Any, go: Any, answers: Any) -> None:
    """Puts into one queue when told to, and says so in another."""
    go.wait(60)
    queue.put("lost")
    answers.put("put")


# --- executors ---

_gate: Any = None


def keep_gate(gate: Any) -> None:
    """An initializer: calls wait at this gate."""
    global _gate
    _gate = gate


def past_gate(value: Any) -> Any:
    """The value; one that is true waits at the gate."""
    if value:
        _gate.wait(60)
    return value


def wait_at_gate(_item: Any = None) -> str:
    """Returns when the gate is open."""
    return "open" if _gate.wait(60) else "shut"


def touch(path: str) -> None:
    """Leaves a file, to show that it ran."""
    with open(path, "w"):
        pass


def until_gone(path: str) -> str:
    """The path, when there is no such file any more."""
    while os.path.exists(path):
        time.sleep(0.005)
    return path


class Unreadable:
    """Can be pickled and not unpickled."""

    def __reduce__(self) -> Any:
        return _refuse, ()


def _refuse() -> None:
    raise ValueError("this does not unpickle")


class Raising:
    """Can be pickled; raises that when it is unpickled."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> Any:
        return _raise, (self.error,)


def _raise(error: BaseException) -> None:
    raise error


class Signalling:
    """Who unpickles it, as None, finds a signal waiting: SIGUSR1, whose handler has not been called yet."""

    def __reduce__(self) -> Any:
        return _thread.interrupt_main, (signal.SIGUSR1,)


class Refilling:
    """Whoever unpickles it finds another one in `queue`."""

    queue: ClassVar[Any] = None

    def __reduce__(self) -> Any:
        return _refill, ()


def _refill() -> Refilling:
    again = Refilling()
    Refilling.queue.put(again)
    return again


def make_unreadable(_item: Any = None) -> Unreadable:
    return Unreadable()


def square_in_executor(make: Any, method: str, number: int) -> int:
    """In a worker: an executor of its own."""
    import multiprocessing

    with make(1, mp_context=multiprocessing.get_context(method)) as executor:
        return executor.submit(square, number).result()  # type: ignore[no-any-return]


# --- locks ---


def acquire(lock: Any) -> None:
    lock.acquire()


def acquire_twice(lock: Any) -> None:
    lock.acquire()
    lock.acquire()


def hold_until_told(lock: Any, answers: Any, orders: Any) -> None:
    with lock:
        answers.put("held")
        orders.get()


def hold_then_want(first: Any, second: Any, answers: Any, orders: Any) -> None:
    """Takes a lock, and when it is told so another one, from a process that holds it."""
    with first:
        answers.put("held")
        orders.get()
        try:
            with second:
                answers.put("got it")
        except RuntimeError as error:
            answers.put(type(error).__name__)


# --- queues ---


def work_off(queue: Any, results: Any) -> None:
    """A worker of a joinable queue, until None."""
    while True:
        item = queue.get()
        if item is not None:
            results.put(item)
        queue.task_done()
        if item is None:
            return


def take_and_hold(queue: Any, answers: Any) -> None:
    """Takes an item, says so, and never says that it is done."""
    answers.put(queue.get())
    time.sleep(60)


def outcome_of(queue: Any, method: str, args: tuple[Any, ...], answers: Any) -> None:
    """What a call on a queue returns, or the name of what it raises; `answers` first hears that it begins."""
    answers.put("begins")
    try:
        answers.put(getattr(queue, method)(*args))
    except Exception as error:
        answers.put(type(error).__name__)


def put_after_a_while(queue: Any, item: Any, seconds: float) -> None:
    time.sleep(seconds)
    queue.put(item)


class Refused:
    """Cannot be pickled."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __repr__(self) -> str:
        return f"<refused {self.number}>"

    def __reduce__(self) -> Any:
        raise TypeError("not pickled")


def refused(number: int) -> Refused:
    return Refused(number)


def stop_at_two(number: int) -> int:
    if number == 2:
        raise StopIteration(number)
    return number
