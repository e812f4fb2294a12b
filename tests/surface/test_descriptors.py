"""A child has the descriptors that it was given, and no other of its parent's."""

from __future__ import annotations

import os
import re
from collections import Counter
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

import pytest
import targets


def kinds(*_args: Any) -> Counter[str]:
    """How many descriptors of each kind this process has: `pipe`, `/memfd:manyhands`, `anon_inode:[pidfd]`, ..."""
    found: Counter[str] = Counter()
    for number in os.listdir("/proc/self/fd"):
        try:
            name = os.readlink(f"/proc/self/fd/{number}")
        except FileNotFoundError:
            # The one by which this lists them.
            continue
        found[re.sub(r":?\[?\d+\]?$| \(deleted\)", "", name)] += 1
    return found


def report_kinds(conn: Any) -> None:
    conn.send(kinds())


def kinds_in_child(ctx: BaseContext) -> Counter[str]:
    receiver, sender = ctx.Pipe(duplex=False)
    child = ctx.Process(target=report_kinds, args=(sender,))
    child.start()
    sender.close()
    found: Counter[str] = receiver.recv()
    child.join()
    receiver.close()
    return found


@pytest.mark.methods("spawn", "forkserver")
def test_a_fresh_child_has_none_of_what_its_parent_uses(ctx: BaseContext) -> None:
    """Its descriptors do not depend on what else the parent has: a pool, children, a queue, files of its own."""
    before = kinds_in_child(ctx)
    queue: Any = ctx.Queue()
    with ctx.Pool(2) as pool, open(__file__) as mine:
        assert pool.map(targets.square, [1, 2]) == [1, 4]
        inside, outside = ctx.Pipe(), os.pipe()
        waiting = ctx.Process(target=targets.wait_for, args=(inside[0],))
        waiting.start()
        assert kinds_in_child(ctx) == before
        assert os.path.basename(mine.name) not in str(before)
        inside[1].close()
        inside[0].close()
        waiting.join()
        for descriptor in outside:
            os.close(descriptor)
    queue.close()
    assert before["anon_inode:[pidfd]"] == before["anon_inode:[eventfd]"] == 0


@pytest.mark.methods("spawn", "forkserver")
def test_a_pool_worker_has_no_sibling_s_descriptors(ctx: BaseContext) -> None:
    with ctx.Pool(3) as pool:
        found = pool.map(kinds, range(30), 1)
    assert all(each == found[0] for each in found)
    assert found[0]["anon_inode:[pidfd]"] == 0


@pytest.mark.methods("fork")
def test_a_forked_child_lets_go_of_its_siblings_life_pipes(ctx: BaseContext) -> None:
    """It inherits what is open, as fork does; but a write end that it kept would keep a sibling alive for ever."""
    receiver, sender = ctx.Pipe(duplex=False)
    inside = ctx.Pipe()
    before = write_ends()
    siblings = [ctx.Process(target=targets.wait_for, args=(inside[0],)) for _ in range(3)]
    for sibling in siblings:
        sibling.start()
    child = ctx.Process(target=report_write_ends, args=(sender,))
    child.start()
    life_pipes = write_ends() - before
    theirs = receiver.recv()
    child.join()
    for sibling in siblings:
        sibling.terminate()
        sibling.join()
    for conn in inside:
        conn.close()
    receiver.close()
    sender.close()
    assert len(life_pipes) == 4
    assert not life_pipes & theirs


def write_ends() -> set[str]:
    """The pipes of which this process has a write end."""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        try:
            name = os.readlink(f"/proc/self/fd/{number}")
            information = Path(f"/proc/self/fdinfo/{number}").read_text()
        except FileNotFoundError:
            continue
        flags = int(information.split("flags:")[1].split()[0], 8)
        if name.startswith("pipe:") and flags & os.O_ACCMODE == os.O_WRONLY:
            found.add(name)
    return found


def report_write_ends(conn: Any) -> None:
    conn.send(write_ends())
