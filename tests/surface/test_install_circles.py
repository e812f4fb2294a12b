"""Under install, what a process is given may lead back to the process, which is of the standard library's class."""

from __future__ import annotations

from pathlib import Path

import pytest
from scripts import run

METHODS = ["fork", "forkserver", "spawn"]

pytestmark = pytest.mark.deadline(90)

PROGRAM = """
import multiprocessing as mp
import sys


class Server:
    def __init__(self, ctx):
        self.process = ctx.Process(target=self.serve, name="server")

    def serve(self):
        assert mp.current_process() is self.process
        assert self.process.name == "server", self.process.name


class Crew:
    def __init__(self):
        self.workers = []

    def begin(self, ctx):
        self.workers += [ctx.Process(target=self.work, args=(each,), name=f"w{each}") for each in range(3)]
        return self.workers[1]

    def work(self, number):
        assert mp.current_process() is self.workers[number]
        assert [each.name for each in self.workers] == ["w0", "w1", "w2"]
        assert self.workers[0]._target.__self__ is self


class Call:
    def __init__(self, call):
        self.call = call


class Boxed:
    def __init__(self, ctx):
        self.process = ctx.Process(target=called, args=(Call(self.run),))

    def run(self):
        assert mp.current_process() is self.process


def called(call):
    call.call()


def held(holder, me):
    assert holder["process"] is mp.current_process() is me[0]


def finish(process):
    process.start()
    process.join()
    assert process.exitcode == 0, process.exitcode


if __name__ == "__main__":
    ctx = mp if sys.argv[2] == "default" else mp.get_context(sys.argv[1])
    if ctx is mp:
        mp.set_start_method(sys.argv[1])
    finish(Server(ctx).process)
    finish(Crew().begin(ctx))
    finish(Boxed(ctx).process)
    holder, me = {}, []
    holder["process"] = ctx.Process(target=held, args=(holder, me))
    me.append(holder["process"])
    finish(holder["process"])
    cell = []
    cell.append(ctx.Process(target=lambda: held({"process": cell[0]}, cell)) if IS_LAUNCHED else holder["process"])
    if IS_LAUNCHED:
        finish(cell[0])
    print("well")
"""


@pytest.mark.parametrize("context", ["default", "of-its-own"])
@pytest.mark.parametrize("method", METHODS)
def test_a_process_that_its_target_leads_back_to(method: str, context: str, tmp_path: Path) -> None:
    run(tmp_path, PROGRAM.replace("IS_LAUNCHED", "True"), method, context, launched=True)


@pytest.mark.parametrize("method", METHODS)
def test_it_is_as_in_the_standard_library(method: str, tmp_path: Path) -> None:
    run(tmp_path, PROGRAM.replace("IS_LAUNCHED", "False"), method, "default")
