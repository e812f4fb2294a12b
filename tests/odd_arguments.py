"""`python odd_arguments.py MODULE METHOD`: every call of MODULE with arguments of odd kinds, and what comes of each, as
JSON.

What is passed is in `odd_values.py`; the functions here say where it goes. `surface/test_signatures.py` compares
two modules."""

from __future__ import annotations

import array
import contextlib
import faulthandler
import functools
import importlib
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from decimal import Decimal
from fractions import Fraction
from typing import Any

import alike
from odd_values import long, more, odd


def outcome(call: Callable[[], Any]) -> str:
    try:
        value = call()
    except Exception as error:
        return type(error).__name__
    return (
        f"gives {value!r}"
        if isinstance(value, (bool, int, float, str, bytes, list, tuple))
        else "gives something"
    )


def add(*args: Any, **kwds: Any) -> Any:
    return args, sorted(kwds.items())


def nothing(item: Any = None) -> Any:
    return item


def locks(ctx: Any) -> Iterator[tuple[str, Any, Callable[[Any], Any]]]:
    kinds = {
        "Lock": ctx.Lock,
        "RLock": ctx.RLock,
        "Semaphore": ctx.Semaphore,
        "BoundedSemaphore": ctx.BoundedSemaphore,
    }
    for name, make in kinds.items():
        free = make()

        def once(how: Callable[[Any], bool], lock: Any = free) -> bool:
            taken = how(lock)
            if taken:
                lock.release()
            return taken

        yield f"{name}.acquire(x)", (odd, more), lambda x, once=once: once(lambda lock: lock.acquire(x))
        yield (
            f"{name}.acquire(block=x)",
            (odd, more),
            lambda x, once=once: once(lambda lock: lock.acquire(block=x)),
        )
        yield (
            f"{name}.acquire(True, x)",
            (odd, more),
            lambda x, once=once: once(lambda lock: lock.acquire(True, x)),
        )
        yield (
            f"{name}.acquire(False, x)",
            (odd, more),
            lambda x, once=once: once(lambda lock: lock.acquire(False, x)),
        )
        yield (
            f"{name}.acquire(timeout=x)",
            (odd, more),
            lambda x, once=once: once(lambda lock: lock.acquire(timeout=x)),
        )
        held = make()
        # By another thread, which ends, so that a recursive lock is not this one's.
        thread = threading.Thread(target=held.acquire)
        thread.start()
        thread.join()
        yield f"held {name}.acquire(True, x)", (odd,), lambda x, held=held: held.acquire(True, x)
        yield f"held {name}.acquire(False, x)", (odd, more), lambda x, held=held: held.acquire(False, x)
        yield f"held {name}.acquire(x, 0.01)", (odd, more), lambda x, held=held: held.acquire(x, 0.01)
    mine = ctx.RLock()
    mine.acquire()
    yield "own RLock.acquire(x)", (odd, more), lambda x: mine.acquire(x)
    yield "own RLock.acquire(True, x)", (odd, more), lambda x: mine.acquire(True, x)
    yield "Semaphore(x)", (odd, more), lambda x: ctx.Semaphore(x).get_value()
    yield "BoundedSemaphore(x)", (odd, more), lambda x: ctx.BoundedSemaphore(x).get_value()


def meetings(ctx: Any) -> Iterator[tuple[str, Any, Callable[[Any], Any]]]:
    condition = ctx.Condition()
    yield "Condition.wait(x), not held", (odd, more), lambda x: condition.wait(x)
    yield "Condition.notify(x), not held", (odd, more), lambda x: condition.notify(x)

    def held(call: Callable[[], Any]) -> Any:
        with condition:
            return call()

    yield "Condition.acquire(x)", (odd, more), lambda x: condition.acquire(x) and condition.release()
    yield "Condition.wait(x)", (odd,), lambda x: held(lambda: condition.wait(x))
    yield "Condition.wait(timeout=x)", (odd,), lambda x: held(lambda: condition.wait(timeout=x))
    yield "Condition.wait_for(true, x)", (odd, more), lambda x: held(lambda: condition.wait_for(lambda: 1, x))
    yield "Condition.wait_for(false, x)", (odd,), lambda x: held(lambda: condition.wait_for(lambda: 0, x))
    yield "Condition.notify(x)", (odd, more), lambda x: held(lambda: condition.notify(x))
    yield "Condition.notify(n=x)", (odd, more), lambda x: held(lambda: condition.notify(n=x))
    there = ctx.Event()
    there.set()
    unset = ctx.Event()
    yield "set Event.wait(x)", (odd, more), lambda x: there.wait(x)
    yield "Event.wait(x)", (odd,), lambda x: unset.wait(x)
    yield "Event.wait(timeout=x)", (odd,), lambda x: unset.wait(timeout=x)
    yield "Barrier(1).wait(x)", (odd, more), lambda x: ctx.Barrier(1).wait(x)
    yield "Barrier(2).wait(x)", (odd,), lambda x: ctx.Barrier(2).wait(x)
    yield "Barrier(2, timeout=x).wait()", (odd,), lambda x: ctx.Barrier(2, timeout=x).wait()
    yield "Barrier(1, x).wait()", (odd, more), lambda x: ctx.Barrier(1, x).wait()
    yield "Barrier(1, None, x).wait()", (odd, more), lambda x: ctx.Barrier(1, None, x).wait()


def queues(ctx: Any) -> Iterator[tuple[str, Any, Callable[[Any], Any]]]:
    for name in ("Queue", "JoinableQueue"):
        make = getattr(ctx, name)

        def put_and_get(how: Callable[[Any], Any], q: Any) -> Any:
            how(q)
            return q.get(timeout=20)

        q, empty, full = make(), make(), make(1)
        full.put(0)
        assert full.get(timeout=20) == 0
        full.put(0)
        yield f"{name}(x)", (odd, more), lambda x, make=make: make(x).empty()
        yield f"{name}(maxsize=x)", (odd, more), lambda x, make=make: make(maxsize=x).empty()
        yield f"{name}.put(0, x)", (odd, more), lambda x, q=q: put_and_get(lambda q: q.put(0, x), q)
        yield (
            f"{name}.put(0, True, x)",
            (odd, more),
            lambda x, q=q: put_and_get(lambda q: q.put(0, True, x), q),
        )
        yield (
            f"{name}.put(0, False, x)",
            (odd, more),
            lambda x, q=q: put_and_get(lambda q: q.put(0, False, x), q),
        )
        yield (
            f"{name}.put(0, block=x, timeout=1)",
            (odd, more),
            lambda x, q=q: put_and_get(lambda q: q.put(obj=0, block=x, timeout=1), q),
        )
        yield f"full {name}.put(0, x, 0.01)", (odd, more), lambda x, full=full: full.put(0, x, 0.01)
        yield f"full {name}.put(0, True, x)", (odd,), lambda x, full=full: full.put(0, True, x)
        yield f"full {name}.put(0, False, x)", (odd, more), lambda x, full=full: full.put(0, False, x)
        yield f"{name}.get(x, 0.01)", (odd, more), lambda x, empty=empty: empty.get(x, 0.01)
        yield f"{name}.get(True, x)", (odd,), lambda x, empty=empty: empty.get(True, x)
        yield f"{name}.get(timeout=x)", (odd,), lambda x, empty=empty: empty.get(timeout=x)
        yield f"{name}.get(False, x)", (odd, more), lambda x, empty=empty: empty.get(False, x)
        yield (
            f"{name}.get(block=x, timeout=0)",
            (odd, more),
            lambda x, empty=empty: empty.get(block=x, timeout=0),
        )
        for each in (q, empty, full):
            if each is not full:
                each.close()
    simple = ctx.SimpleQueue()
    yield "SimpleQueue._poll(x)", (odd,), lambda x: simple._poll(x)


def soon(act: Callable[[], Any], wait: Callable[[], Any]) -> Any:
    """What comes of a wait for what a thread does soon."""
    thread = threading.Timer(0.03, act)
    thread.start()
    try:
        return wait()
    finally:
        thread.join()


def waits(ctx: Any, module: Any, pool: Any) -> Iterator[tuple[str, Any, Callable[[Any], Any]]]:
    """Each has objects of its own, since they are asked together."""

    def taken(make: Callable[[], Any], x: Any) -> Any:
        lock = make()
        lock.acquire()
        return soon(lock.release, lambda: lock.acquire(True, x))

    for make in (ctx.Lock, ctx.Semaphore, ctx.BoundedSemaphore):
        what = f"{make.__name__}.acquire(True, x) that is released"
        yield what, (long,), functools.partial(taken, make)
    queue, full = ctx.Queue(), ctx.Queue(1)

    def waited(how: Callable[[Any], Any]) -> Any:
        condition = ctx.Condition()

        def notify() -> None:
            with condition:
                condition.notify_all()

        def holding() -> Any:
            with condition:
                return how(condition)

        return soon(notify, holding)

    def waited_for(x: Any) -> Any:
        begun = time.monotonic()
        return waited(lambda condition: condition.wait_for(lambda: time.monotonic() > begun + 0.02, x))

    def party(x: Any) -> Any:
        barrier = ctx.Barrier(2)

        def other() -> None:
            with contextlib.suppress(threading.BrokenBarrierError):
                barrier.wait(20)

        def meet() -> bool:
            try:
                return bool(barrier.wait(x) < 2)
            except Exception:
                # What refuses to wait leaves the other alone.
                barrier.abort()
                raise

        return soon(other, meet)

    def event(x: Any) -> Any:
        made = ctx.Event()
        return soon(made.set, lambda: made.wait(x))

    yield "Condition.wait(x) that is notified", (long,), lambda x: waited(lambda condition: condition.wait(x))
    yield "Condition.wait_for(soon, x)", (long,), waited_for
    yield "Event.wait(x) that is set", (long,), event
    yield "Barrier.wait(x) with another", (long,), party

    def got(x: Any) -> Any:
        try:
            return soon(lambda: queue.put(7), lambda: queue.get(True, x))
        finally:
            while not queue.empty():
                queue.get(timeout=5)

    def put(x: Any) -> Any:
        full.put(1)
        told = soon(lambda: full.get(timeout=20), lambda: full.put(2, True, x))
        # What was refused is not there.
        full.get(timeout=20)
        return told

    yield "Queue.get(True, x) of what comes", (long,), got
    yield "full Queue.put(2, True, x) when there is room", (long,), put
    connection = importlib.import_module(module.__name__ + ".connection")

    def polled(how: Callable[[Any], Any]) -> Any:
        reader, writer = ctx.Pipe(False)
        with reader, writer:
            return soon(lambda: writer.send(1), lambda: how(reader))

    yield "poll(x) of what comes", (long,), lambda x: polled(lambda reader: reader.poll(x))
    yield "wait([...], x) of what comes", (long,), lambda x: polled(lambda r: len(connection.wait([r], x)))

    slow = functools.partial(pool.apply_async, time.sleep, (0.02,))
    yield "AsyncResult.get(x) of what comes", (long,), lambda x: slow().get(x)
    yield "AsyncResult.wait(x) of what comes", (long,), lambda x: slow().wait(x)
    yield "next(x) of what comes", (long,), lambda x: pool.imap(time.sleep, [0.02]).next(x)


def waits_for_processes(ctx: Any) -> Iterator[tuple[str, Any, Callable[[Any], Any]]]:
    def joined(x: Any) -> Any:
        event = ctx.Event()
        process = ctx.Process(target=wait_for, args=(event,))
        process.start()
        try:
            return soon(event.set, lambda: (process.join(x), process.exitcode)[1])
        finally:
            event.set()
            process.join()

    yield "Process.join(x) that ends", (long,), joined


def waits_for_futures(pool: Any) -> Iterator[tuple[str, Any, Callable[[Any], Any]]]:
    slow = functools.partial(pool.submit, time.sleep, 0.02)
    yield "result(x) of what comes", (long,), lambda x: slow().result(x)
    yield "exception(x) of what comes", (long,), lambda x: slow().exception(timeout=x)


def connections(ctx: Any, module: Any) -> Iterator[tuple[str, Any, Callable[[Any], Any]]]:
    connection = importlib.import_module(module.__name__ + ".connection")
    reader, writer = ctx.Pipe(False)
    full, filler = ctx.Pipe(False)
    filler.send_bytes(b"1")

    def sent(call: Callable[[], Any]) -> Any:
        call()
        return reader.recv_bytes()

    def received(call: Callable[[Any], Any]) -> Any:
        # One of its own: what is refused after it was read spoils what follows.
        r, w = ctx.Pipe(False)
        with r, w:
            w.send_bytes(b"12345678")
            return call(r)

    yield "Pipe(x)", (odd, more), lambda x: [end.writable for end in ctx.Pipe(x)]
    yield "Pipe(duplex=x)", (odd, more), lambda x: [end.writable for end in ctx.Pipe(duplex=x)]
    yield "poll(x)", (odd,), lambda x: reader.poll(x)
    yield "poll(timeout=x)", (odd,), lambda x: reader.poll(timeout=x)
    yield "poll(x), ready", (odd, more), lambda x: full.poll(x)
    yield "wait([...], x)", (odd,), lambda x: connection.wait([reader], x)
    yield "wait([...], timeout=x), ready", (odd, more), lambda x: len(connection.wait([full], timeout=x))
    yield "wait([], x)", (odd,), lambda x: connection.wait([], x)
    yield "wait(x, 0)", (odd, more), lambda x: connection.wait(x, 0)
    # Numbers are descriptors, whatever they are.
    no_number = {name: x for name, x in {**odd(), **more()}.items() if not isinstance(x, int) or x < 0}
    yield "wait([x], 0)", (lambda: no_number,), lambda x: connection.wait([x], 0)
    for kind, data in (
        ("bytes", b"12345678"),
        ("numbers", array.array("i", [1, 2])),
        ("bytearray", bytearray(8)),
    ):
        yield (
            f"send_bytes({kind}, x)",
            (odd, more),
            lambda x, data=data: sent(lambda: writer.send_bytes(data, x)),
        )
        yield (
            f"send_bytes({kind}, 0, x)",
            (odd, more),
            lambda x, data=data: sent(lambda: writer.send_bytes(data, 0, x)),
        )
        yield (
            f"send_bytes({kind}, 3, x)",
            (odd, more),
            lambda x, data=data: sent(lambda: writer.send_bytes(data, 3, x)),
        )
        yield (
            f"send_bytes({kind}, x, 2)",
            (odd, more),
            lambda x, data=data: sent(lambda: writer.send_bytes(data, x, 2)),
        )
        yield (
            f"send_bytes({kind}, offset=x, size=x)",
            (odd, more),
            lambda x, data=data: sent(lambda: writer.send_bytes(buf=data, offset=x, size=x)),
        )
    yield "send_bytes(x)", (odd, more), lambda x: sent(lambda: writer.send_bytes(x))
    yield "recv_bytes(x)", (odd, more), lambda x: received(lambda r: r.recv_bytes(x))
    yield "recv_bytes(maxlength=x)", (odd, more), lambda x: received(lambda r: r.recv_bytes(maxlength=x))
    yield "recv_bytes_into(x)", (odd, more), lambda x: received(lambda r: r.recv_bytes_into(x))
    yield (
        "recv_bytes_into(bytes, x)",
        (odd, more),
        lambda x: received(lambda r: r.recv_bytes_into(bytearray(12), x)),
    )
    yield (
        "recv_bytes_into(buf, offset=x)",
        (odd, more),
        lambda x: received(lambda r: r.recv_bytes_into(buf=bytearray(12), offset=x)),
    )
    yield "Connection(x)", (odd,), lambda x: connection.Connection(x)
    yield (
        "Connection(fd, x, True)",
        (odd, more),
        lambda x: bool(connection.Connection(reader.fileno(), x, True).readable),
    )


def processes(ctx: Any, module: Any) -> Iterator[tuple[str, Any, Callable[[Any], Any]]]:
    over = ctx.Process(target=nothing)
    over.start()
    over.join()
    running = ctx.Process(target=wait_for, args=(event := ctx.Event(),))
    running.start()
    yield "ended Process.join(x)", (odd, more), lambda x: over.join(x)
    yield "Process.join(x)", (odd,), lambda x: running.join(x)
    yield "Process.join(timeout=x)", (odd,), lambda x: running.join(timeout=x)
    for name in ("group", "target", "name", "args", "kwargs", "daemon"):
        yield f"Process({name}=x)", (odd, more), lambda x, name=name: bool(ctx.Process(**{name: x}))
    yield "get_context(x)", (odd, more), lambda x: ctx.get_context(x)
    yield "get_start_method(x)", (odd, more), lambda x: ctx.get_start_method(x)
    yield "set_start_method(x, True)", (odd,), lambda x: module.set_start_method(x, True)
    yield "set_start_method('fork', x)", (odd, more), lambda x: module.set_start_method("fork", x)
    yield "set_forkserver_preload(x)", (odd, more), lambda x: ctx.set_forkserver_preload(x)
    yield "end", (lambda: {"": 0},), lambda x: (event.set(), running.join(), running.exitcode)[2]


def wait_for(event: Any) -> None:
    event.wait(60)


def values(ctx: Any) -> Iterator[tuple[str, Any, Callable[[Any], Any]]]:
    number, items = ctx.Value("i", 1), ctx.Array("i", 4)
    for kind in ("i", "d", "c", "B"):
        yield f"Value({kind!r}, x)", (odd, more), lambda x, kind=kind: ctx.Value(kind, x).value
        yield f"RawValue({kind!r}, x)", (odd, more), lambda x, kind=kind: ctx.RawValue(kind, x).value
        yield (
            f"Value({kind!r}).value = x",
            (odd, more),
            lambda x, kind=kind: setattr(ctx.Value(kind), "value", x),
        )
        yield f"Array({kind!r}, [x])", (odd, more), lambda x, kind=kind: ctx.Array(kind, [x])[:]
        yield (
            f"Array({kind!r}, 1)[0] = x",
            (odd, more),
            lambda x, kind=kind: ctx.Array(kind, 1).__setitem__(0, x),
        )
        yield (
            f"Array({kind!r}, 1)[:] = x",
            (odd, more),
            lambda x, kind=kind: ctx.Array(kind, 1).__setitem__(slice(None), x),
        )
        yield (
            f"Array({kind!r}, 1)[:] = [x]",
            (odd, more),
            lambda x, kind=kind: ctx.Array(kind, 1).__setitem__(slice(None), [x]),
        )
    small = {
        name: x for name, x in more().items() if "2**" not in name and name not in ("huge", "beyond float")
    }
    yield "Value(x)", (odd, more), lambda x: ctx.Value(x)
    yield "Value('i', lock=x)", (odd, more), lambda x: bool(ctx.Value("i", lock=x))
    yield "Array('i', x)", (odd, lambda: small), lambda x: ctx.Array("i", x)[:]
    yield "RawArray('i', x)", (odd, lambda: small), lambda x: list(ctx.RawArray("i", x))
    yield "Array('i', 1, lock=x)", (odd, more), lambda x: bool(ctx.Array("i", 1, lock=x))
    yield "Array[x]", (odd, more), lambda x: items[x]
    yield "Array[x:]", (odd, more), lambda x: items[x:]
    yield "Array[x] = 1", (odd, more), lambda x: items.__setitem__(x, 1)
    yield "Value.acquire(x)", (odd, more), lambda x: number.acquire(x) and number.release()


def pools(ctx: Any, module: Any) -> Iterator[tuple[str, Any, Callable[[Any], Any]]]:
    pool_of = importlib.import_module(module.__name__ + ".pool")
    pool = ctx.Pool(1)
    done = pool.apply_async(nothing)
    done.get(60)
    gate = tempfile.NamedTemporaryFile()  # noqa: SIM115
    busy = pool.apply_async(wait_while_there, (gate.name,))
    streamed = pool.imap(nothing, [1])
    bad = {
        name: x for name, x in {**odd(), **more()}.items() if isinstance(x, (float, str, Fraction, Decimal))
    }
    yield "Pool(x)", (lambda: bad,), lambda x: pool_of.Pool(x).terminate()
    yield "Pool(1, x)", (lambda: {**odd(), "1": 1},), lambda x: ctx.Pool(1, x).terminate()
    yield (
        "Pool(1, None, x)",
        (lambda: {"5": 5, "None": None, "1.5": 1.5},),
        lambda x: ctx.Pool(1, None, x).terminate(),
    )
    yield "Pool(1, None, (), x)", (odd, more), lambda x: ctx.Pool(1, None, (), x).terminate()
    yield "AsyncResult.get(x), done", (odd, more), lambda x: done.get(x)
    yield "AsyncResult.wait(x), done", (odd, more), lambda x: done.wait(x)
    yield "AsyncResult.get(x)", (odd,), lambda x: busy.get(x)
    yield "AsyncResult.get(timeout=x)", (odd,), lambda x: busy.get(timeout=x)
    yield "AsyncResult.wait(x)", (odd,), lambda x: busy.wait(x)
    yield "IMapIterator.next(x)", (odd,), lambda x: streamed.next(x)
    yield "end", (lambda: {"": 0},), lambda x: (gate.close(), busy.get(60))[1]
    sized = {**odd(), **{n: x for n, x in more().items() if n != "None"}}
    yield "imap(f, [], x)", (lambda: sized,), lambda x: list(pool.imap(nothing, [], x))
    yield "imap(f, items, x)", (lambda: sized,), lambda x: list(pool.imap(nothing, range(5), x))
    yield (
        "imap_unordered(f, items, chunksize=x)",
        (lambda: sized,),
        lambda x: sorted(pool.imap_unordered(nothing, iter(range(5)), chunksize=x)),
    )
    # The standard library waits for ever for the answer to a size such as 1.0, and calls nothing with one below 1.
    good = ("1", "2", "5", "True", "None", "huge", "2**40", "numpy.int64(2)", "index 2", "numpy.uint8(1)")
    chunks = {n: x for n, x in {**odd(), **more()}.items() if n in good or isinstance(x, (str, list, dict))}
    yield "map(f, items, x)", (lambda: chunks,), lambda x: pool.map(nothing, range(5), x)
    yield (
        "starmap(f, items, chunksize=x)",
        (lambda: chunks,),
        lambda x: pool.starmap(add, [(1,)] * 5, chunksize=x),
    )
    yield (
        "map(f, x)",
        (lambda: {n: x for n, x in odd().items() if n not in ("object", "raises")},),
        lambda x: bool(pool.map(nothing, x)),
    )
    yield "apply(f, x)", (odd, more), lambda x: bool(pool.apply(add, x))
    yield "apply(f, (), x)", (odd, more), lambda x: bool(pool.apply(add, (), x))
    yield "apply_async(f, (), x)", (odd, more), lambda x: bool(pool.apply_async(add, (), x).get(60))
    false = {"0": 0, "empty text": "", "empty list": [], "False": False, "None": None}
    yield (
        "apply_async(f, callback=x)",
        (lambda: false,),
        lambda x: pool.apply_async(nothing, callback=x).get(60),
    )
    yield "apply(x)", (odd, more), lambda x: pool.apply(x)
    yield "end of the pool", (lambda: {"": 0},), lambda x: (pool.terminate(), pool.join())[1]


def wait_while_there(name: str) -> None:
    while os.path.exists(name):
        time.sleep(0.01)


def executors(ctx: Any, executor: Any) -> Iterator[tuple[str, Any, Callable[[Any], Any]]]:
    pool = executor(1, mp_context=ctx)
    done = pool.submit(nothing, 1)
    done.result(60)
    bad = {
        name: x for name, x in {**odd(), **more()}.items() if isinstance(x, (float, str, Fraction, Decimal))
    }
    yield "ProcessPoolExecutor(x)", (lambda: bad,), lambda x: executor(x, mp_context=ctx).shutdown()
    yield "result(x), done", (odd, more), lambda x: done.result(x)
    yield "exception(timeout=x), done", (odd, more), lambda x: done.exception(timeout=x)
    pending = type(done)()
    yield "result(x)", (odd,), lambda x: pending.result(x)
    sized = {**odd(), **{n: x for n, x in more().items() if n != "None"}}
    yield (
        "map(f, items, chunksize=x)",
        (lambda: sized,),
        lambda x: list(pool.map(nothing, range(5), chunksize=x)),
    )
    yield (
        "map(f, items, timeout=x)",
        (lambda: {"None": None, "text": "x", "60": 60, "60.0": 60.0, "list": []},),
        (lambda x: list(pool.map(nothing, range(5), timeout=x))),
    )
    yield (
        "shutdown(x)",
        (lambda: {"1": 1, "empty": [], "None": None, "text": "x"},),
        lambda x: executor(1, mp_context=ctx).shutdown(x),
    )
    yield (
        "shutdown(cancel_futures=x)",
        (lambda: {"1": 1, "empty": [], "None": None, "text": "x"},),
        lambda x: executor(1, mp_context=ctx).shutdown(cancel_futures=x),
    )
    yield "end of the executor", (lambda: {"": 0},), lambda x: pool.shutdown()


def ask(results: dict[str, str], what: str, tables: Any, call: Callable[[Any], Any]) -> None:
    # The tables of values are made for each call: one that was used up does not matter to the next.
    for table in tables:
        for kind, x in table().items():
            told = outcome(lambda x=x: call(x))
            # On a busy machine what is waited for may be there before the wait, which then refuses nothing.
            for _ in range(3 if table is long and told.startswith("gives") else 0):
                told = outcome(lambda x=x: call(x))
                if not told.startswith("gives"):
                    break
            results[f"{what} with {kind}"] = told


def ask_together(results: dict[str, str], *groups: Iterator[tuple[str, Any, Callable[[Any], Any]]]) -> None:
    """Calls that only wait, each kind in a thread of its own."""
    with ThreadPoolExecutor(100) as threads:
        asked = [threads.submit(ask, results, *each) for group in groups for each in group]
        for future in asked:
            future.result()


def main() -> None:
    name, method = sys.argv[1:]
    faulthandler.dump_traceback_later(alike.SECONDS - 10, exit=True)
    module = importlib.import_module(name)
    ctx = module.get_context(method)
    executor: Any = module.ProcessPoolExecutor if name == "manyhands" else ProcessPoolExecutor
    results: dict[str, str] = {}
    groups = [
        locks(ctx),
        meetings(ctx),
        queues(ctx),
        connections(ctx, module),
        values(ctx),
        processes(ctx, module),
    ]
    groups += [pools(ctx, module), executors(ctx, executor), waits_for_processes(ctx)]
    for group in groups:
        for each in group:
            ask(results, *each)
    with ctx.Pool(1) as pool, executor(1, mp_context=ctx) as futures:
        # Its process is there before the threads are.
        futures.submit(nothing).result()
        ask_together(results, waits(ctx, module, pool), waits_for_futures(futures))
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()
