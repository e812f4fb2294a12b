"""`Listener` and `Client`: of one implementation, and each with the other's."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import Any

import connections
import pytest
from connections import LONG, connection_of

pytestmark = pytest.mark.standard

IMPLEMENTATIONS = ("manyhands", "multiprocessing")
# With an empty key a listener of 3.11 does not ask, and the client waits to be asked.
KEYS = [None, b"a secret", *([b""] if sys.version_info >= (3, 12) else [])]


def addresses(folder: Path) -> list[Any]:
    return [None, ("localhost", 0), str(folder / "socket"), f"\0{folder}/abstract"]


@pytest.mark.methods("fork")
@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("which", range(4))
def test_there_and_back(ctx: Any, tmp_path: Path, which: int, key: bytes | None) -> None:
    own = connection_of(ctx)
    for implementation in IMPLEMENTATIONS:
        mine, theirs = ctx.Pipe()
        arguments = (theirs, implementation, addresses(tmp_path)[which], key)
        server = ctx.Process(target=connections.serve, args=arguments)
        server.start()
        client = own.Client(mine.recv(), authkey=key)
        assert type(client) is own.Connection
        with client:
            client.send({"to": implementation})
            assert client.recv() == {"to": implementation}
        server.join(LONG)
        assert server.exitcode == 0
        mine.close()
        theirs.close()


@pytest.mark.methods("fork")
def test_another_key(ctx: Any) -> None:
    from multiprocessing import AuthenticationError

    for implementation in IMPLEMENTATIONS:
        mine, theirs = ctx.Pipe()
        arguments = (theirs, implementation, b"a secret")
        server = ctx.Process(target=connections.listen_for_stranger, args=arguments)
        server.start()
        with pytest.raises(AuthenticationError):
            connection_of(ctx).Client(mine.recv(), authkey=b"a guess")
        assert mine.recv() == "AuthenticationError"
        server.join(LONG)
        mine.close()
        theirs.close()


@pytest.mark.methods("fork")
class TestListener:
    def test_accepts_its_own_connections(self, ctx: Any) -> None:
        own = connection_of(ctx)
        with own.Listener() as listener, own.Client(listener.address) as client, listener.accept() as server:
            assert type(server) is own.Connection
            client.send(1729)
            assert server.recv() == 1729
        with pytest.raises(OSError, match="listener is closed"):
            listener.accept()

    def test_an_address_is_taken(self, ctx: Any) -> None:
        own = connection_of(ctx)
        for family in own.families:
            with own.Listener(family=family) as listener, pytest.raises(OSError, match="in use"):
                own.Listener(listener.address, family)

    def test_a_file_goes_with_its_listener(self, ctx: Any, tmp_path: Path) -> None:
        address = tmp_path / "socket"
        with connection_of(ctx).Listener(str(address)):
            assert address.exists()
        assert not address.exists()

    def test_keys_are_bytes(self, ctx: Any) -> None:
        with pytest.raises(TypeError, match="authkey should be a byte string"):
            connection_of(ctx).Listener(authkey="text")

    def test_nobody_listens(self, ctx: Any, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            connection_of(ctx).Client(str(tmp_path / "nothing"))

    def test_a_plain_socket_speaks_to_it(self, ctx: Any) -> None:
        with connection_of(ctx).Listener(("localhost", 0)) as listener, socket.socket() as plain:
            plain.connect(listener.address)
            with listener.accept() as server:
                plain.sendall(b"\0\0\0\5hello")
                assert server.recv_bytes() == b"hello"
                server.send_bytes(b"bye")
                assert plain.recv(100) == b"\0\0\0\3bye"

    def test_xml(self, ctx: Any) -> None:
        own = connection_of(ctx)
        with own.XmlListener() as listener:
            client, server = own.XmlClient(listener.address), listener.accept()
            client.send([1, "two", {"three": 3.0}])
            assert server.recv() == [1, "two", {"three": 3.0}]
            client.close()
            server.close()

    def test_challenges_are_the_running_interpreters(self, ctx: Any) -> None:
        """Whoever asks the standard library's functions to authenticate one of these connections can."""
        import multiprocessing.connection as standard

        first, second = ctx.Pipe()
        with first, second, connections.meanwhile(standard.deliver_challenge, first, b"key"):
            connection_of(ctx).answer_challenge(second, b"key")
