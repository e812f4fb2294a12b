"""What a service has: processes, descriptors, threads, places in the table, shared memory."""

from __future__ import annotations

import contextlib
import gc
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

import deaths
import manyhands
from world import World

#: How long what an episode left may take to be gone.
GRACE_SECONDS = 30.0
#: A sweep follows some deaths, not each: the more blocks there are, the fewer. Never fewer than one in so many.
MOST_DEATHS_A_SWEEP = 40


@dataclass(frozen=True)
class Counters:
    """What a service has between two rounds: the processes of its session, and all of their descriptors and threads."""

    processes: int
    zombies: int
    descriptors: int
    threads: int
    #: Places in the table: of living members, of dead ones, of some that are to come.
    members: int
    dead: int
    coming: int
    #: Held shared memory, and those of its blocks that nobody has but the dead.
    held: str
    left_blocks: int

    @classmethod
    def now(cls) -> Counters:
        gc.collect()
        manyhands.active_children()  # collects those that have ended
        report = manyhands.doctor()
        session = _session()
        return cls(
            processes=len(session),
            zombies=list(session.values()).count("Z"),
            descriptors=sum(_entries(pid, "fd") for pid in session),
            threads=sum(_entries(pid, "task") for pid in session),
            members=_number(r": ([0-9]+) process", report),
            dead=len(re.findall(r": DEAD", report)) + _number(r"and ([0-9]+) dead ones more", report),
            coming=_number(r"([0-9]+) places? for processes", report),
            held=re.findall(r"^  (.* in [0-9]+) held block", report, re.MULTILINE)[0],
            left_blocks=_number(r"in ([0-9]+) of these were left", report),
        )


def settled(world: World, wanted: Counters | None = None) -> tuple[Counters, int]:
    """The counters, once they are as wanted, or stay the same for a while; and how many deaths that took."""
    deadline, died = time.monotonic() + GRACE_SECONDS, 0
    last, since = Counters.now(), time.monotonic()
    while time.monotonic() < deadline:
        if last == wanted or (wanted is None and time.monotonic() - since > 2 and not last.left_blocks):
            break
        if last.left_blocks or last.dead or last.coming or not last.held.startswith("0 bytes"):
            # What the dead have left, and queues that lie only in each other, go with the next sweep; a death that a
            # parent sees brings that nearer.
            deaths.a_death(world)
            died += 1
        world.check(died <= MOST_DEATHS_A_SWEEP, f"after {died} deaths there was no sweep: {last}")
        # The place of a user's fork that was killed at once is kept for ten seconds.
        time.sleep(1 if last.coming else 0.1)
        if (now := Counters.now()) != last:
            last, since = now, time.monotonic()
    return last, died


def own_memory() -> int:
    """The MiB that the service has for itself alone."""
    found = re.search(r"RssAnon:\s*([0-9]+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) >> 10 if found else -1


def threads() -> str:
    """What the service's threads are, and where they are in the kernel."""
    found = []
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            names = [(task / name).read_text().strip() for name in ("comm", "wchan")]
            found.append(" in ".join([*names, (task / "syscall").read_text().split()[0]]))
    return f"{len(found)} threads: {', '.join(found)}"


def _number(pattern: str, report: str) -> int:
    found = re.search(pattern, report)
    return int(found[1]) if found else 0


def _session() -> dict[int, str]:
    """The processes of this one's session, wherever their parents are, and their states.

    Zombies that a process outside of it has to collect count for nothing.
    """
    found = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{name}/stat").read_text().rsplit(")", 1)[1].split()
            state, parent, session = fields[0], int(fields[1]), int(fields[3])
            if session == os.getsid(0):
                found[int(name)] = (state, parent)
    return {pid: state for pid, (state, parent) in found.items() if state != "Z" or parent in found}


def _entries(pid: int, folder: str) -> int:
    with contextlib.suppress(OSError):
        return len(os.listdir(f"/proc/{pid}/{folder}"))
    return 0
