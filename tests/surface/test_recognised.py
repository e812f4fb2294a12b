"""`isinstance` and its kin: what we made is what the standard library's classes say, under a plain import."""

from __future__ import annotations

import contextlib
import copy
import functools
import importlib
import io
import logging
import logging.config
import multiprocessing
import multiprocessing.pool
import pickle
import subprocess
import sys
import weakref
from collections.abc import Iterator
from typing import Any
from unittest import mock

import kin
import manyhands
import manyhands.connection
import manyhands.futures
import manyhands.pool
import pytest

#: Which of our modules has each class, and which of the standard library's.
CLASSES = {
    "manyhands.process": ("multiprocessing.context", "Process ForkProcess SpawnProcess ForkServerProcess"),
    "manyhands.queues": ("multiprocessing.queues", "Queue JoinableQueue SimpleQueue"),
    "manyhands.synchronize": (
        "multiprocessing.synchronize",
        "Lock RLock Semaphore BoundedSemaphore Condition Event Barrier",
    ),
    "manyhands.pool": (
        "multiprocessing.pool",
        "Pool AsyncResult ApplyResult MapResult IMapIterator IMapUnorderedIterator",
    ),
    "manyhands.futures": ("concurrent.futures.process", "ProcessPoolExecutor"),
    "manyhands.context": (
        "multiprocessing.context",
        "BaseContext ForkContext SpawnContext ForkServerContext DefaultContext",
    ),
    "manyhands.connection": ("multiprocessing.connection", "Connection Listener"),
    "manyhands.sharedctypes": (
        "multiprocessing.sharedctypes",
        "SynchronizedBase Synchronized SynchronizedArray SynchronizedString",
    ),
}
PAIRS = [
    pytest.param(ours, theirs, name, id=f"{ours.partition('.')[2]}.{name}")
    for ours, (theirs, names) in CLASSES.items()
    for name in names.split()
]


def pair(ours: str, theirs: str, name: str) -> tuple[Any, Any]:
    return getattr(importlib.import_module(ours), name), getattr(importlib.import_module(theirs), name)


@pytest.mark.parametrize(("ours", "theirs", "name"), PAIRS)
def test_classes_are_subclasses(ours: str, theirs: str, name: str) -> None:
    mine, standard = pair(ours, theirs, name)
    assert mine is not standard
    assert issubclass(mine, standard)
    assert mine.__name__ == standard.__name__


#: Written by us as subclasses of these: what they leave to them works on our objects.
LEFT = {"multiprocessing.context": None, "multiprocessing.connection": None}
#: Of no object's behaviour, or the executor's ``with``, which is of `Executor`.
LENT = {
    *("__dict__", "__weakref__", "__firstlineno__", "__slotnames__"),
    *("__enter__", "__exit__", "__getslice__", "__setslice__"),
}


@pytest.mark.parametrize(("ours", "theirs", "name"), [pair for pair in PAIRS if pair.values[1] not in LEFT])
def test_no_public_or_special_name_is_lent(ours: str, theirs: str, name: str) -> None:
    """The standard library's code for these would run on objects that it does not know."""
    mine, _ = pair(ours, theirs, name)
    lent = {}
    for attribute in dir(mine):
        owner = next((kind for kind in mine.__mro__ if attribute in vars(kind)), object)
        hidden = attribute.startswith("_") and not attribute.endswith("__")
        if owner.__module__ == theirs and not hidden and attribute not in LENT:
            lent[attribute] = owner
    assert lent == {}


@pytest.mark.parametrize("name", kin.MADE)
def test_instances(ctx: Any, name: str) -> None:
    thing = kin.MADE[name][0](ctx)
    assert kin.what_is_wrong(thing, name) == ""


def test_pools_results_and_executors(ctx: Any) -> None:
    with ctx.Pool(1) as pool:
        # As dask asks what it was given as its pool.
        assert isinstance(pool, multiprocessing.pool.Pool)
        assert not isinstance(pool, multiprocessing.pool.ThreadPool)
        assert isinstance(pool.apply_async(abs, (-1,)), multiprocessing.pool.AsyncResult)
        assert isinstance(pool.map_async(abs, [-1]), multiprocessing.pool.MapResult)
        assert isinstance(pool.imap(abs, [-1]), multiprocessing.pool.IMapIterator)
        assert isinstance(pool.imap_unordered(abs, [-1]), multiprocessing.pool.IMapUnorderedIterator)
    from concurrent import futures

    with manyhands.ProcessPoolExecutor(1, mp_context=ctx) as executor:
        assert isinstance(executor, futures.ProcessPoolExecutor)
        calls = [executor.submit(abs, -n) for n in range(3)]
        assert all(isinstance(call, futures.Future) for call in calls)
        assert futures.wait(calls).not_done == set()
        assert sorted(call.result() for call in futures.as_completed(calls)) == [0, 1, 2]


def test_processes(ctx: Any) -> None:
    process = ctx.Process(target=kin.square)
    assert isinstance(process, getattr(multiprocessing.context, type(process).__name__))
    assert isinstance(process, multiprocessing.process.BaseProcess)
    # As in the standard library: those of a start method are no `Process`.
    assert not isinstance(process, multiprocessing.Process)
    with manyhands.connection.Listener() as listener:
        assert isinstance(listener, multiprocessing.connection.Listener)


def test_in_children(ctx: Any) -> None:
    """What a child was given is recognised there, and nothing was imported for it."""
    answers = ctx.SimpleQueue()
    things = [kin.MADE[name][0](ctx) for name in kin.SENT]
    process = ctx.Process(target=kin.report, args=(answers, kin.SENT, things))
    process.start()
    there, wrong = answers.get()
    process.join()
    assert wrong == []
    if ctx.get_start_method() == "spawn":
        # Of the things that it was given, connections and values have the standard library's classes as they are.
        assert there == ["multiprocessing.context"]


BEFORE = """
import sys
import manyhands
import manyhands.queues

class Mine(manyhands.queues.Queue):
    def name(self):
        return self.__class__.__name__

class Plain(manyhands.queues.Queue):
    pass

queue, lock, barrier = manyhands.Queue(), manyhands.Lock(), manyhands.Barrier(1)
mine = Mine(ctx=manyhands.get_context())
assert not {"multiprocessing.queues", "multiprocessing.synchronize", "multiprocessing.pool"} & set(sys.modules)
assert type(mine).__mro__.count(object) == 1 and mine.__class__ is Mine

import multiprocessing.queues
assert isinstance(queue, multiprocessing.queues.Queue), type(queue).__mro__
assert isinstance(mine, multiprocessing.queues.Queue) and mine.__class__ is Mine and mine.name() == "Mine"
assert queue.__class__ is type(queue) is manyhands.queues.Queue
assert issubclass(Plain, multiprocessing.queues.Queue)
mine.put(1)
assert mine.get(timeout=5) == 1

from multiprocessing import synchronize
assert isinstance(lock, synchronize.Lock) and isinstance(barrier, synchronize.Barrier)
assert isinstance(barrier, __import__("threading").Barrier)
with lock:
    pass
assert barrier.wait(5) == 0
# The modules know nothing of us.
import importlib.util, inspect
for module in (multiprocessing.queues, synchronize):
    assert type(module.__loader__).__module__ == "_frozen_importlib_external", module.__loader__
    assert module.__spec__.loader is module.__loader__
    assert inspect.getsource(module).startswith("#")
importlib.reload(multiprocessing.queues)
assert isinstance(queue, multiprocessing.queues.Queue), "after a reload"
print("right")
"""


def test_whatever_comes_first() -> None:
    done = subprocess.run([sys.executable, "-c", BEFORE], capture_output=True, text=True, timeout=50)
    assert (done.stdout, done.returncode) == ("right\n", 0), done.stderr


def dumped_by(python: bool, thing: Any, protocol: int) -> bytes:
    """By the pickler in C or in Python."""
    if not python:
        return pickle.dumps(thing, protocol)
    out = io.BytesIO()
    pickle._Pickler(out, protocol).dump(thing)  # type: ignore[attr-defined]
    return out.getvalue()


class Popen:
    """What stands for a child that is being started."""

    method = "spawn"

    @staticmethod
    def duplicate_for_child(fd: int) -> int:
        return fd


@contextlib.contextmanager
def starting() -> Iterator[None]:
    multiprocessing.context.set_spawning_popen(Popen)
    try:
        yield
    finally:
        multiprocessing.context.set_spawning_popen(None)


#: What a plain pickler may have while a child is started; the others have reducers of `ForkingPickler`'s.
PLAIN = [name for name in kin.SENT if name not in ("Value", "Array", "String", "Connection")]


@pytest.mark.parametrize("python", [False, True], ids=["c", "python"])
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("name", PLAIN)
def test_pickles(name: str, protocol: int, python: bool) -> None:
    ctx = manyhands.get_context("spawn")
    thing = kin.MADE[name][0](ctx)
    with pytest.raises(RuntimeError, match="through inheritance"):
        dumped_by(python, thing, protocol)
    with starting():
        again = pickle.loads(dumped_by(python, thing, protocol))
    assert type(again) is type(thing)
    assert kin.what_is_wrong(again, name) == ""


@pytest.mark.parametrize("python", [False, True], ids=["c", "python"])
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_of_subclasses(protocol: int, python: bool) -> None:
    named = kin.Named("flag")
    with starting():
        again = pickle.loads(dumped_by(python, named, protocol))
    assert (type(again), again.name) == (kin.Named, "flag")
    named.set()
    assert again.is_set()


def test_subclasses_with_state_travel(ctx: Any) -> None:
    counting, named = kin.Counting(ctx), kin.Named("flag")
    process = ctx.Process(target=kin.put_one, args=(counting, named))
    process.start()
    assert counting.get() == ("Counting", True)
    assert counting.get() == ("flag", True)
    process.join()
    assert counting.count.value == 2


# The standard library's barrier would leave its memory behind.
@pytest.mark.parametrize("name", [name for name in PLAIN if name != "Barrier"])
@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy])
def test_copies_are_as_in_the_standard_library(name: str, how: Any) -> None:
    def outcome(ctx: Any) -> Any:
        thing = kin.MADE[name][0](ctx)
        try:
            copied = how(thing)
        except RuntimeError as error:
            return str(error)
        return type(copied) is type(thing)

    assert outcome(manyhands.get_context("spawn")) == outcome(multiprocessing.get_context("spawn"))


@pytest.mark.parametrize("name", kin.MADE)
def test_dispatch_mocks_and_references(name: str) -> None:
    thing = kin.MADE[name][0](manyhands.get_context())
    standard = kin.standard(kin.MADE[name][1])
    dispatch = functools.singledispatch(lambda _thing: "other")
    dispatch.register(standard, lambda _thing: name)
    assert dispatch(thing) == name
    # Some attributes of a process raise before it is started, here and there.
    pretender = mock.Mock(spec=type(thing) if name == "Process" else thing)
    assert isinstance(pretender, standard)
    assert isinstance(pretender, type(thing))
    assert weakref.ref(thing)() is thing
    assert type(thing).__name__ in repr(thing) or "manyhands" in repr(thing)


def test_super_reaches_ours() -> None:
    steps = []

    class Mine(manyhands.queues.SimpleQueue[int]):
        def put(self, obj: int, *, move: bool = False) -> None:
            steps.append(obj)
            super().put(obj, move=move)

    queue = Mine()
    queue.put(3)
    assert (queue.get(), steps) == (3, [3])
    assert isinstance(queue, multiprocessing.queues.SimpleQueue)
    assert queue.__class__ is Mine
    assert Mine.__mro__.index(manyhands.queues.SimpleQueue) < Mine.__mro__.index(
        multiprocessing.queues.SimpleQueue
    )


def test_what_was_added_to_the_standard_class_is_found(ctx: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        multiprocessing.pool.Pool, "squares", lambda pool, ns: pool.map(kin.square, ns), raising=False
    )
    with ctx.Pool(1) as pool:
        assert pool.squares([1, 2, 3]) == [1, 4, 9]


def test_logging_takes_our_queue() -> None:
    kin.log_queue = manyhands.Queue()
    handler = {"class": "logging.handlers.QueueHandler", "queue": "ext://kin.log_queue"}
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "handlers": {"queue": handler},
            "loggers": {"test_recognised": {"handlers": ["queue"], "propagate": False}},
        }
    )
    logger = logging.getLogger("test_recognised")
    try:
        logger.warning("heard")
        assert kin.log_queue.get(timeout=10).getMessage() == "heard"
    finally:
        for made in [*logger.handlers]:
            logger.removeHandler(made)
            made.close()
        kin.log_queue = None
