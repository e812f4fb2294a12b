"""Forks beside other threads' forks, beside full memory, without room, refused, and under every resource tracker.

Programs of their own: they fill the family's memory, lower limits and register hooks, which nobody can take back.
"""

from __future__ import annotations

import os
import subprocess
import sys
from multiprocessing.context import BaseContext
from pathlib import Path

import pytest


def run(program: str, *arguments: str, **variables: str) -> str:
    """What the program has written; it must have ended by itself, and well."""
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, *arguments],
        capture_output=True,
        text=True,
        timeout=150,
        env=os.environ | variables,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


SEVERAL_THREADS = """
import gc, os, signal, sys, threading, time
import manyhands

signal.alarm(120)
sys.unraisablehook = lambda unraisable: None
context = manyhands.get_context("fork")
queue, lock, value = context.Queue(), context.Lock(), context.Value("l", 7)
counts = {"starts": 0, "forks": 0, "rounds": 0, "nested": 0}
wrong, local, parent = [], threading.local(), os.getpid()

def use_everything():
    signal.alarm(60)
    try:
        own = context.SimpleQueue()
        for number in range(3):
            own.put((os.getpid(), number, b"z" * 3000))
            assert own.get()[:2] == (os.getpid(), number)
        with lock:
            assert value.value == 7
        queue.put(os.getpid())
        return 0
    except BaseException as error:
        os.write(1, f"{type(error).__name__}: {error}\\n".encode())
        return 1

def child(answers, data):
    if use_everything():
        sys.exit(1)
    answers.put((os.getpid(), data))

def start_one(data):
    answers = context.SimpleQueue()
    process = context.Process(target=child, args=(answers, data))
    process.start()
    process.join()
    if process.exitcode:
        wrong.append(f"exit code {process.exitcode}")
    elif answers.empty() or answers.get() != (process.pid, data):
        wrong.append("another's answer")

def fork_one():
    pid = os.fork()
    if pid == 0:
        os._exit(use_everything())
    if os.waitpid(pid, 0)[1]:
        wrong.append("a child of os.fork")

def let_others_run():
    time.sleep(0.001)

def begin_more():
    if os.getpid() == parent and not getattr(local, "nested", False) and counts["forks"] % 8 == 3:
        local.nested = True
        try:
            start_one(b"nested")
            fork_one()
            counts["nested"] += 1
        finally:
            local.nested = False

def fail():
    raise ValueError("of a hook")

for hook in (let_others_run, begin_more, fail, let_others_run):
    os.register_at_fork(before=hook)

def starter():
    while not over.is_set():
        start_one(os.urandom(2000))
        counts["starts"] += 1

def forker():
    while not over.is_set():
        fork_one()
        counts["forks"] += 1

def user():
    number = 0
    while not over.is_set():
        number += 1
        own, array = context.Queue(), context.RawArray("l", 10)
        own.put(b"a" * 200_000)
        with context.Lock():
            array[3] = number
        if len(own.get()) != 200_000 or array[3] != number:
            wrong.append("a value")
        while not queue.empty():
            queue.get()
        counts["rounds"] += 1

over = threading.Event()
threads = [threading.Thread(target=target) for target in (starter, starter, forker, user)]
for thread in threads:
    thread.start()
time.sleep(3)
over.set()
for thread in threads:
    thread.join()
print(wrong, all(counts.values()))
"""


@pytest.mark.deadline(200)
def test_each_thread_forks_its_own_children_whatever_hooks_do() -> None:
    """They let other threads run, raise, start processes and fork themselves."""
    assert run(SEVERAL_THREADS) == "[] True\n"


FULL = """
import gc, os, signal
import manyhands

signal.alarm(120)
context = manyhands.get_context("fork")
queue, lock, condition = context.SimpleQueue(), context.Lock(), context.Condition()
semaphore, event, barrier = context.Semaphore(1), context.Event(), context.Barrier(1)
value, array = context.Value("l", 11), context.RawArray("l", [1, 2, 3])
queue.put("mine")
process = context.Process(target=int)
process.start()
process.join()

def fill():
    filled = []
    makers = [lambda: filled[0].put(b"x" * 3000)]
    filled.append(context.Queue())
    kinds = (context.SimpleQueue, context.Event, context.Lock, context.Semaphore, context.Condition)
    makers += [lambda kind=kind: filled.append(kind()) for kind in kinds]
    makers += [lambda: filled.append(context.RawValue("i")), lambda: filled.append(context.Barrier(2))]
    for maker in makers:
        try:
            while True:
                maker()
        except MemoryError:
            pass
    return filled

def empty(filled):
    while not filled[0].empty():
        filled[0].get()
    filled.clear()
    gc.collect()

def children():
    return open(f"/proc/self/task/{os.getpid()}/children").read().split()

filled = fill()
"""

START = """
descriptors = len(os.listdir("/proc/self/fd"))
for _ in range(30):
    try:
        context.Process(target=os._exit, args=(3,)).start()
        print("started")
    except MemoryError:
        pass
try:
    context.Pool(2)
    print("a pool")
except MemoryError:
    pass
print(children(), len(os.listdir("/proc/self/fd")) - descriptors)
empty(filled)
answers = context.SimpleQueue()
process = context.Process(target=lambda: answers.put((queue.get(), value.value)))
process.start()
process.join()
print(process.exitcode, answers.get())
"""

FORK = """
uses = {
    "queue": lambda: queue.get(), "length": lambda: queue.empty(), "lock": lambda: lock.acquire(timeout=3),
    "condition": lambda: condition.acquire(timeout=3), "barrier": lambda: barrier.wait(3),
    "semaphore": lambda: semaphore.acquire(timeout=3), "release": lambda: semaphore.release(),
    "event": lambda: event.set(), "value": lambda: value.value,
}
go, told = os.pipe(), os.pipe()
pid = os.fork()
if pid == 0:
    def told_of(use):
        try:
            use()
            return "used"
        except (MemoryError, OSError) as error:
            return f"{type(error).__name__}: {error}"
    array[0] += 100
    refused = {told_of(use) for use in uses.values()}
    os.write(told[1], b"!")
    os.read(go[0], 1)
    gone = {told_of(use) for use in uses.values()}
    print(*sorted(refused), sep="\\n")
    print(*sorted(gone), sep="\\n")
    print(list(array), array is not None, flush=True)
    os._exit(0)
os.read(told[0], 1)
print(list(array), flush=True)
del queue, lock, condition, barrier, semaphore, event, value, array, uses
empty(filled)
new, values, events = [], [], []
for made, make in ((new, context.SimpleQueue), (values, lambda: context.RawValue("l", 5)), (events, context.Event)):
    try:
        for _ in range(50):
            made.append(make())
    except MemoryError:
        pass
for each in new:
    each.put("new")
os.write(go[1], b"!")
assert os.waitpid(pid, 0)[1] == 0
untouched = {each.value for each in values} <= {5} and not any(each.is_set() for each in events)
print(len(new) > 3, {each.get() for each in new}, untouched)
"""


@pytest.mark.deadline(200)
def test_a_start_beside_full_memory_fails_before_anything_is_forked() -> None:
    """And leaves nothing behind: processes, descriptors, references."""
    assert run(FULL + START, MANYHANDS_ARENA_MAX="64M") == "[] 0\n0 ('mine', 11)\n"


@pytest.mark.deadline(200)
def test_a_child_of_os_fork_beside_full_memory_is_told_what_it_does_not_hold() -> None:
    """At each use, by an error; it never gets what another object has in the same place. Raw memory stays."""
    assert run(FULL + FORK, MANYHANDS_ARENA_MAX="64M").splitlines() == [
        "[101, 2, 3]",
        "MemoryError: this process was forked without a reference to it, and there is no shared memory left for one",
        "OSError: [Errno 9] it no longer exists: this process was forked without a reference to it, "
        "and nobody holds it any more",
        "[101, 2, 3] True",
        "True {'new'} True",
    ]


ASKS_LATER = """
go, told = os.pipe(), os.pipe()
pid = os.fork()
if pid == 0:
    os.read(go[0], 1)
    print(queue.get(), value.value, lock.acquire(timeout=3), flush=True)
    os.write(told[1], b"!")
    os.read(go[0], 1)
    # The parent has dropped them meanwhile.
    queue.put("still there")
    print(queue.get(), value.value, flush=True)
    os._exit(0)
empty(filled)
os.write(go[1], b"!")
os.read(told[0], 1)
del queue, value, lock
gc.collect()
others = [context.SimpleQueue() for _ in range(3)]
os.write(go[1], b"!")
print(os.waitpid(pid, 0)[1], [other.empty() for other in others])
"""


@pytest.mark.deadline(200)
def test_what_the_parent_still_has_a_child_gets_when_there_is_memory_again() -> None:
    expected = "mine 11 True\nstill there 11\n0 [True, True, True]\n"
    assert run(FULL + ASKS_LATER, MANYHANDS_ARENA_MAX="64M") == expected


NO_HOOKS = """
import ctypes, os
import manyhands

context = manyhands.get_context("fork")
queue, lock, semaphore = context.Queue(), context.Lock(), context.Semaphore(1)
with lock, semaphore:
    pid = ctypes.PyDLL(None).fork()
    if pid == 0:
        taken = lock.acquire(False), semaphore.acquire(False)
        queue.put((os.getpid(), taken))
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    print(queue.get() == (pid, (False, False)))
"""


def test_a_fork_that_python_does_not_know_of() -> None:
    assert run(NO_HOOKS) == "True\n"


NO_ROOM = """
import os, resource, signal, sys
import manyhands

def leave_a_mark(path):
    with open(path, "a") as file:
        file.write("ran ")

if __name__ == "__main__":
    signal.alarm(140)
    method, path = sys.argv[1:]
    context = manyhands.get_context(method)
    process = context.Process(target=int)
    process.start()
    process.join()
    process.close()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    before = len(os.listdir("/proc/self/fd"))
    succeeded = set()
    for room in range(10):
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
        taken = []
        try:
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            pass
        for descriptor in taken[:room]:
            os.close(descriptor)
        process, refused = context.Process(target=leave_a_mark, args=(path,)), None
        try:
            process.start()
        except OSError as error:
            refused = error.errno
        for descriptor in taken[room:]:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        if refused is None:
            process.join()
            process.close()
            succeeded.add(room)
        # The next child of the same server would have run after one that a failed start has left.
        process = context.Process(target=int)
        process.start()
        process.join()
        process.close()
        text = open(path).read() if os.path.exists(path) else ""
        children = open(f"/proc/self/task/{os.getpid()}/children").read().split()
        states = {open(f"/proc/{child}/stat").read().rpartition(")")[2].split()[0] for child in children}
        assert text.count("ran") == len(succeeded) and "Z" not in states, (room, refused, text, states)
    print(len(succeeded) > 1, len(os.listdir("/proc/self/fd")) - before)
"""


@pytest.mark.deadline(200)
def test_a_start_without_room_for_descriptors_fails_whole_or_not_at_all(
    ctx: BaseContext, tmp_path: Path
) -> None:
    program = tmp_path / "program.py"
    program.write_text(NO_ROOM)
    ended = subprocess.run(
        [sys.executable, str(program), str(ctx.get_start_method()), str(tmp_path / "mark")],
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert (ended.stdout, ended.stderr) == ("True 0\n", "")


REFUSED = """
import os, resource, sys
import manyhands
from manyhands import _manyhands

context = manyhands.get_context("fork")
queue = context.Queue()
process = context.Process(target=int)
process.start()
process.join()
process.close()
fork, before = os.fork, len(os.listdir("/proc/self/fd"))

def refuse():
    raise BlockingIOError(11, "Resource temporarily unavailable")

def refused(start):
    try:
        start()
    except BlockingIOError as error:
        return str(error)

def start():
    context.Process(target=os._exit, args=(3,)).start()

os.fork = refuse
texts = {refused(start) for _ in range(5000)}
os.fork = fork
if os.getuid() == 0:
    # Root may have as many processes as it likes.
    os.setuid(65533)
    resource.setrlimit(resource.RLIMIT_NPROC, (0, resource.getrlimit(resource.RLIMIT_NPROC)[1]))
    texts |= {refused(start) for _ in range(5000)} | {refused(os.fork) for _ in range(5000)}
    resource.setrlimit(resource.RLIMIT_NPROC, (resource.getrlimit(resource.RLIMIT_NPROC)[1],) * 2)
print(texts, len(os.listdir("/proc/self/fd")) - before)
process = context.Process(target=queue.put, args=("started",))
process.start()
process.join()
print(process.exitcode, queue.get())
"""


@pytest.mark.deadline(200)
def test_a_fork_that_the_system_refuses_leaves_nothing() -> None:
    """More of them than a family can have members: each place is given back."""
    expected = "{'[Errno 11] Resource temporarily unavailable'} 0\n0 started\n"
    assert run(REFUSED) == expected


ANOTHERS_FORK = """
import os
import manyhands

fork, context = os.fork, manyhands.get_context("fork")

def wrapped():
    return fork()

os.fork = wrapped
queue = context.Queue()
process = context.Process(target=lambda: queue.put("from a wrapped fork"))
process.start()
process.join()
print(process.exitcode, queue.get())
"""


def test_a_fork_that_somebody_has_wrapped() -> None:
    assert run(ANOTHERS_FORK) == "0 from a wrapped fork\n"


TRACKER = """
import os, signal, threading
import manyhands, manyhands.futures
from multiprocessing import resource_tracker

# As those of 3.13.18 and later; older ones do not ask.
intent = resource_tracker._fork_intent = getattr(resource_tracker, "_fork_intent", threading.local())
seen = os.pipe()

def look():
    os.write(seen[1], str(int(getattr(intent, "preserve_fd", False))).encode())

os.register_at_fork(after_in_child=look, after_in_parent=look)

def told(processes=2):
    return sorted(os.read(seen[0], 1).decode() for _ in range(processes))

context = manyhands.get_context("fork")
process = context.Process(target=int)
process.start()
process.join()
print(told(), getattr(intent, "preserve_fd", False))
pid = os.fork()
if pid == 0:
    os._exit(0)
os.waitpid(pid, 0)
print(told())

def fork_in_it():
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)

process = context.Process(target=fork_in_it)
process.start()
process.join()
print(told(4))
with context.Pool(1) as pool:
    print(told())
    old = pool.apply(os.getpid)
    os.kill(old, signal.SIGKILL)
    assert pool.apply_async(os.getpid).get(30) != old
    print(told())
with manyhands.futures.ProcessPoolExecutor(1, mp_context=context) as executor:
    executor.submit(int).result()
    print(told())
"""


def test_the_resource_tracker_is_told_of_forks_that_make_processes() -> None:
    """Or it would take each child for a program of its own, and destroy what that has opened when it ends."""
    one = ["1", "1"]
    expected = [f"{one} False", "['0', '0']", "['0', '0', '1', '1']", f"{one}", f"{one}", f"{one}"]
    assert run(TRACKER).splitlines() == expected
