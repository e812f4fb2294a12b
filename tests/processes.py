"""Looking at processes from outside, through /proc: who is whose child, what they cost, whether they live."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple


class Stat(NamedTuple):
    """The part of /proc/PID/stat that tests want."""

    state: str
    parent: int
    cpu_seconds: float


def stat(pid: int) -> Stat | None:
    """None if there is no such process."""
    # Nothing but system calls: this is done for every process of the machine, several times a test.
    try:
        file = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError):
        return None
    try:
        text = os.read(file, 4096)
    except ProcessLookupError:
        return None
    finally:
        os.close(file)
    # The name, in parentheses, may hold anything, spaces and parentheses too.
    fields = text[text.rindex(b")") + 2 :].split(maxsplit=13)
    ticks = int(fields[11]) + int(fields[12])
    return Stat(fields[0].decode(), int(fields[1]), ticks / _TICKS)


_TICKS = os.sysconf("SC_CLK_TCK")


def is_running(pid: int) -> bool:
    """Whether `pid` exists and is more than a zombie that nobody has collected."""
    found = stat(pid)
    return found is not None and found.state not in "ZX"


def descendants(root: int | None = None) -> list[int]:
    """All processes below `root` (this one by default), zombies included."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (found := stat(int(name))) is not None:
            children.setdefault(found.parent, []).append(int(name))
    below: list[int] = []
    ahead = [os.getpid() if root is None else root]
    while ahead:
        more = children.get(ahead.pop(), [])
        below += more
        ahead += more
    return below


def command(pid: int) -> str:
    """The command line, empty for a zombie."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def describe(pid: int) -> str:
    """One line for a report."""
    found = stat(pid)
    if found is None:
        return f"process {pid} (gone)"
    try:
        waits = Path(f"/proc/{pid}/wchan").read_text()
    except OSError:
        waits = "?"
    return f"process {pid} (parent {found.parent}, state {found.state}, in {waits}): {command(pid) or '(zombie)'}"


def held_elsewhere(names: Iterable[str]) -> set[str]:
    """Which of these names in /dev/shm a process has mapped that is neither this one nor below it.

    Other tests may run on the machine at the same time. What no process has mapped is nobody's.
    """
    # By what it is, since a semaphore is mapped under another name than it gets.
    left = {}
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            found = os.stat(f"/dev/shm/{name}")
            device = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}"
            left[device, str(found.st_ino)] = name
    mine = {os.getpid(), *descendants()}
    held = set()
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        # It may have ended, or belong to another user.
        with contextlib.suppress(OSError):
            lines = [] if pid in mine else Path(f"/proc/{pid}/maps").read_text(errors="replace").splitlines()
            mapped = {tuple(line.split()[3:5]) for line in lines if "/dev/shm/" in line}
            held.update(name for which, name in left.items() if which in mapped)
    return held


_HELPERS = ("multiprocessing.forkserver", "multiprocessing.resource_tracker", "forkserver", "zygote")


def is_helper(pid: int) -> bool:
    """A fork server, the child that it has in reserve, or a resource tracker: may live as long as the session.

    What a fork server has started shows its command line too, but is not our direct child.
    """
    found = stat(pid)
    if found is None:
        return False
    if found.parent != os.getpid():
        return is_reserve(pid) and is_helper(found.parent)
    return any(name in command(pid) for name in _HELPERS)


def is_reserve(pid: int) -> bool:
    """A child that a fork server has forked in advance, and that waits for what it is to do."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text() == "mh-reserve\n"
    return False


def reap_adopted(known: set[int]) -> None:
    """Collects orphans that have ended and came to this process, which has nothing to do with them otherwise."""
    for pid in descendants():
        found = stat(pid)
        if pid not in known and found is not None and found.state == "Z" and found.parent == os.getpid():
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def wait_until(condition: Callable[[], bool], seconds: float = 30.0) -> float:
    """Polls, for what nothing can be waited on; returns how long it took. AssertionError if it never comes true."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, f"still not so after {seconds} s"
        time.sleep(0.005)
    return time.monotonic() - started


def wait_gone(pids: Iterable[int], seconds: float = 30.0) -> float:
    """Until none of `pids` runs; returns how long it took."""
    pids = list(pids)
    return wait_until(lambda: not any(is_running(pid) for pid in pids), seconds)


def kill(pid: int) -> None:
    """SIGKILL: no clean-up of any kind."""
    os.kill(pid, signal.SIGKILL)
