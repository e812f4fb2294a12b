"""Shared values and arrays come back, whoever held them and however that one ended.

`MANYHANDS_SHARED` says how many are made and dropped (100,000 in `make proofs`).
"""

from __future__ import annotations

import gc
import os
import re
from collections.abc import Callable
from typing import Any

import manyhands
import pytest
import sharing

COUNT = int(os.environ.get("MANYHANDS_SHARED", "10000"))
LONG = 30.0


def held() -> int:
    """How many blocks of the arena somebody holds."""
    gc.collect()
    found = re.search(r"in ([0-9]+) held block", manyhands.doctor())
    assert found is not None
    return int(found.group(1))


@pytest.mark.methods("fork")
@pytest.mark.deadline(240)
def test_made_and_dropped(ctx: Any, figure: Callable[[str], None]) -> None:
    before = held()
    kept: list[Any] = []
    for number in range(COUNT):
        match number % 5:
            case 0:
                kept.append(ctx.Value("i", number))
            case 1:
                kept.append(ctx.RawValue("d", number))
            case 2:
                kept.append(ctx.Array("h", number % 3_000))
            case 3:
                kept.append(manyhands.SharedArray((number % 70, 500), "f4"))
            case _:
                kept.append(ctx.RawArray("c", b"text"))
        if len(kept) > 40:
            del kept[number % 40]
    kept.clear()
    assert held() == before
    figure(f"{COUNT} values and arrays made and dropped")


@pytest.mark.deadline(120)
def test_held_by_children_that_are_killed(ctx: Any) -> None:
    ours, theirs = ctx.Pipe()
    # The fork server, and what else is made once.
    warm = ctx.Process(target=sharing.keep_until_killed, args=(theirs,))
    warm.start()
    ours.recv()
    warm.kill()
    warm.join()
    del warm
    before = held()
    for _ in range(3):
        given = [
            ctx.Value("i", 5),
            ctx.Array("d", 1_000),
            manyhands.SharedArray((300, 300)),
            ctx.RawArray("i", 5),
        ]
        child = ctx.Process(target=sharing.keep_until_killed, args=(theirs, *given))
        child.start()
        assert ours.recv() == "up"
        # Only the child has them now.
        del given
        child.kill()
        child.join()
        del child
    for _ in range(3):
        child = ctx.Process(target=sharing.hoard_until_killed, args=(ctx, theirs))
        child.start()
        ours.recv()
        child.kill()
        child.join()
        del child
    for end in (ours, theirs):
        end.close()
    assert held() == before


@pytest.mark.deadline(120)
def test_a_value_outlives_its_maker(ctx: Any) -> None:
    queue = ctx.SimpleQueue()
    maker = ctx.Process(target=sharing.make_and_send, args=(ctx, queue))
    maker.start()
    value, array = queue.get()
    maker.kill()
    maker.join()
    assert value.value == 41
    value.value += 1
    assert (value.value, array[:]) == (42, [1.5, 2.5])
    queue.close()


@pytest.mark.deadline(120)
def test_the_lock_of_a_killed_writer_is_free_again(ctx: Any) -> None:
    value = ctx.Value("i", 1)
    ours, theirs = ctx.Pipe()
    child = ctx.Process(target=sharing.hold_until_told, args=(value, theirs))
    child.start()
    assert ours.recv() == "held"
    child.kill()
    child.join()
    with pytest.raises(manyhands.OwnerDied):
        value.value = 7
    assert value.value == 1
    value.value = 7
    assert value.value == 7
    for end in (ours, theirs):
        end.close()
