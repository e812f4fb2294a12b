"""What asks in tests, here and in children, whether things are what the standard library's names say."""

from __future__ import annotations

import importlib
import queue
import sys
from typing import Any

import manyhands
import manyhands.queues
import manyhands.synchronize


def square(n: int) -> int:
    return n * n


#: How each thing is made from a context, and which class of the standard library's it is an instance of.
MADE: dict[str, tuple[Any, str]] = {
    "Queue": (lambda ctx: ctx.Queue(), "multiprocessing.queues.Queue"),
    "JoinableQueue": (lambda ctx: ctx.JoinableQueue(), "multiprocessing.queues.JoinableQueue"),
    "SimpleQueue": (lambda ctx: ctx.SimpleQueue(), "multiprocessing.queues.SimpleQueue"),
    "Lock": (lambda ctx: ctx.Lock(), "multiprocessing.synchronize.Lock"),
    "RLock": (lambda ctx: ctx.RLock(), "multiprocessing.synchronize.RLock"),
    "Semaphore": (lambda ctx: ctx.Semaphore(), "multiprocessing.synchronize.Semaphore"),
    "BoundedSemaphore": (lambda ctx: ctx.BoundedSemaphore(), "multiprocessing.synchronize.BoundedSemaphore"),
    "Condition": (lambda ctx: ctx.Condition(), "multiprocessing.synchronize.Condition"),
    "Event": (lambda ctx: ctx.Event(), "multiprocessing.synchronize.Event"),
    "Barrier": (lambda ctx: ctx.Barrier(1), "multiprocessing.synchronize.Barrier"),
    "Value": (lambda ctx: ctx.Value("i", 1), "multiprocessing.sharedctypes.Synchronized"),
    "Array": (lambda ctx: ctx.Array("i", 2), "multiprocessing.sharedctypes.SynchronizedArray"),
    "String": (lambda ctx: ctx.Array("c", 2), "multiprocessing.sharedctypes.SynchronizedString"),
    "Connection": (lambda ctx: ctx.Pipe()[0], "multiprocessing.connection.Connection"),
    "context": (lambda ctx: ctx, "multiprocessing.context.BaseContext"),
    "Process": (lambda ctx: manyhands.Process(target=square), "multiprocessing.context.Process"),
}
#: Those that can be sent to a child that is being started.
SENT = [name for name in MADE if name not in ("context", "Process")]


def standard(name: str) -> Any:
    """The standard library's class of that name, which is imported for it."""
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def what_is_wrong(thing: Any, name: str) -> str:
    cls = standard(MADE[name][1])
    if not isinstance(thing, cls) or not issubclass(type(thing), cls):
        return f"{name}: {type(thing)} is no {cls}"
    return "" if thing.__class__ is type(thing) else f"{name}: says that it is {thing.__class__}"


#: What a spawned child has no need of for the things that it is given.
HEAVY = [
    "multiprocessing.context",
    "multiprocessing.queues",
    "multiprocessing.synchronize",
    "multiprocessing.pool",
]


def report(answers: Any, names: list[str], things: list[Any]) -> None:
    """In a child: which modules were there, and what is wrong with the things."""
    there = [name for name in HEAVY if name in sys.modules and "__getattr__" not in vars(sys.modules[name])]
    current = manyhands.current_process()
    process = standard(f"multiprocessing.context.{type(current).__name__}")
    wrong = [what_is_wrong(thing, name) for name, thing in zip(names, things, strict=True)]
    if not isinstance(current, process):
        wrong.append(f"{current!r} is no {process}")
    answers.put((there, [line for line in wrong if line]))


class Counting(manyhands.queues.Queue[Any]):
    """A queue with a state of its own, as recipes on the web have them."""

    def __init__(self, ctx: Any) -> None:
        super().__init__(ctx=ctx)
        self.count = ctx.Value("i", 0)

    def __getstate__(self) -> Any:
        return {"parent": super().__getstate__(), "count": self.count}

    def __setstate__(self, state: Any) -> None:
        super().__setstate__(state["parent"])
        self.count = state["count"]

    def put(self, *args: Any, **kwds: Any) -> None:
        super().put(*args, **kwds)
        self.count.fetch_add(1)


class Named(manyhands.synchronize.Event):
    """An event with an attribute, which goes with it."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name


def put_one(counting: Counting, named: Named) -> None:
    counting.put((type(counting).__name__, isinstance(counting, standard("multiprocessing.queues.Queue"))))
    counting.put((named.name, isinstance(named, standard("multiprocessing.synchronize.Event"))))


#: Given to `logging.config` by this name.
log_queue: queue.Queue[Any] | None = None
