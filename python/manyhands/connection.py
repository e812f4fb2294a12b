"""Connections: messages over pipes and sockets, to processes of this family or to any other.

What is on the wire is the standard library's: a length and so many bytes, of which ``send`` makes a pickle. So the
other end may be held by the standard library, by a process that does not know manyhands, or by somebody who reads the
descriptor with ``os.read``. `Listener`, `Client` and the rest are the standard library's; what they give is ours.
"""

from __future__ import annotations

from multiprocessing import connection as _std
from multiprocessing import reduction
from multiprocessing.connection import answer_challenge, deliver_challenge

from . import _manyhands

TYPE_CHECKING = False  # as typing's, without importing it
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, SupportsIndex

__all__ = ["Client", "Connection", "Listener", "Pipe", "answer_challenge", "deliver_challenge", "wait"]

_ConnectionWrapper: Any = _std.ConnectionWrapper  # type: ignore[attr-defined]


def __getattr__(name: str) -> Any:
    """Constants and functions that need nothing of ours: ``families``, ``address_type``."""
    from ._standard_names import standard_name

    return standard_name(__name__, name)


class Connection(_manyhands.Connection, _std.Connection):
    """One end of a connection, over a descriptor that is its own.

    Args:
        handle: the descriptor's number; the connection closes it.
        readable: whether messages may be received.
        writable: whether messages may be sent.

    Several processes and threads may hold one end; then they need a lock around each call. Only short messages (4,092
    bytes at most) may be sent without one, over what `Pipe` makes and sockets of the family ``AF_UNIX``; over TCP two
    of them may be mixed. When all holders of the other end have closed it or died, receiving
    raises `EOFError` once everything that was sent has been received, and sending `BrokenPipeError`. When one dies in
    the middle of a message, the receiver gets an `OSError`.

    A queue, lock or value of ours that is sent must be kept by somebody until the receiver has it: nobody but the
    receiver knows when a message is read.
    """

    def __init__(self, handle: SupportsIndex, readable: bool = True, writable: bool = True) -> None:
        number = handle.__index__()
        self._open(-1 if number < 0 else number, bool(readable), bool(writable))

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        """For picklers with a table of their own (loky's, dill's), which know how the standard library's is pickled."""
        return reduce_connection(self) if type(self) is Connection else super().__reduce_ex__(protocol)


def _ours(conn: Any) -> Connection:
    """The same descriptor, as a connection of ours."""
    if isinstance(conn, Connection):
        return conn
    handle, conn._handle = conn._handle, None
    return Connection(handle, conn.readable, conn.writable)


def Pipe(duplex: bool = True) -> tuple[Connection, Connection]:
    """Two ends of a new connection.

    Both can send and receive; if ``duplex`` is false, the first can only receive and the second only send.
    """
    duplex = bool(duplex)
    first, second = _manyhands.pipe(duplex)
    return Connection(first, writable=duplex), Connection(second, readable=duplex)


def wait(object_list: Iterable[Any], timeout: float | None = None) -> list[Any]:
    """Wait until some of these are ready; which, in their order.

    Args:
        object_list: connections, sockets, sentinels of processes, numbers of descriptors, whatever has a ``fileno``.
        timeout: for how many seconds at most; ``None`` for as long as it takes.

    A connection is ready when there is something to receive, or nobody holds the other end any more.
    """
    return _manyhands.wait(object_list, timeout)


class Listener(_std.Listener):
    """Waits at an address for clients; see the standard library's class."""

    def accept(self) -> Connection:
        """Wait for a client, and have it prove that it knows the key, if there is one."""
        return _ours(super().accept())


def Client(address: Any, family: str | None = None, authkey: bytes | None = None) -> Connection:
    """Connect to a listener, of ours or of the standard library.

    Raises `AuthenticationError` when either does not know the other's key.
    """
    # Called from here, it is the standard library's whatever is installed; see `_own`.
    return _ours(_std.Client(address, family, authkey))


class XmlListener(Listener):
    """A `Listener` whose clients speak XML-RPC."""

    def accept(self) -> Any:
        import xmlrpc.client

        _std.xmlrpclib = xmlrpc.client  # type: ignore[attr-defined]
        xml: Any = _std
        return _ConnectionWrapper(super().accept(), xml._xml_dumps, xml._xml_loads)


def XmlClient(*args: Any, **kwds: Any) -> Any:
    """As `Client`, for an `XmlListener`."""
    import xmlrpc.client

    _std.xmlrpclib = xmlrpc.client  # type: ignore[attr-defined]
    xml: Any = _std
    return _ConnectionWrapper(Client(*args, **kwds), xml._xml_dumps, xml._xml_loads)


def reduce_connection(conn: Connection) -> Any:
    """How a connection is pickled: its descriptor goes to the child that is being started, or is asked for later."""
    return rebuild_connection, (reduction.DupFd(conn.fileno()), conn.readable, conn.writable)


def rebuild_connection(df: Any, readable: bool, writable: bool) -> Connection:
    """How it is unpickled."""
    return Connection(df.detach(), readable, writable)


reduction.register(Connection, reduce_connection)
