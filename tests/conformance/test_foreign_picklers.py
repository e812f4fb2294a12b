"""Picklers with a table of reducers of their own, as loky's, send connections to processes that they start."""

from __future__ import annotations

import copyreg
import io
import pickle
import subprocess
import sys
from multiprocessing import resource_sharer
from typing import Any

import pytest

pytestmark = [pytest.mark.standard, pytest.mark.ours_only]


class Pickler(pickle.Pickler):
    """It knows what is registered with `copyreg`, and nothing of `ForkingPickler`."""

    dispatch_table = copyreg.dispatch_table.copy()


def dumps(obj: object) -> bytes:
    file = io.BytesIO()
    Pickler(file, pickle.HIGHEST_PROTOCOL).dump(obj)
    return file.getvalue()


@pytest.mark.methods("spawn")
def test_a_connection_is_asked_for_by_the_receiver(ctx: Any) -> None:
    near, far = ctx.Pipe()
    try:
        sent = pickle.loads(dumps(far))
    finally:
        resource_sharer.stop()
    assert type(sent) is type(far)
    sent.send("through another descriptor")
    assert near.recv() == "through another descriptor"
    assert sent.fileno() != far.fileno()
    for end in (near, far, sent):
        end.close()


class Popen:
    """As somebody's own way to start processes: it has the methods that `reduction.DupFd` asks for."""

    def __init__(self) -> None:
        self.passed: list[int] = []

    def duplicate_for_child(self, fd: int) -> int:
        self.passed.append(fd)
        return fd

    class DupFd:
        def __init__(self, fd: int) -> None:
            self.fd = fd

        def detach(self) -> int:
            return self.fd


@pytest.mark.methods("spawn")
def test_a_connection_goes_to_a_process_that_others_start(ctx: Any) -> None:
    from multiprocessing.context import set_spawning_popen

    near, far = ctx.Pipe()
    popen: Any = Popen()
    set_spawning_popen(popen)
    try:
        sent = dumps(far)
    finally:
        set_spawning_popen(None)
    program = (
        "import pickle, sys; sys.path[:0] = eval(sys.argv[1]);"
        " pickle.load(sys.stdin.buffer).send('from a stranger')"
    )
    argv = [sys.executable, "-c", program, repr(sys.path)]
    subprocess.run(argv, input=sent, pass_fds=popen.passed, check=True, timeout=50)
    assert near.recv() == "from a stranger"
    near.close()
    far.close()


@pytest.mark.methods("spawn")
def test_a_subclass_is_not_made_its_base(ctx: Any) -> None:
    near, far = ctx.Pipe()

    class Own(type(near)):  # type: ignore[misc]
        pass

    own = Own(near.fileno())
    with pytest.raises((TypeError, pickle.PicklingError)):
        dumps(own)
    own._handle = None
    near.close()
    far.close()
