"""Programs of a family whose processes cannot see each other as usual; each ends with "right", or says what is wrong.

`python unseen.py SCENARIO METHOD`, by `tests/death/test_unseen.py`, in surroundings of its own: processes hidden by
`hidepid`, no `/proc`, another pid namespace's. A member that lives must keep what it holds there, whatever the others
can find out about it, and what can be known dead must come back.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import resource
import select
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import manyhands
from manyhands import OwnerDied, doctor

NOBODY = 65534
CLONE_NEWPID, CLONE_NEWNS, CLONE_NEWTIME = 0x20000000, 0x00020000, 0x80
NUMBERS = list(range(1000))
BIG = b"B" * (1 << 20)


def check(truth: object, *what: object) -> None:
    if not truth:
        raise AssertionError(*what)


def until(truth: Callable[[], object], *what: object) -> None:
    """Waits for it, and tells what was waited for when it does not come."""
    end = time.monotonic() + 30
    while not truth():
        check(time.monotonic() < end, "never came:", *what)
        time.sleep(0.01)


def tells_of_a_death(lock: Any) -> None:
    try:
        lock.acquire(timeout=20)
    except OwnerDied:
        return
    check(False, "the holder's death was not told")


class Precious:
    """What a member holds, to be found as it was."""

    def __init__(self, ctx: Any) -> None:
        self.array = ctx.Array("i", NUMBERS)
        self.small, self.big = ctx.Queue(), ctx.SimpleQueue()
        self.small.put("precious")
        self.big.put(BIG)

    def check(self) -> None:
        check(list(self.array) == NUMBERS, "the array holds", list(self.array)[:4])
        check(self.small.get(timeout=20) == "precious")
        check(self.big.get() == BIG)
        self.small.put("precious")
        self.big.put(BIG)


def hold(*_held: Any) -> None:
    """Dies with something in its hands: a sweep follows."""


def strain() -> None:
    """Has the dead looked for again and again, and uses what is free for other things."""
    ctx = manyhands.get_context("fork")
    for _ in range(8):
        queue = ctx.Queue()
        child = ctx.Process(target=hold, args=(queue,))
        child.start()
        child.join()
        check(child.exitcode == 0, "exit code", child.exitcode)
        others = [ctx.Array("i", [7] * 1000) for _ in range(4)]
        queues = [ctx.Queue() for _ in range(4)]
        for other in queues:
            other.put(b"x" * 20_000)
        check(all(other[5] == 7 for other in others) and all(len(q.get()) == 20_000 for q in queues))


def as_another_user() -> None:
    """From here on root's processes are another user's, and hidden where `/proc` hides those."""
    if os.getuid() == 0:
        os.setgid(NOBODY)
        os.setuid(NOBODY)


def family(text: str) -> dict[str, str]:
    """What a report says of each process, by pid."""
    return dict(re.findall(r"^  ([0-9]+) +[^:]*: ([^;]*); joined", text, re.MULTILINE))


# --- a member that sweeps, beside others that it may not see ---


def stay(precious: Precious, lock: Any, ready: Any, leave: Any) -> None:
    with lock:
        ready.set()
        leave.wait()
    precious.check()


def sweep_and_lock(precious: Precious, lock: Any, mine: Any, done: Any) -> None:
    as_another_user()
    strain()
    # Its holder lives: not even several close looks take it away.
    check(lock.acquire(timeout=1.2) is False, "a lock was taken from a living holder")
    precious.check()
    with mine:
        done.set()


def strangers(ctx: Any) -> None:
    """One member looks for the dead and wants a lock, while its family lives."""
    precious, lock, mine = Precious(ctx), ctx.Lock(), ctx.RLock()
    ready, leave, done = ctx.Event(), ctx.Event(), ctx.Event()
    holder = ctx.Process(target=stay, args=(precious, lock, ready, leave))
    holder.start()
    check(ready.wait(20))
    with mine:
        pass
    sweeper = ctx.Process(target=sweep_and_lock, args=(precious, lock, mine, done))
    sweeper.start()
    sweeper.join(40)
    check(sweeper.exitcode == 0 and done.is_set(), "exit code", sweeper.exitcode)
    strain()
    leave.set()
    holder.join(20)
    check(holder.exitcode == 0, "exit code", holder.exitcode)
    check(lock.acquire(timeout=20))
    precious.check()


# --- the dead come back ---


def wait_for_ever(lock: Any, ready: Any) -> None:
    lock.acquire()
    ready.put(os.getpid())
    time.sleep(100)


def start_and_die(ctx: Any, lock: Any, ready: Any, told: Any) -> None:
    children = [
        ctx.Process(target=wait_for_ever, args=(lock if n == 0 else ctx.Lock(), ready)) for n in range(4)
    ]
    for child in children:
        child.start()
    told.put([ready.get(timeout=30) for _ in children])
    time.sleep(100)


def orphans(ctx: Any) -> None:
    """A parent is killed, and its children after it: their slots come back, and what they held; the lock tells."""
    precious, lock, ready, told = Precious(ctx), ctx.Lock(), ctx.Queue(), ctx.SimpleQueue()
    # Orphans become this process's children, and it reaps them.
    check(ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0)
    parent = ctx.Process(target=start_and_die, args=(ctx, lock, ready, told))
    parent.start()
    pids = told.get()
    # Their parent decides over them: nobody takes their slots while it lives.
    strain()
    check(set(map(str, pids)) <= set(family(doctor())))
    parent.kill()
    parent.join()
    strain()
    known = family(doctor())
    check(all("DEAD" not in known[str(pid)] for pid in pids), "they live", known)
    check(lock.acquire(timeout=0.6) is False)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        # A fork server that has ended may have left them to us, or it reaps them itself.
        until(lambda pid=pid: gone(pid), "the end of", pid)
    tells_of_a_death(lock)
    strain()
    left = set(map(str, pids)) & set(family(doctor()))
    check(not left, "slots are kept:", doctor())
    precious.check()


def fork_inside_and_die(lock: Any, ready: Any, outside: Any) -> None:
    """Its child is in another pid namespace, if it may be."""
    ctx = manyhands.get_context("fork")
    child = ctx.Process(target=wait_for_ever, args=(lock, ready))
    outside.put((in_a_namespace(child.start), child.pid))
    time.sleep(100)


def inner_orphans(ctx: Any) -> None:
    """As `orphans`, of a child that its parent has forked into another pid namespace: found by the pid it has here."""
    precious, lock, ready, outside = Precious(ctx), ctx.Lock(), ctx.Queue(), ctx.SimpleQueue()
    check(ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0)
    before = len(family(doctor()))
    parent = ctx.Process(target=fork_inside_and_die, args=(lock, ready, outside))
    parent.start()
    (may, pid), inside = outside.get(), ready.get(timeout=30)
    check(inside == (1 if may else pid), "the child calls itself", inside)
    parent.kill()
    parent.join()
    strain()
    known = family(doctor())
    check("DEAD" not in known[str(inside)], "it lives", known)
    check(lock.acquire(timeout=0.6) is False)
    os.kill(pid, signal.SIGKILL)
    until(lambda: gone(pid), "the end of", pid)
    tells_of_a_death(lock)
    strain()
    check(len(family(doctor())) <= before + 1, "a slot is kept:", doctor())
    precious.check()


def gone(pid: int) -> bool:
    """Whether nobody has that pid; a child of ours is reaped."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


# --- at the limit of descriptors ---


def no_descriptors(ctx: Any) -> None:
    """A process that cannot open anything finds nobody dead that lives, and finds the dead that it can."""
    precious, lock, other = Precious(ctx), ctx.Lock(), ctx.Lock()
    ready, leave, killed = ctx.Event(), ctx.Event(), ctx.SimpleQueue()
    holder = ctx.Process(target=stay, args=(precious, lock, ready, leave))
    victim = ctx.Process(target=wait_for_ever, args=(other, killed))
    holder.start()
    victim.start()
    check(ready.wait(20) and killed.get() == victim.pid)
    spare = [ctx.Queue() for _ in range(40)]
    check("DEAD" not in family(doctor())[str(holder.pid)])
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1, limits[1]))
    try:
        check(lock.acquire(timeout=1.2) is False, "a lock was taken from a living holder")
        spare.clear()
        for _ in range(2000):
            ctx.Array("i", [7] * 100)
        os.kill(victim.pid, signal.SIGKILL)
        check(select.select([victim.sentinel], [], [], 20)[0])
        text = doctor()
        check("DEAD" not in family(text)[str(holder.pid)], text)
        check(family(text)[str(os.getpid())] == "alive", "nobody judges itself:", text)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    victim.join()
    resource.setrlimit(resource.RLIMIT_NOFILE, (1, limits[1]))
    try:
        tells_of_a_death(other)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    leave.set()
    holder.join(20)
    check(holder.exitcode == 0, "exit code", holder.exitcode)
    precious.check()


# --- a child in a pid namespace of its own ---


def in_a_namespace(start: Callable[[], None]) -> bool:
    """Children that are started here are in another pid namespace, if this process may have one."""
    outer = os.open("/proc/self/ns/pid", os.O_RDONLY) if os.path.exists("/proc/self/ns/pid") else -1
    libc = ctypes.CDLL(None, use_errno=True)
    may = outer >= 0 and libc.unshare(CLONE_NEWPID) == 0
    start()
    if may:
        # The next ones are in ours again.
        check(libc.setns(outer, CLONE_NEWPID) == 0, os.strerror(ctypes.get_errno()))
    if outer >= 0:
        os.close(outer)
    return may


def start_inside(ctx: Any, process: Any) -> None:
    if ctx.get_start_method() == "forkserver":
        # A fork server is in the namespace of its parent, and so are its children.
        process.start()
    else:
        in_a_namespace(process.start)


def mount_own_proc() -> bool:
    """`/proc` shows this process's own pid namespace and no other from here on, if it may."""
    libc = ctypes.CDLL(None)
    private, recursive = 1 << 18, 1 << 14
    return (
        libc.unshare(CLONE_NEWNS) == 0
        and libc.mount(b"none", b"/", None, private | recursive, None) == 0
        and libc.mount(b"proc", b"/proc", b"proc", 0, None) == 0
    )


def init(precious: Precious, held: Any, mine: Any, ready: Any, leave: Any) -> None:
    if os.getpid() == 1:
        mount_own_proc()
    ctx = manyhands.get_context("fork")
    own = Precious(ctx)
    with mine:
        strain()
        check(held.acquire(timeout=1.2) is False, "a lock was taken from a living holder")
        known = family(doctor())
        check(not any("DEAD" in life for life in known.values()), known)
        check(known[str(os.getpid())] == "alive", known)
        ready.set()
        leave.wait()
        strain()
    own.check()
    precious.check()


def namespaces(ctx: Any) -> None:
    """A member in a pid namespace of its own and one outside of it take nothing from each other."""
    precious, held, mine = Precious(ctx), ctx.Lock(), ctx.Lock()
    ready, leave = ctx.Event(), ctx.Event()
    inner = ctx.Process(target=init, args=(precious, held, mine, ready, leave))
    with held:
        start_inside(ctx, inner)
        check(ready.wait(40), "exit code", inner.exitcode)
        strain()
        check(mine.acquire(timeout=1.2) is False, "a lock was taken from a living holder")
    known = family(doctor())
    check(not any("DEAD" in life for life in known.values()), doctor())
    leave.set()
    inner.join(40)
    check(inner.exitcode == 0, "exit code", inner.exitcode)
    check(mine.acquire(timeout=20))
    mine.release()
    # Its parent decides over one that is killed.
    killed = ctx.SimpleQueue()
    inner = ctx.Process(target=wait_for_ever, args=(mine, killed))
    start_inside(ctx, inner)
    killed.get()
    inner.kill()
    inner.join()
    tells_of_a_death(mine)
    strain()
    check(str(1) not in family(doctor()) or os.getpid() == 1, doctor())
    precious.check()


def namesakes(ctx: Any) -> None:
    """A parent that is the first process of its namespace, and a child that is of another: both have pid 1."""
    precious, ready, leave, lock = Precious(ctx), ctx.Event(), ctx.Event(), ctx.Lock()
    holder = ctx.Process(target=stay, args=(precious, lock, ready, leave))
    holder.start()
    check(ready.wait(20))
    with ctx.Pool(1) as pool:
        check(pool.apply(abs, (-3,)) == 3)

        def fork() -> None:
            pid = os.fork()
            if pid == 0:
                try:
                    # What the child lets go of is the parent's still: the slots, the pool and its workers.
                    holder._popen = None
                    try:
                        pool.terminate()
                    except RuntimeError:
                        strain()
                        os._exit(0)
                    os._exit(2)
                except BaseException:
                    traceback.print_exc()
                    os._exit(1)
            _, status = os.waitpid(pid, 0)
            check(status == 0, "status", status)

        in_a_namespace(fork)
        strain()
        check(pool.apply(abs, (-4,)) == 4)
        known = family(doctor())
        check("DEAD" not in known[str(holder.pid)], doctor())
    leave.set()
    holder.join(20)
    check(holder.exitcode == 0, "exit code", holder.exitcode)
    precious.check()


# --- a child whose clock is another ---


def give_children_another_clock() -> bool:
    """Children that are started from here on find that the machine has run half as long, if this may be."""
    if not os.path.lexists("/proc/self/timens_offsets") or ctypes.CDLL(None).unshare(CLONE_NEWTIME) != 0:
        return False
    Path("/proc/self/timens_offsets").write_text(
        f"boottime -{int(time.clock_gettime(time.CLOCK_BOOTTIME) / 2)} 0"
    )
    return True


def clocks(ctx: Any) -> None:
    """A member in a time namespace of its own seems to have been started long after it joined, or long before."""
    precious, lock, other = Precious(ctx), ctx.Lock(), ctx.Lock()
    ready, leave, done = ctx.Event(), ctx.Event(), ctx.Event()
    give_children_another_clock()
    holder = ctx.Process(target=stay, args=(precious, lock, ready, leave))
    holder.start()
    check(ready.wait(20))
    check(lock.acquire(timeout=1.2) is False, "a lock was taken from a living holder")
    check(not any("DEAD" in life for life in family(doctor()).values()), doctor())
    with other:
        # It takes this process, and the other child, for what they are.
        sweeper = ctx.Process(target=sweep_and_lock, args=(precious, other, ctx.RLock(), done))
        sweeper.start()
        sweeper.join(40)
        check(sweeper.exitcode == 0 and done.is_set(), "exit code", sweeper.exitcode)
    leave.set()
    holder.join(20)
    check(holder.exitcode == 0, "exit code", holder.exitcode)
    precious.check()


# --- a pid that is somebody else's by now ---


def pids(ctx: Any) -> None:
    """A member that nobody waits for is killed, and its pid is another process's: its slot and its lock come back."""
    lock, ready, told = ctx.Lock(), ctx.Queue(), ctx.SimpleQueue()
    check(ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0)
    parent = ctx.Process(target=start_and_die, args=(ctx, lock, ready, told))
    parent.start()
    orphaned = told.get()
    parent.kill()
    parent.join()
    for pid in orphaned:
        os.kill(pid, signal.SIGKILL)
        until(lambda pid=pid: gone(pid), "the end of", pid)
    # The clock that tells them apart ticks a hundred times a second.
    time.sleep(0.05)
    again = []
    # The first process of a namespace may say which pid comes next. Elsewhere nobody has these, for now.
    for pid in sorted(orphaned) if os.getpid() == 1 else []:
        Path("/proc/sys/kernel/ns_last_pid").write_text(str(pid - 1))
        again.append(subprocess.Popen(["sleep", "100"]))
        check(again[-1].pid == pid, again[-1].pid, pid)
    tells_of_a_death(lock)
    strain()
    check(not set(map(str, orphaned)) & set(family(doctor())), doctor())
    for other in again:
        other.kill()
        other.wait()


# --- a process whose first thread has ended ---


def write_on(lock: Any, beats: Any, ready: Any) -> None:
    with lock:
        ready.set()
        while True:
            with beats.get_lock():
                beats.value += 1
            time.sleep(0.01)


def end_the_first_thread(lock: Any, beats: Any, ready: Any) -> None:
    threading.Thread(target=write_on, args=(lock, beats, ready)).start()
    ready.wait()
    ctypes.CDLL(None).pthread_exit(None)


def first_thread_gone(ctx: Any) -> None:
    """It is alive to everybody: the doctor, who wants its lock, its parent."""
    lock, beats, ready = ctx.Lock(), ctx.Value("i", 0), ctx.Event()
    child = ctx.Process(target=end_the_first_thread, args=(lock, beats, ready))
    child.start()
    check(ready.wait(20))
    if os.path.lexists("/proc/self") and os.readlink("/proc/self") == str(os.getpid()):
        stat = Path(f"/proc/{child.pid}/stat")
        until(lambda: stat.read_text().rsplit(")", 1)[1].split()[0] == "Z", "the end of its first thread")
    check(lock.acquire(timeout=1.2) is False, "a lock was taken from a living holder")
    strain()
    before = beats.value
    until(lambda: beats.value > before, "it goes on")
    known = family(doctor())
    check("DEAD" not in known[str(child.pid)], known)
    check(child.is_alive())
    child.kill()
    child.join(20)
    check(child.exitcode == -signal.SIGKILL, child.exitcode)
    tells_of_a_death(lock)


SCENARIOS = {
    scenario.__name__: scenario
    for scenario in (
        strangers,
        orphans,
        inner_orphans,
        no_descriptors,
        namespaces,
        namesakes,
        clocks,
        pids,
        first_thread_gone,
    )
}

if __name__ == "__main__":
    # A scenario that hangs tells where.
    import faulthandler

    faulthandler.dump_traceback_later(50, exit=True)
    try:
        SCENARIOS[sys.argv[1]](manyhands.get_context(sys.argv[2]))
    except BaseException:
        traceback.print_exc()
        for left in manyhands.active_children():
            left.kill()
        sys.stderr.flush()
        os._exit(1)
    print("right")
