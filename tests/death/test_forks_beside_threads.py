"""A process that is forked while another thread uses something for the first time: it does not hang."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import sys, threading, time
import manyhands

under_way = threading.Event()


class Slow:
    # What another thread does once, and only it: import a module of ours.
    def find_spec(self, name, path=None, target=None):
        if name == WHAT and not under_way.is_set():
            under_way.set()
            time.sleep(0.5)


def slow_attribute(name):
    # Or look up what the pickler is made of.
    if not under_way.is_set():
        under_way.set()
        time.sleep(0.5)
    return KEPT[name]


class Own:
    pass


def send(queue):
    queue.put(Own())


def make():
    ctx.RawArray("i", 3)


KEPT, WHAT = {}, sys.argv[1]
ctx = manyhands.get_context("fork")
queue, other = ctx.Queue(), ctx.Queue()
if WHAT == "attribute":
    import manyhands._pickler as pickler

    KEPT["dump_into"] = pickler.dump_into
    del pickler.dump_into
    pickler.__getattr__ = slow_attribute
else:
    sys.meta_path.insert(0, Slow())
work = make if WHAT.endswith("sharedctypes") else lambda: send(other)
thread = threading.Thread(target=work)
thread.start()
assert under_way.wait(20), "it is used later than this test believes"
children = [ctx.Process(target=send, args=(queue,)), ctx.Process(target=make)]
for child in children:
    child.start()
for child in children:
    child.join(20)
    print(child.exitcode)
    child.kill()
thread.join()
"""


@pytest.mark.parametrize("what", ["attribute", "manyhands.sharedctypes"])
def test_a_child_is_not_stuck_in_another_threads_first_use(what: str) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, what], capture_output=True, text=True, timeout=55)
    assert (done.stdout, done.stderr) == ("0\n0\n", "")
