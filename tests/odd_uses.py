"""`python odd_uses.py MODULE METHOD`: what each object of MODULE says when it is pickled outside of any start, copied,
shown, used after it was closed or in the wrong way; as JSON. `surface/test_uses.py` compares two modules."""

from __future__ import annotations

import copy
import faulthandler
import importlib
import io
import json
import pickle
import re
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.reduction import ForkingPickler
from typing import Any

import alike

try:
    import cloudpickle
except ImportError:  # of another interpreter, by hand
    cloudpickle = pickle

Use = tuple[str, Callable[[], Any]]


def shown(value: object) -> str:
    if value is None or isinstance(value, (bool, int, float, str, bytes, list, tuple)):
        text = repr(value)
    else:
        text = f"something of {type(value).__name__}"
    text = re.sub(r"parent=\d+", "parent", text.replace("manyhands.", "multiprocessing."))
    return re.sub(r"0x[0-9a-f]+", "0x", text)


def outcome(use: Callable[[], Any]) -> str:
    try:
        return shown(use())
    except BaseException as error:
        return f"{type(error).__name__}: {shown(str(error))}"


def nothing(item: Any = None) -> Any:
    return item


def fails(item: Any = None) -> Any:
    raise ValueError(item)


def objects(ctx: Any) -> dict[str, Any]:
    class Mine(type(ctx.Lock())):  # type: ignore[misc]
        pass

    return {
        "Queue": ctx.Queue(),
        "JoinableQueue": ctx.JoinableQueue(),
        "SimpleQueue": ctx.SimpleQueue(),
        "Lock": ctx.Lock(),
        "RLock": ctx.RLock(),
        "Semaphore": ctx.Semaphore(2),
        "BoundedSemaphore": ctx.BoundedSemaphore(3),
        "Condition": ctx.Condition(),
        "Condition of a Lock": ctx.Condition(ctx.Lock()),
        "Event": ctx.Event(),
        "Barrier": ctx.Barrier(2),
        "Value": ctx.Value("i", 5),
        "Array": ctx.Array("i", [1, 2]),
        "text": ctx.Array("c", b"ab"),
        "Process": ctx.Process(target=nothing),
        "subclass": Mine(ctx=ctx),
    }


PICKLERS = {
    "cloudpickle": cloudpickle.dumps,
    "pickle": pickle.dumps,
    "pickle 2": lambda it: pickle.dumps(it, 2),
    "Pickler": lambda it: pickle.Pickler(io.BytesIO()).dump(it),
    "ForkingPickler": ForkingPickler.dumps,
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "a list of it": lambda it: pickle.dumps([it, it]),
}


def pickles(ctx: Any) -> Iterator[Use]:
    for name, thing in objects(ctx).items():
        for how, dumps in PICKLERS.items():
            yield f"{how} of {name}", lambda dumps=dumps, thing=thing: type(dumps(thing)).__name__
    # What multiprocessing's own pickler makes of these is for children; pickle copies them.
    for name, thing in {"RawValue": ctx.RawValue("i", 5), "RawArray": ctx.RawArray("i", 2)}.items():
        yield f"pickle of {name}", lambda thing=thing: type(pickle.loads(pickle.dumps(thing))).__name__
        yield f"ForkingPickler of {name}", lambda thing=thing: type(ForkingPickler.dumps(thing)).__name__
        yield f"copy of {name}", lambda thing=thing: type(copy.copy(thing)).__name__


def faces(ctx: Any) -> Iterator[Use]:
    for name, thing in objects(ctx).items():
        yield f"repr of {name}", lambda thing=thing: repr(thing)
        yield f"str of {name}", lambda thing=thing: str(thing)
        yield f"class of {name}", lambda thing=thing: type(thing).__name__
        yield f"truth of {name}", lambda thing=thing: bool(thing)
        yield f"len of {name}", lambda thing=thing: len(thing)
        yield f"iter of {name}", lambda thing=thing: iter(thing)
        names = NAMES[name]
        yield (
            f"public names of {name}",
            lambda thing=thing, names=names: [n for n in names if not hasattr(thing, n)],
        )
        if hasattr(type(thing), "__enter__"):
            yield f"entering {name}", lambda thing=thing: thing.__enter__()
            yield f"entered {name}", lambda thing=thing: repr(thing)
            yield f"leaving {name}", lambda thing=thing: thing.__exit__(None, None, None)
            yield f"left {name}", lambda thing=thing: repr(thing)
    one = ctx.Pipe()[0]
    yield "entering a connection", lambda: one.__enter__() is one
    yield "leaving a connection", lambda: one.__exit__(None, None, None)


NAMES = {
    "Queue": "put get put_nowait get_nowait qsize empty full close join_thread cancel_join_thread _closed _maxsize",
    "JoinableQueue": "put get put_nowait get_nowait task_done join qsize empty full close join_thread",
    "SimpleQueue": "put get empty close _reader _writer _poll",
    "Lock": "acquire release __enter__ __exit__ _semlock",
    "RLock": "acquire release __enter__ __exit__ _semlock",
    "Semaphore": "acquire release get_value __enter__ __exit__ _semlock",
    "BoundedSemaphore": "acquire release get_value __enter__ __exit__ _semlock",
    "Condition": "acquire release wait wait_for notify notify_all __enter__ __exit__ _lock",
    "Condition of a Lock": "acquire release wait wait_for notify notify_all __enter__ __exit__ _lock",
    "Event": "is_set set clear wait",
    "Barrier": "wait abort reset parties n_waiting broken",
    "Value": "value get_obj get_lock acquire release __enter__ __exit__",
    "Array": "get_obj get_lock acquire release __enter__ __exit__ __getitem__ __setitem__ __len__",
    "text": "value raw get_obj get_lock acquire release",
    "Process": "start run join is_alive terminate kill close name daemon pid ident exitcode sentinel authkey",
    "subclass": "acquire release",
}
NAMES = {name: names.split() for name, names in NAMES.items()}  # type: ignore[misc]


def ends_of_connections(ctx: Any) -> Iterator[Use]:
    uses: dict[str, Callable[[Any], Any]] = {
        "send": lambda c: c.send(1),
        "send_bytes": lambda c: c.send_bytes(b"1"),
        "recv": lambda c: c.recv(),
        "recv_bytes": lambda c: c.recv_bytes(),
        "recv_bytes_into": lambda c: c.recv_bytes_into(bytearray(1)),
        "poll": lambda c: c.poll(),
        "fileno": lambda c: c.fileno() > 0,
        "close": lambda c: c.close(),
        "closed": lambda c: c.closed,
        "readable": lambda c: c.readable,
        "writable": lambda c: c.writable,
        "repr": lambda c: repr(c),
        "with": lambda c: c.__enter__() is c,
        "unpicklable": lambda c: c.send(threading.Lock()),
        "no buffer": lambda c: c.send_bytes("text"),
    }
    for name, use in uses.items():
        closed = ctx.Pipe()[0]
        closed.close()
        yield f"{name} of a closed connection", lambda use=use, closed=closed: use(closed)
    for name in ("send", "send_bytes", "poll", "closed", "readable", "writable", "unpicklable", "no buffer"):
        reader, writer = ctx.Pipe(False)
        use = uses[name]
        yield f"{name} of a reading end", lambda use=use, reader=reader, writer=writer: use(reader)
        yield f"{name} of a writing end", lambda use=use, reader=reader, writer=writer: use(writer)
    for name in ("recv", "recv_bytes", "recv_bytes_into"):
        reader, writer = ctx.Pipe(False)
        use = uses[name]
        yield f"{name} of a writing end", lambda use=use, reader=reader, writer=writer: use(writer)
        writer.close()
        yield f"{name} at the end", lambda use=use, reader=reader: use(reader)
    for name in ("send", "send_bytes", "poll"):
        first, second = ctx.Pipe()
        second.close()
        use = uses[name]
        yield f"{name} to nobody", lambda use=use, first=first: use(first)


def ends_of_queues(ctx: Any) -> Iterator[Use]:
    uses: dict[str, Callable[[Any], Any]] = {
        "put": lambda q: q.put(1),
        "put_nowait": lambda q: q.put_nowait(1),
        "get": lambda q: q.get(),
        "get_nowait": lambda q: q.get_nowait(),
        "get(False)": lambda q: q.get(False),
        "close": lambda q: q.close(),
        "join_thread": lambda q: q.join_thread(),
        "cancel_join_thread": lambda q: q.cancel_join_thread(),
        "qsize": lambda q: q.qsize(),
        "full": lambda q: q.full(),
        "empty": lambda q: q.empty(),
        "task_done": lambda q: q.task_done(),
    }
    for kind in ("Queue", "JoinableQueue", "SimpleQueue"):
        for name, use in uses.items():
            if kind == "SimpleQueue" and name == "get(False)":
                continue
            closed = getattr(ctx, kind)()
            closed.close()
            yield f"{name} of a closed {kind}", lambda use=use, closed=closed: use(closed)
        for name in ("get_nowait", "join_thread", "task_done", "qsize", "empty", "full"):
            fresh = getattr(ctx, kind)()
            use = uses[name]
            yield f"{name} of a fresh {kind}", lambda use=use, fresh=fresh: use(fresh)
    q = ctx.Queue(1)
    q.put(1)
    yield "put_nowait into a full queue", lambda: q.put_nowait(2)
    yield "put into a full queue", lambda: q.put(2, timeout=0.01)
    yield "taking from it", lambda: q.get(timeout=20)


def releases(ctx: Any) -> Iterator[Use]:
    for kind in ("Lock", "RLock", "BoundedSemaphore"):
        lock = getattr(ctx, kind)()
        yield f"release of a free {kind}", lambda lock=lock: lock.release()
        yield f"leaving a free {kind}", lambda lock=lock: lock.__exit__(None, None, None)
    lock = ctx.RLock()
    thread = threading.Thread(target=lock.acquire)
    thread.start()
    thread.join()
    yield "release of another thread's RLock", lambda: lock.release()
    condition = ctx.Condition()
    yield "wait without the lock", lambda: condition.wait(0.01)
    yield "wait_for without the lock", lambda: condition.wait_for(lambda: False, 0.01)
    yield "notify without the lock", lambda: condition.notify()
    yield "notify_all without the lock", lambda: condition.notify_all()
    yield "Condition.release without the lock", lambda: condition.release()
    broken = ctx.Barrier(2)
    yield "Barrier.wait alone", lambda: broken.wait(0.01)
    yield "Barrier.broken", lambda: broken.broken
    yield "Barrier.wait, broken", lambda: broken.wait()
    yield "Barrier.reset", lambda: (broken.reset(), broken.broken, broken.n_waiting, broken.parties)


def processes(ctx: Any, module: Any) -> Iterator[Use]:
    fresh = ctx.Process(target=nothing, name="one")
    for name in ("is_alive", "join", "terminate", "kill", "close"):
        yield f"{name} of a fresh Process", lambda name=name: getattr(ctx.Process(target=nothing), name)()
    for name in ("name", "daemon", "pid", "ident", "exitcode", "sentinel"):
        yield f"{name} of a fresh Process", lambda name=name: getattr(fresh, name)
    done = ctx.Process(target=nothing, name="two")
    done.start()
    done.join()
    yield "start again", lambda: done.start()
    yield "exitcode", lambda: done.exitcode
    for number, name in enumerate(("is_alive", "join", "terminate", "kill", "close", "close")):
        yield f"{number}: {name} of an ended Process", lambda name=name: getattr(done, name)()
    for name in ("is_alive", "join", "start"):
        yield f"{name} of a closed Process", lambda name=name: getattr(done, name)()
    for name in ("name", "daemon", "pid", "exitcode", "sentinel"):
        yield f"{name} of a closed Process", lambda name=name: getattr(done, name)
    yield "repr of a closed Process", lambda: repr(done)
    yield "name of no text", lambda: setattr(fresh, "name", 5)
    yield "get_context of no method", lambda: ctx.get_context("none")
    yield "start method of this context", lambda: ctx.set_start_method("spawn")
    yield "start methods", lambda: module.get_all_start_methods()


def pools(ctx: Any) -> Iterator[Use]:
    pool = ctx.Pool(1)
    yield "entering a Pool", lambda: pool.__enter__() is pool
    yield "repr of a Pool", lambda: repr(pool)
    yield "join of a running Pool", lambda: pool.join()
    for how, dumps in PICKLERS.items():
        yield f"{how} of a Pool", lambda dumps=dumps: dumps(pool)
    result = pool.apply_async(nothing, (1,))
    result.get(60)
    yield (
        "successful",
        lambda: (result.ready(), result.successful(), result.get(), result.get(0), result.wait()),
    )
    failed = pool.apply_async(fails, (1,))
    yield "failed", lambda: failed.get(60)
    yield "failed again", lambda: (failed.ready(), failed.successful())
    yield "pickle of a result", lambda: pickle.dumps(result)
    yield "map of no iterable", lambda: pool.map(nothing, 5)
    yield "starmap of no iterables", lambda: pool.starmap(nothing, [5])
    yield "imap of no iterable", lambda: list(pool.imap(nothing, 5))
    yield "apply of no callable", lambda: pool.apply(5)
    ended = pool.imap(nothing, [])
    yield "next at the end", lambda: next(ended)
    yield "next again", lambda: ended.next()
    yield "iter of imap", lambda: iter(ended) is ended
    yield "an initializer that is none", lambda: ctx.Pool(1, 5)
    yield "no processes", lambda: ctx.Pool(0)
    for first in ("close", "terminate"):
        other = ctx.Pool(1)
        yield first, lambda other=other, first=first: getattr(other, first)()
        for name in (
            "apply",
            "map",
            "imap",
            "imap_unordered",
            "starmap",
            "apply_async",
            "map_async",
            "starmap_async",
        ):
            args = (nothing,) if name.startswith("apply") else (nothing, [])
            yield (
                f"{name} after {first}",
                lambda other=other, name=name, args=args: getattr(other, name)(*args),
            )
        yield f"entering after {first}", lambda other=other: other.__enter__()
        yield f"{first} again", lambda other=other, first=first: getattr(other, first)()
        yield f"join after {first}", lambda other=other: other.join()
        yield f"join again after {first}", lambda other=other: other.join()
        yield f"repr after {first}", lambda other=other: re.sub("pool_size=.", "", repr(other))
    yield "leaving a Pool", lambda: pool.__exit__(None, None, None)
    yield "leaving it again", lambda: pool.__exit__(None, None, None)
    yield "map of one that was left", lambda: pool.map(nothing, [1])
    pool.join()


def executors(ctx: Any, executor: Any) -> Iterator[Use]:
    pool = executor(1, mp_context=ctx)
    future = pool.submit(nothing, 1)
    future.result(60)
    yield "pickle of an executor", lambda: type(pickle.dumps(pool))
    yield "state of a future", lambda: (future.done(), future.cancelled(), future.cancel(), future.running())
    yield "an initializer that is none, of an executor", lambda: executor(1, ctx, 5)
    yield "no workers", lambda: executor(0, ctx)
    yield "a call of nothing", lambda: pool.submit()
    yield "a size of chunks of 0", lambda: pool.map(nothing, [1], chunksize=0)
    pool.shutdown()
    yield "submit after shutdown", lambda: pool.submit(nothing)
    yield "map after shutdown", lambda: list(pool.map(nothing, [1]))
    yield "shutdown again", lambda: pool.shutdown()


def main() -> None:
    name, method = sys.argv[1:]
    faulthandler.dump_traceback_later(alike.SECONDS - 10, exit=True)
    module = importlib.import_module(name)
    ctx = module.get_context(method)
    executor: Any = module.ProcessPoolExecutor if name == "manyhands" else ProcessPoolExecutor
    groups = [pickles(ctx), faces(ctx), ends_of_connections(ctx), ends_of_queues(ctx), releases(ctx)]
    groups += [processes(ctx, module), pools(ctx), executors(ctx, executor)]
    json.dump({what: outcome(use) for group in groups for what, use in group}, sys.stdout)


if __name__ == "__main__":
    main()
