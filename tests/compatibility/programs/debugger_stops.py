"""A breakpoint in a function that only children run stops them, whatever the start method, in a real debugger."""

from __future__ import annotations

from pathlib import Path

import pytest
from debugger import Debugger

PROGRAM = """
import multiprocessing as mp
import os
import sys

def work(number):
    doubled = 2 * number  # the breakpoint
    print("worked", os.getpid(), doubled, flush=True)
    return doubled

def processes(ctx):
    for number in range(2):
        process = ctx.Process(target=work, args=(number,))
        process.start()
        process.join()
        assert process.exitcode == 0, process.exitcode

def pool(ctx):
    with ctx.Pool(2) as pool:
        assert pool.map(work, range(4), 1) == [0, 2, 4, 6]
        pool.close()
        pool.join()

def nested(ctx):
    process = ctx.Process(target=processes, args=(ctx,))
    process.start()
    process.join()
    assert process.exitcode == 0, process.exitcode

if __name__ == "__main__":
    globals()[sys.argv[2]](mp.get_context(sys.argv[1]))
    print("all done", os.getpid(), flush=True)
"""

LINE = 1 + PROGRAM.splitlines().index("    doubled = 2 * number  # the breakpoint")


@pytest.mark.parametrize(("way", "stops"), [("processes", 2), ("pool", 4), ("nested", 2)])
@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_a_breakpoint_stops_children(tmp_path: Path, method: str, way: str, stops: int) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    debugger = Debugger(program, LINE, [method, way])
    debugger.run(60)
    worked = {int(line.split()[1]) for line in debugger.output.splitlines() if line.startswith("worked")}
    assert "all done" in debugger.output, debugger.output
    assert [(stop.function, stop.line) for stop in debugger.stops] == [("work", LINE)] * stops
    assert {stop.pid for stop in debugger.stops} == worked
