"""What the tests of connections share, and what the other processes of theirs run."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

LONG = 30.0
# A forked child has its parent's end, too: that the parent closes it is not the end for the child.
END = b"the end"


def connection_of(ctx: Any) -> Any:
    """The module `connection` of the context's implementation."""
    if type(ctx).__module__.startswith("manyhands"):
        import manyhands.connection

        return manyhands.connection
    import multiprocessing.connection

    return multiprocessing.connection


@contextlib.contextmanager
def meanwhile(function: Callable[..., Any], *args: Any) -> Iterator[None]:
    """Runs something in another thread during a block."""
    thread = threading.Thread(target=function, args=args)
    thread.start()
    try:
        yield
    finally:
        thread.join(LONG)
        assert not thread.is_alive()


@contextlib.contextmanager
def alarm(handler: Callable[[int, Any], Any], seconds: float = 0.2) -> Iterator[None]:
    """A signal on the way, for what blocks in the block."""
    before = signal.signal(signal.SIGUSR1, handler)
    me = os.getpid()
    timer = threading.Timer(seconds, os.kill, (me, signal.SIGUSR1))
    timer.start()
    try:
        yield
    finally:
        timer.join()
        signal.signal(signal.SIGUSR1, before)


# --- what other processes run ---


def echo_objects(conn: Any) -> None:
    """Sends each object back, until the end is."""
    for item in iter(conn.recv, END):
        conn.send(item)


def echo_bytes(conn: Any) -> None:
    """Sends each message back, until the end is."""
    for message in iter(conn.recv_bytes, END):
        conn.send_bytes(message)


def say_then_die(conn: Any, raw: bytes) -> None:
    """Writes these bytes as they are, and is gone."""
    os.write(conn.fileno(), raw)
    os.kill(os.getpid(), signal.SIGKILL)


def close_then_wait(conn: Any, word: Any, *_others: Any) -> None:
    """Has no use for the connection, and stays until it is told to go."""
    conn.close()
    word.get()


def take_one_and_wait(queue: Any, word: Any) -> None:
    """As `close_then_wait`, of a connection that comes through a queue with something else."""
    conn, _other = queue.get()
    close_then_wait(conn, word)


def write_to_descriptor(queue: Any, text: bytes) -> None:
    """Writes into what it is told to ask for."""
    offer, _other = queue.get()
    number = offer.detach()
    os.write(number, text)
    os.close(number)


def receive_and_use(conn: Any) -> None:
    """Uses a connection that comes through another one."""
    sent = conn.recv()
    if sent.writable:
        sent.send("from afar")
    else:
        conn.send(sent.recv())
    sent.close()


def use_from_queue(queue: Any) -> None:
    """Uses a connection that comes through a queue."""
    sent = queue.get()
    sent.send("from afar")
    sent.close()


def send_through(conn: Any) -> int:
    """A pool's task: uses a connection that is its argument."""
    with conn:
        conn.send(os.getpid())
    return os.getpid()


def write_to_received(conn: Any, module: str) -> None:
    """Receives a descriptor and writes to it."""
    import importlib

    number = importlib.import_module(module).recv_handle(conn)
    os.write(number, b"handed over")
    os.close(number)


def put_into_received(conn: Any) -> None:
    """Receives a queue, a lock and a value of ours, and uses them."""
    queue, lock, value = conn.recv()
    with lock:
        value.value += 1
    queue.put("done")


def serve(conn: Any, implementation: str, address: Any, key: bytes | None) -> None:
    """Listens, says where, and answers one client with what it sent."""
    import importlib

    listener = importlib.import_module(f"{implementation}.connection").Listener(address, authkey=key)
    with listener:
        conn.send(listener.address)
        with listener.accept() as client:
            client.send(client.recv())


def listen_for_stranger(conn: Any, implementation: str, key: bytes) -> None:
    """Listens for one client that knows another key; says what became of it."""
    import importlib
    from multiprocessing import AuthenticationError

    with importlib.import_module(f"{implementation}.connection").Listener(authkey=key) as listener:
        conn.send(listener.address)
        try:
            listener.accept()
        except AuthenticationError as error:
            conn.send(type(error).__name__)
