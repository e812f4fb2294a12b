"""A process that does with locks what it is told, and what other children of the tests of locks run.

As `targets`, imported by name in spawned processes: nothing here imports pytest or an implementation.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any


class Remote:
    """The near end of a process that has been given some objects, and calls their methods when told to."""

    def __init__(self, ctx: Any, *things: Any) -> None:
        self._conn, far = ctx.Pipe()
        self._first = 0
        self.process = ctx.Process(target=obey, args=(far, *things))
        self.process.start()
        far.close()
        # Pickling what a spawned child gets, and importing what it needs, is over.
        assert self("ready") is None

    def begin(self, name: str, *args: Any, of: int = 0, **kwargs: Any) -> None:
        """Has it call a method, which may take long; `answer` is what it returns."""
        self._conn.send((self._first + of, name, args, kwargs))
        assert self._conn.recv() == "begun"

    def answer(self) -> Any:
        """What the call returned; what it raised is raised."""
        assert self._conn.poll(50), "no answer"
        returned, raised = self._conn.recv()
        if raised is not None:
            raise raised
        return returned

    def keeps(self) -> None:
        """Has `of=0` mean what "take and keep" took."""
        self._first = 1

    def has_answered(self, seconds: float = 0) -> bool:
        return bool(self._conn.poll(seconds))

    def __call__(self, name: str, *args: Any, of: int = 0, **kwargs: Any) -> Any:
        self.begin(name, *args, of=of, **kwargs)
        return self.answer()

    def interrupt(self) -> None:
        """As Ctrl-C does."""
        os.kill(self.process.pid, signal.SIGINT)

    def end(self) -> None:
        if self._conn.closed:
            return
        if self.process.is_alive():
            try:
                self._conn.send(None)
            except OSError:
                self.process.kill()
            self.process.join(10)
            if self.process.is_alive():
                # It still waits for what will not come.
                self.process.kill()
                self.process.join()
        self.process.close()
        self._conn.close()


def obey(conn: Any, *things: Any) -> None:
    """Until None comes. A shell may have SIGINT ignored, which children inherit."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    while (order := conn.recv()) is not None:
        number, name, args, kwargs = order
        answer: tuple[Any, BaseException | None]
        try:
            conn.send("begun")
            function = COMMANDS.get(name)
            if name == "take and keep":
                things = (*things, things[number].get())
                answer = None, None
            elif function is not None:
                answer = function(things[number], *args, **kwargs), None
            else:
                answer = getattr(things[number], name)(*args, **kwargs), None
        except BaseException as error:
            answer = None, error
        conn.send(answer)


def in_thread(thing: Any, name: str, *args: Any) -> Any:
    """What a method returns, or the exception it raises, in another thread of the process."""
    found: list[Any] = []

    def run() -> None:
        try:
            found.append(getattr(thing, name)(*args))
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=run, name="Other")
    thread.start()
    thread.join()
    return found[0]


def wait_holding(condition: Any, timeout: float | None = None) -> Any:
    with condition:
        return condition.wait(timeout)


def notify_holding(condition: Any, *args: Any) -> None:
    with condition:
        condition.notify(*args)


def notify_all_holding(condition: Any) -> None:
    with condition:
        condition.notify_all()


def wait_for_value(pair: Any, wanted: int, timeout: float | None = None) -> Any:
    condition, value = pair
    with condition:
        return condition.wait_for(lambda: value.value >= wanted, timeout)


def add_holding(pair: Any) -> None:
    condition, value = pair
    with condition:
        value.value += 1
        condition.notify_all()


def set_name(_thing: Any, name: str) -> None:
    import multiprocessing

    multiprocessing.current_process().name = name


def enter_and_raise(lock: Any) -> None:
    with lock:
        raise KeyError("inside")


def sleep_holding(lock: Any) -> None:
    with lock:
        time.sleep(600)


COMMANDS: dict[str, Callable[..., Any]] = {
    "ready": lambda _thing: None,
    "repr": lambda thing: repr(thing),
    "repr in a thread": lambda thing: in_thread(thing, "__repr__"),
    "in a thread": in_thread,
    "wait holding": wait_holding,
    "notify holding": notify_holding,
    "notify all holding": notify_all_holding,
    "wait for value": wait_for_value,
    "add holding": add_holding,
    "set name": set_name,
    "enter and raise": enter_and_raise,
    "sleep holding": sleep_holding,
}


# --- children that work on their own ---


def count_under(lock: Any, counter: Any, times: int) -> None:
    """Adds to a counter in a way that loses some if two do so at once."""
    for _ in range(times):
        with lock:
            value = counter[0]
            if value % 50 == 0:
                os.sched_yield()
            counter[0] = value + 1


def produce(items: Any, room: Any, lock: Any, filled: Any, times: int) -> None:
    """A producer at a bounded buffer. `items`: how many are in it, the most there were, how many were put and taken."""
    for _ in range(times):
        room.acquire()
        with lock:
            items[0] += 1
            items[1] = max(items[0], items[1])
            items[2] += 1
        filled.release()


def consume(items: Any, room: Any, lock: Any, filled: Any, times: int) -> None:
    for _ in range(times):
        filled.acquire()
        with lock:
            items[0] -= 1
            items[3] += 1
        room.release()


def within_limit(limit: Any, lock: Any, seen: Any, times: int) -> None:
    """At most so many at once between `acquire` and `release`. `seen`: how many are there, the most there were."""
    for _ in range(times):
        with limit:
            with lock:
                seen[0] += 1
                seen[1] = max(seen[0], seen[1])
            os.sched_yield()
            with lock:
                seen[0] -= 1


def pass_barrier(barrier: Any, conn: Any, rounds: int) -> None:
    """Reports the indices it got."""
    conn.send([barrier.wait() for _ in range(rounds)])


def nested_take(lock: Any, conn: Any, depth: int) -> None:
    """Takes an RLock so often, reports how it looks, and gives it back."""
    for _ in range(depth):
        lock.acquire()
    conn.send(repr(lock))
    for _ in range(depth):
        lock.release()
    conn.send(repr(lock))


# --- what pools run ---


def acquire_for_a_moment(lock: Any) -> bool:
    with lock:
        return True


def try_acquire(lock: Any) -> bool:
    return bool(lock.acquire(False))


def released(lock: Any) -> Any:
    """Gives the lock back, in two senses."""
    lock.release()
    return lock


def set_event(event: Any) -> Any:
    event.set()
    return event


def make_lock(method: str) -> Any:
    import manyhands

    return manyhands.get_context(method).Lock()


def count_in_grandchild(ctx: Any, lock: Any, counter: Any, conn: Any) -> None:
    """Counts, and has a child of its own count."""
    child = ctx.Process(target=count_under, args=(lock, counter, 200))
    child.start()
    count_under(lock, counter, 200)
    child.join()
    conn.send(child.exitcode)


def relay(condition: Any, value: Any, number: int, runners: int, rounds: int) -> None:
    """Adds one whenever it is this runner's turn."""
    for _ in range(rounds):
        with condition:
            condition.wait_for(lambda: value.value % runners == number)
            value.value += 1
            condition.notify_all()


def answer_pings(ping: Any, pong: Any, times: int) -> None:
    for _ in range(times):
        ping.wait()
        ping.clear()
        pong.set()


class Adding:
    """An action of a barrier: adds one to a shared value."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __call__(self) -> None:
        self.value.value += 1


class NotingPid(Adding):
    def __call__(self) -> None:
        self.value.value = os.getpid()


def raise_key_error() -> None:
    raise KeyError("an action")


def is_ours(ctx: Any) -> bool:
    """Whether the context is one of manyhands."""
    return type(ctx).__module__.startswith("manyhands")


def module_of(ctx: Any, name: str) -> Any:
    """A module of the implementation that the context is of."""
    import importlib

    return importlib.import_module(f"{'manyhands' if is_ours(ctx) else 'multiprocessing'}.{name}")


def named_event(ctx: Any, name: str) -> Any:
    """An event of a class of the program's own, with an attribute."""
    event = __getattr__("OurNamedEvent" if is_ours(ctx) else "StandardNamedEvent")(ctx=ctx)
    event.name = name
    return event


def tell_name(event: Any, conn: Any) -> None:
    """Tells the event's name and sets it."""
    conn.send(event.name)
    event.set()


def doze() -> None:
    """Longer than `wait_while_it_acts` is given."""
    time.sleep(0.6)


def wait_while_it_acts(barrier: Any, timeout: float, conn: Any) -> None:
    """Comes to the barrier and tells what it got, and how many seconds of processor time the wait took."""
    before = time.process_time()
    index = barrier.wait(timeout)
    conn.send((index, time.process_time() - before))


def __getattr__(name: str) -> Any:
    # Made when they are asked for, here as in a child that unpickles them: this file imports no implementation.
    modules = {"OurNamedEvent": "manyhands", "StandardNamedEvent": "multiprocessing"}
    if name not in modules:
        raise AttributeError(name)
    import importlib

    event = importlib.import_module(f"{modules[name]}.synchronize").Event
    made = type(name, (event,), {"__module__": __name__})
    return globals().setdefault(name, made)


def hold_for_ever(lock: Any, far: Any) -> None:
    lock.acquire()
    far.send("ready")
    time.sleep(3600)


def wait_at(barrier: Any, far: Any) -> None:
    far.send("ready")
    barrier.wait()
