"""What contenders for a lock run whose holders are killed. As `targets`, imported by name in spawned processes.

What they do is written to a file that everybody maps, and not to shared values of the implementation that is tested: a
killed process leaves there what it had written.
"""

from __future__ import annotations

import mmap
import os
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: Where a contender is, in its record. In between it may or may not have the lock.
OUTSIDE, TAKING, INSIDE, GIVING = range(4)

_WORD = struct.Struct("q")
#: Words of one contender's record: where it is, how often it had the lock, how often it was told that an owner died,
#: how often it found somebody else inside.
_RECORD = 4
#: Words of the part that the lock guards: who is inside, and a counter.
_GUARDED = 2


class Board:
    """A file of words, mapped."""

    def __init__(self, path: Path | str, contenders: int = 0) -> None:
        if contenders:
            Path(path).write_bytes(bytes(_WORD.size * (_GUARDED + _RECORD * contenders)))
        with open(path, "r+b") as file:
            self._words = mmap.mmap(file.fileno(), 0)

    def get(self, word: int) -> int:
        return int(_WORD.unpack_from(self._words, word * _WORD.size)[0])

    def set(self, word: int, value: int) -> None:
        _WORD.pack_into(self._words, word * _WORD.size, value)

    def record(self, number: int) -> Record:
        return Record(self, _GUARDED + _RECORD * number)

    def close(self) -> None:
        self._words.close()


class Record:
    """What one contender has done."""

    def __init__(self, board: Board, start: int) -> None:
        self._board, self._start = board, start

    def _get(self, word: int) -> int:
        return self._board.get(self._start + word)

    def _set(self, word: int, value: int) -> None:
        self._board.set(self._start + word, value)

    where = property(lambda self: self._get(0), lambda self, value: self._set(0, value))
    turns = property(lambda self: self._get(1), lambda self, value: self._set(1, value))
    told = property(lambda self: self._get(2), lambda self, value: self._set(2, value))
    clashes = property(lambda self: self._get(3), lambda self, value: self._set(3, value))


def _is_dead(pid: int) -> bool:
    """Whether a process is at least beyond running any code."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
    return text[text.rindex(")") + 2] in "ZX"


def _turn(board: Board, record: Record, rng: random.Random) -> None:
    """What must be done by one at a time: nobody living is inside, and the counter goes up by one."""
    before = board.get(0)
    if before != 0 and not _is_dead(before):
        record.clashes += 1
    board.set(0, os.getpid())
    count = board.get(1)
    for _ in range(rng.randrange(40)):
        os.sched_yield()
    if board.get(0) != os.getpid():
        record.clashes += 1
    board.set(1, count + 1)
    record.turns += 1
    board.set(0, 0)


def contend(lock: Any, kind: str, path: str, number: int) -> None:
    """Takes the lock, has a turn and gives it back, until it is killed."""
    from manyhands import OwnerDied

    board, rng = Board(path), random.Random(number)
    record = board.record(number)
    steps: dict[str, Callable[[], None]] = {
        "Lock": lambda: None,
        "RLock": lambda: _nested(lock),
        "Condition": lambda: _wait_a_little(lock, rng),
    }
    while True:
        try:
            record.where = TAKING
            lock.acquire()
            record.where = INSIDE
            steps[kind]()
            record.where = INSIDE
            _turn(board, record, rng)
            record.where = GIVING
            lock.release()
        except OwnerDied:
            # Told, and without the lock.
            record.told += 1
        record.where = OUTSIDE
        for _ in range(rng.randrange(20)):
            os.sched_yield()


def _nested(lock: Any) -> None:
    lock.acquire()
    lock.acquire()
    lock.release()
    lock.release()


def _wait_a_little(condition: Any, rng: random.Random) -> None:
    """Somebody else has the lock meanwhile; others are woken."""
    condition.notify()
    if rng.random() < 0.2:
        condition.wait(0.001)


# --- single holders ---


def hold(lock: Any, conn: Any) -> None:
    """Until it is killed."""
    lock.acquire()
    conn.send("held")
    conn.recv()


def hold_all(locks: list[Any], conn: Any) -> None:
    for lock in locks:
        lock.acquire()
    conn.send("held")
    conn.recv()


def hold_and_end(lock: Any, way: str) -> None:
    """Ends in an orderly way or not, and never gives it back."""
    lock.acquire()
    if way == "return":
        return
    if way == "sys.exit":
        raise SystemExit(3)
    if way == "exception":
        raise ValueError("on purpose")
    if way == "os._exit":
        os._exit(0)
    if way == "exec":
        os.execv("/bin/true", ["true"])


def hold_in_a_thread_that_ends(lock: Any, conn: Any) -> None:
    import threading

    thread = threading.Thread(target=lock.acquire)
    thread.start()
    thread.join()
    conn.send("held")
    conn.recv()


def wait_in(thing: Any, call: str, conn: Any) -> None:
    """Waits in a call, and reports what it gave."""
    conn.send("there")
    if call == "wait" and hasattr(thing, "notify"):
        with thing:
            conn.send(thing.wait())
    else:
        conn.send(getattr(thing, call)())


def take_places(room: Any, conn: Any, count: int) -> None:
    for _ in range(count):
        room.acquire()
    conn.send("taken")
    conn.recv()


def set_and_stay(event: Any, conn: Any) -> None:
    event.set()
    conn.send("set")
    conn.recv()
