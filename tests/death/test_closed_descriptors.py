"""Other code closes all descriptors, as daemons do, and opens files of its own under their numbers (issue 11)."""

from __future__ import annotations

import os
import subprocess
import sys
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

import pytest
import strangers

SUM = sum(strangers.SIZES)


def run(ctx: BaseContext, kind: str, *options: str) -> dict[str, str]:
    """What the program in `strangers` says of each step."""
    done = subprocess.run(
        [sys.executable, strangers.__file__, ctx.get_start_method(), kind, *options],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines.pop() == "untouched", done.stdout + done.stderr
    names = strangers.Program.steps(object.__new__(strangers.Program))
    return {name: line[len(name) + 1 :] for name, line in zip(names, lines, strict=True)}


#: What a process does with the memory that it has mapped, with processes that it has started, and by fork.
WITHOUT_DESCRIPTORS = {
    "queue": str([*strangers.SIZES, 70 * strangers.MIB]),
    "ends": "(True, True)",
    "lock": "None",
    "barrier": "0",
    "old process": "0",
    "old daemon": "True",
    "user's fork": str(strangers.MIB),
    "close": "None",
    "drop": "None",
}
#: What starts a process.
STARTS = {
    "old pool": str([7] * 10),
    "old executor": "7",
    "start": str((0, SUM)),
    "terminate": "-15",
    "new pool": "[7, 7, 7]",
}


@pytest.mark.deadline(240)
@pytest.mark.methods("fork")
@pytest.mark.parametrize("kind", ["pipe", "written", "eventfd"])
def test_other_kinds_of_things_too(ctx: Any, kind: str) -> None:
    assert run(ctx, kind) == {**WITHOUT_DESCRIPTORS, **STARTS}


@pytest.mark.deadline(240)
@pytest.mark.parametrize("kind", ["file", "socket", "pidfd", "closed"])
def test_what_is_the_users_stays_as_it_is_and_work_goes_on(ctx: Any, kind: str) -> None:
    said = run(ctx, kind)
    assert {name: said[name] for name in WITHOUT_DESCRIPTORS} == WITHOUT_DESCRIPTORS
    if ctx.get_start_method() == "fork":
        assert {name: said[name] for name in STARTS} == STARTS
    else:
        # An administrator's process has the memory's descriptor anew; others say what has happened.
        for name, right in STARTS.items():
            assert said[name] == right or "closed the descriptor of manyhands' shared memory" in said[name]


@pytest.mark.deadline(240)
@pytest.mark.methods("spawn", "forkserver")
def test_a_start_without_the_memory_s_descriptor_is_one_clear_error(ctx: Any) -> None:
    said = run(ctx, "file", "bare")
    assert {name: said[name] for name in WITHOUT_DESCRIPTORS} == WITHOUT_DESCRIPTORS
    for name in STARTS:
        assert "closed the descriptor of manyhands' shared memory, as os.closerange does" in said[name]
        assert said[name].startswith(("OSError [Errno 9]", "BrokenProcessPool")), said[name]


PROGRAM = """
import os, sys
import strangers

if __name__ == "__main__":
    import manyhands
    ctx = manyhands.get_context(sys.argv[1])
{body}
"""


def run_program(tmp_path: Path, ctx: BaseContext, body: str) -> str:
    script = tmp_path / "program.py"
    script.write_text(PROGRAM.format(body="\n".join(f"    {line}" for line in body.splitlines())))
    done = subprocess.run(
        [sys.executable, str(script), ctx.get_start_method()],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.methods("spawn", "forkserver")
def test_another_member_s_descriptor_of_the_memory_will_do(ctx: Any, tmp_path: Path) -> None:
    body = """
strangers.give_up_privileges()
event, began = ctx.Event(), ctx.Event()
forked = manyhands.get_context("fork").Process(target=strangers.say_so_and_wait_for, args=(event, began))
forked.start()
# It is a member of the family only now.
began.wait(20)
os.closerange(3, strangers.OUT_OF_REACH)
queue = ctx.Queue()
process = ctx.Process(target=strangers.put_each_size, args=(queue,))
process.start()
print(sum(len(queue.get(timeout=20)) for _ in strangers.SIZES))
event.set()
for each in (process, forked):
    each.join()
    print(each.exitcode)
"""
    assert run_program(tmp_path, ctx, body).split() == [str(SUM), "0", "0"]


ARRAYS = """
import numpy, signal
queue = ctx.Queue()

def received(fill):
    queue.put(numpy.full(1 << 20, fill, dtype=numpy.int64))
    return queue.get(timeout=20)

def child_sees_and_writes(array):
    pid = os.fork()
    if pid == 0:
        same = bool((array == array[0]).all())
        array[:] = 99
        os._exit(0 if same else 1)
    assert os.waitpid(pid, 0)[1] == 0

CLOSE
arrays = [received(fill) for fill in range(4)]
for _ in range(2):
    for fill, array in enumerate(arrays):
        child_sees_and_writes(array)
        assert (array == fill).all()
        array += 10
        assert (array == fill + 10).all()
        array -= 10
del arrays, array
# What is used next in these places is shared again.
again = ctx.Queue()
process = ctx.Process(target=strangers.put_each_size, args=(again,))
process.start()
assert all(again.get(timeout=20) == bytes(size) for size in strangers.SIZES)
process.join()
for fill in range(8):
    assert (received(fill) == fill).all()
print("done")
"""

CLOSES = {
    "open": "",
    "closed": "os.closerange(3, strangers.OUT_OF_REACH)",
    "reused": """
numbers = [int(name) for name in os.listdir("/proc/self/fd") if int(name) > 2]
users = strangers.Stranger("file")
os.closerange(3, strangers.OUT_OF_REACH)
for number in numbers:
    os.dup2(users.descriptor, number, inheritable=False)
""",
}


@pytest.mark.methods("fork")
@pytest.mark.parametrize("bare", [False, True], ids=["", "bare"])
@pytest.mark.parametrize("way", CLOSES)
def test_received_arrays_stay_the_process_s_own_over_a_fork(
    ctx: Any, tmp_path: Path, way: str, bare: bool
) -> None:
    first = "strangers.give_up_privileges()\n" if bare else ""
    assert run_program(tmp_path, ctx, first + ARRAYS.replace("CLOSE", CLOSES[way])) == "done\n"


TAKES_ALL = """
def take_all(kind):
    numbers = [int(name) for name in os.listdir("/proc/self/fd") if int(name) > 2]
    users = [strangers.Stranger(kind) for _ in numbers]
    os.closerange(3, strangers.OUT_OF_REACH)
    for number, stranger in zip(numbers, users):
        stranger.take(number)
    return users

def check(users):
    for stranger in users:
        stranger.check()
"""

IN_A_REQUEST = """
import ctypes, signal, threading, time

def take_all_at_once(kind):
    # Without the interpreter's lock changing hands: a number that another thread has just got from the kernel, and
    # that is then made the user's here, is closed by that thread, whatever its code is.
    numbers = [int(name) for name in os.listdir("/proc/self/fd") if int(name) > 2]
    users = [strangers.Stranger(kind) for _ in numbers]
    held = ctypes.PyDLL(None)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    for number in range(3, strangers.OUT_OF_REACH):
        held.close(number)
    for number, stranger in zip(numbers, users):
        held.dup3(stranger.descriptor, number, os.O_CLOEXEC)
    sys.setswitchinterval(interval)
    for number, stranger in zip(numbers, users):
        stranger.take(number)
    return users

def polls(thread):
    with open(f"/proc/self/task/{thread.native_id}/wchan") as file:
        return "poll" in file.read()

import manyhands.forkserver
forkserver = manyhands.forkserver._forkserver
forkserver.ensure_running()
if UP:
    first = ctx.Process(target=strangers.seven)
    first.start()
    first.join()
    del first
server = forkserver._forkserver_pid
os.kill(server, signal.SIGSTOP)
said = []

def start():
    process = ctx.Process(target=strangers.seven)
    try:
        process.start()
        process.join(30)
        said.append(process.exitcode)
    except OSError as error:
        said.append(str(error))

starter = threading.Thread(target=start)
starter.start()
while forkserver._lock.acquire(blocking=False):
    forkserver._lock.release()
    time.sleep(0.01)
while not polls(starter):
    time.sleep(0.01)
users = take_all_at_once(KIND)
starter.join(40)
check(users)
assert not starter.is_alive(), "it waits for ever"
del starter
forkserver._stop()
check(users)
for stranger in users:
    stranger.end()
try:
    os.kill(server, signal.SIGCONT)
except ProcessLookupError:
    pass
print(said[0])
"""


@pytest.mark.methods("forkserver")
@pytest.mark.parametrize("up", [True, False], ids=["up", "coming-up"])
@pytest.mark.parametrize("kind", ["file", "socket", "pidfd"])
def test_a_start_that_waits_for_a_stopped_server(ctx: Any, tmp_path: Path, kind: str, up: bool) -> None:
    """Its channel, its socket and what it knows the server by are lost meanwhile."""
    body = IN_A_REQUEST.replace("KIND", repr(kind)).replace("UP", repr(up))
    said = run_program(tmp_path, ctx, TAKES_ALL + body).strip()
    # An administrator's process has the memory's descriptor anew, and a new server.
    assert said == "0" or "other code of this program has closed" in said or "closed the descriptor" in said


GONE = """
import signal
signal.signal(signal.SIGCHLD, lambda *_: os.waitpid(-1, os.WNOHANG))
gone = []
while len(gone) < 3:
    process = ctx.Process(target=strangers.seven)
    process.start()
    gone.append(process)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
users = take_all("pipe")
for process in gone:
    process.join(20)
    print(process.exitcode)
check(users)
del process
gone.clear()
check(users)
for stranger in users:
    stranger.end()
"""


@pytest.mark.methods("fork")
def test_children_that_others_have_reaped_have_ended(ctx: Any, tmp_path: Path) -> None:
    assert run_program(tmp_path, ctx, TAKES_ALL + GONE).split() == ["0"] * 3


def test_a_child_that_is_passed_a_user_s_file_says_so_and_leaves_it(tmp_path: Path) -> None:
    """As when another thread closes and opens between the look and the start."""
    import manyhands._manyhands as extension

    path = tmp_path / "precious"
    path.write_bytes(b"D" * (128 << 20))
    code = "import sys; from manyhands import _manyhands as m; m.join_family(int(sys.argv[1]), 1)"
    with path.open("r+b") as file:
        done = subprocess.run(
            [sys.executable, "-c", code, str(file.fileno())],
            pass_fds=[file.fileno()],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            timeout=50,
        )
        assert not extension.is_notebook(file.fileno())
    assert done.returncode == 1
    assert "RuntimeError" in done.stderr
    assert path.read_bytes() == b"D" * (128 << 20)
