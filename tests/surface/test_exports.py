"""Every public name of the standard library's `multiprocessing` is here, and what is built takes the same arguments."""

from __future__ import annotations

import concurrent.futures
import concurrent.futures.process
import inspect
import multiprocessing
import multiprocessing.pool
import multiprocessing.queues
from typing import Any

import manyhands
import pytest

NAMES = sorted(multiprocessing.__all__)  # type: ignore[attr-defined]
METHODS = ("fork", "forkserver", "spawn")

# Where a signature is the standard library's own affair: never called by users.
PRIVATE = "_"


@pytest.mark.parametrize("name", NAMES)
def test_name_is_exported(name: str) -> None:
    assert hasattr(manyhands, name)
    assert name in manyhands.__all__


def test_what_is_listed_exists() -> None:
    assert [name for name in manyhands.__all__ if not hasattr(manyhands, name)] == []
    assert len(set(manyhands.__all__)) == len(manyhands.__all__)


@pytest.mark.parametrize("name", ["ProcessPoolExecutor", "WorkerDied", "doctor", "install"])
def test_additions(name: str) -> None:
    assert name in manyhands.__all__
    assert not hasattr(multiprocessing, name)


def test_shared_exceptions_are_the_standard_librarys() -> None:
    # Programs have `except multiprocessing.TimeoutError` whichever package made the pool.
    for name in ("ProcessError", "TimeoutError", "BufferTooShort", "AuthenticationError"):
        assert getattr(manyhands, name) is getattr(multiprocessing, name)


def accepts(ours: Any, theirs: Any) -> list[str]:
    """What a caller of `theirs` could not do with `ours`."""
    mine, standard = inspect.signature(ours).parameters, inspect.signature(theirs).parameters
    problems = []
    for position, (name, parameter) in enumerate(standard.items()):
        if name.startswith(PRIVATE):
            continue
        if name not in mine:
            problems.append(f"no parameter {name}")
        elif parameter.default != mine[name].default:
            problems.append(f"{name} defaults to {mine[name].default!r}, not to {parameter.default!r}")
        elif parameter.kind is not parameter.KEYWORD_ONLY and list(mine).index(name) != position:
            problems.append(f"{name} is in another place")
    problems += [
        f"{name} has no default"
        for name, parameter in mine.items()
        if name not in standard
        and parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    ]
    return problems


@pytest.mark.parametrize(
    "name", ["Process", "Pool", "Queue", "SimpleQueue", "get_context", "set_start_method"]
)
def test_functions_take_the_same_arguments(name: str) -> None:
    assert accepts(getattr(manyhands, name), getattr(multiprocessing, name)) == []


PROCESS = [
    "start",
    "run",
    "join",
    "is_alive",
    "terminate",
    "kill",
    "close",
    "name",
    "daemon",
    "pid",
    "ident",
    "exitcode",
    "authkey",
    "sentinel",
]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["__init__", *PROCESS])
def test_process_has_the_same_members(method: str, name: str) -> None:
    ours = getattr(manyhands.get_context(method).Process, name)
    theirs = getattr(multiprocessing.get_context(method).Process, name)
    assert isinstance(ours, property) == isinstance(theirs, property)
    if not isinstance(theirs, property):
        assert accepts(ours, theirs) == []


QUEUE = [
    "put",
    "get",
    "put_nowait",
    "get_nowait",
    "qsize",
    "empty",
    "full",
    "close",
    "join_thread",
    "cancel_join_thread",
]
SIMPLE_QUEUE = ["put", "get", "empty", "close"]
CONNECTION = [
    "__init__",
    "send",
    "recv",
    "send_bytes",
    "recv_bytes",
    "recv_bytes_into",
    "poll",
    "fileno",
    "close",
]
POOL = [
    "__init__",
    "apply",
    "apply_async",
    "map",
    "map_async",
    "starmap",
    "starmap_async",
    "imap",
    "imap_unordered",
    "close",
    "terminate",
    "join",
    "__enter__",
    "__exit__",
]


EXECUTOR = ["__init__", "submit", "map", "shutdown", "__enter__", "__exit__"]
FUTURE = ["cancel", "cancelled", "running", "done", "result", "exception", "add_done_callback"]


def members(theirs: type, names: list[str]) -> list[Any]:
    return [pytest.param(theirs, name, id=f"{theirs.__name__}.{name}") for name in names]


@pytest.mark.parametrize(
    ("theirs", "name"),
    [
        *members(multiprocessing.queues.Queue, QUEUE),
        *members(multiprocessing.queues.SimpleQueue, SIMPLE_QUEUE),
        *members(multiprocessing.pool.Pool, POOL),
    ],
)
def test_classes_have_the_same_methods(theirs: type, name: str) -> None:
    import manyhands.pool
    import manyhands.queues

    module = manyhands.pool if theirs is multiprocessing.pool.Pool else manyhands.queues
    ours = getattr(module, theirs.__name__)
    assert accepts(getattr(ours, name), getattr(theirs, name)) == []


@pytest.mark.parametrize(
    ("theirs", "name"),
    [
        *members(concurrent.futures.process.ProcessPoolExecutor, EXECUTOR),
        *members(concurrent.futures.Future, FUTURE),
    ],
)
def test_futures_have_the_same_methods(theirs: type, name: str) -> None:
    import manyhands.futures

    ours = getattr(manyhands.futures, theirs.__name__)
    assert issubclass(ours, theirs) or theirs.__name__ == "ProcessPoolExecutor"
    assert issubclass(manyhands.futures.ProcessPoolExecutor, concurrent.futures.Executor)
    assert accepts(getattr(ours, name), getattr(theirs, name)) == []


@pytest.mark.parametrize("name", CONNECTION)
def test_connections_have_the_same_methods(name: str) -> None:
    import multiprocessing.connection

    import manyhands.connection

    ours, theirs = manyhands.connection.Connection, multiprocessing.connection.Connection
    assert issubclass(ours, theirs)
    assert accepts(getattr(ours, name), getattr(theirs, name)) == []


def test_the_module_connection_has_the_standard_librarys_names() -> None:
    import multiprocessing.connection

    import manyhands.connection

    for name in multiprocessing.connection.__all__:
        ours, theirs = getattr(manyhands.connection, name), getattr(multiprocessing.connection, name)
        assert ours.__module__ == "manyhands.connection"
        assert accepts(ours, theirs) == []
    for name in ("families", "default_family", "address_type", "SocketListener", "AuthenticationError"):
        assert getattr(manyhands.connection, name) is getattr(multiprocessing.connection, name)


def test_futures_has_the_executors_names() -> None:
    import manyhands.futures

    threads = {"ThreadPoolExecutor", "InterpreterPoolExecutor"}
    names = set(concurrent.futures.__all__) - threads
    assert names <= set(manyhands.futures.__all__)
    for name in names - {"Future", "ProcessPoolExecutor"}:
        assert getattr(manyhands.futures, name) is getattr(concurrent.futures, name)
    assert manyhands.ProcessPoolExecutor is manyhands.futures.ProcessPoolExecutor
