"""Ctrl-C: SIGINT for every process of the foreground group at once. One traceback, and nobody is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import targets
import unruly
from processes import descendants, wait_gone, wait_until

LONG = 50.0

PROGRAM = """
import os, sys, time
import manyhands
import targets, unruly

def wait(pool, call):
    if call == "map":
        pool.map(targets.sleep, [600] * 4, 1)
    elif call == "map, busy":
        pool.map(unruly.count_for_ever, range(4), 1)
    elif call == "map, short items":
        while True:
            pool.map(targets.square, range(20_000))
    elif call == "imap":
        list(pool.imap(targets.sleep, [600] * 4))
    elif call == "imap of a generator":
        list(pool.imap(targets.sleep, (600 for _ in range(4))))
    elif call == "imap_unordered":
        list(pool.imap_unordered(targets.sleep, [600] * 4))
    elif call == "apply":
        pool.apply(targets.sleep, (600,))
    elif call == "get":
        pool.apply_async(targets.sleep, (600,), callback=print).get()
    elif call == "get, with a timeout":
        pool.map_async(targets.sleep, [600] * 4, 1).get(600)
    elif call == "join":
        pool.map_async(targets.sleep, [600] * 4, 1)
        pool.close()
        pool.join()
    elif call == "nothing":
        time.sleep(600)

if __name__ == "__main__":
    method, call, block = sys.argv[1:]
    pool = manyhands.get_context(method).Pool(2)
    pool.map(abs, range(10), 1)
    print("ready", flush=True)
    if block == "with":
        with pool:
            wait(pool, call)
    else:
        wait(pool, call)
"""

CALLS = [
    "map",
    "map, busy",
    "map, short items",
    "imap",
    "imap of a generator",
    "imap_unordered",
    "apply",
    "get",
    "get, with a timeout",
    "join",
    "nothing",
]


class Foreground:
    """A program in a process group of its own."""

    def __init__(self, folder: Path, text: str, *args: str) -> None:
        script = folder / "program.py"
        script.write_text(text)
        self.errors = folder / "errors"
        with self.errors.open("w") as errors:
            self.popen = subprocess.Popen(
                [sys.executable, str(script), *args],
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
                start_new_session=True,
                text=True,
            )

    def line(self) -> str:
        assert self.popen.stdout is not None
        return self.popen.stdout.readline().strip()

    def press_ctrl_c(self) -> None:
        os.killpg(self.popen.pid, signal.SIGINT)

    def end(self) -> tuple[float, str]:
        """How long it takes to be gone, and what it wrote as errors."""
        started = time.monotonic()
        self.popen.wait(LONG)
        took = time.monotonic() - started
        assert self.popen.stdout is not None
        self.popen.stdout.close()
        return took, self.errors.read_text()


def tracebacks(errors: str) -> int:
    """How many there are. What Ctrl-C interrupts may be the handling of an error, as in imports: those two are one."""
    chained = errors.count("During handling of the above exception, another exception occurred")
    return errors.count("Traceback (most recent call last)") - chained


@pytest.fixture
def sigint() -> Iterator[None]:
    """A shell has background jobs ignore SIGINT, and what they start inherits that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("block", ["with", "bare"])
@pytest.mark.parametrize("call", CALLS)
def test_ends_with_one_traceback(
    ctx: Any, tmp_path: Path, figure: Any, call: str, block: str, sigint: None
) -> None:
    program = Foreground(tmp_path, PROGRAM, ctx.get_start_method(), call, block)
    assert program.line() == "ready"
    # The main thread is in its call when its workers are at work, or a moment later.
    time.sleep(0.2)
    everybody = descendants(program.popen.pid)
    program.press_ctrl_c()
    took, errors = program.end()
    figure(f"gone after {took * 1000:.0f} ms")
    wait_gone(everybody)
    assert took < LONG
    assert program.popen.returncode == -signal.SIGINT
    assert tracebacks(errors) == 1, errors
    assert errors.count("KeyboardInterrupt") == 1, errors


@pytest.mark.parametrize("delay", [0.0, 0.02, 0.05, 0.1, 0.2])
def test_while_the_pool_starts(ctx: Any, tmp_path: Path, delay: float, sigint: None) -> None:
    text = PROGRAM.replace("    method, call", '    print("up", flush=True)\n    method, call')
    program = Foreground(tmp_path, text, ctx.get_start_method(), "map", "with")
    assert program.line() == "up"
    time.sleep(delay)
    everybody = descendants(program.popen.pid)
    program.press_ctrl_c()
    _, errors = program.end()
    wait_gone(everybody)
    assert program.popen.returncode == -signal.SIGINT
    assert tracebacks(errors) == 1, errors


SURVIVES = """
import os, sys, time
import manyhands
import targets

if __name__ == "__main__":
    pool = manyhands.get_context(sys.argv[1]).Pool(2)
    before = {process.pid for process in pool._pool}
    pool.map(abs, range(10), 1)
    for call in (lambda: pool.map(targets.sleep, [600, 600], 1), lambda: time.sleep(600)):
        try:
            print("ready", flush=True)
            call()
        except KeyboardInterrupt:
            print("interrupted", flush=True)
    print(pool.map(abs, [-1, -2], 1), before == {process.pid for process in pool._pool}, flush=True)
    pool.close()
    pool.join()
"""


def test_a_program_that_goes_on_keeps_its_workers(ctx: Any, tmp_path: Path, sigint: None) -> None:
    program = Foreground(tmp_path, SURVIVES, ctx.get_start_method())
    for _ in range(2):
        assert program.line() == "ready"
        time.sleep(0.3)
        program.press_ctrl_c()
        assert program.line() == "interrupted"
    assert program.line() == "[1, 2] True"
    _, errors = program.end()
    assert errors == ""


def test_workers_have_the_standard_handler(ctx: Any, sigint: None) -> None:
    with ctx.Pool(1) as pool:
        handler, blocked = pool.apply(unruly.sigint_handler)
        assert "default_int_handler" in handler
        assert not blocked
        assert pool.apply(unruly.interrupt_self) == "interrupted"
        process = ctx.Process(target=targets.nothing)
        process.start()
        process.join()
        assert process.exitcode == 0


def test_other_processes_have_it_too(ctx: Any, sigint: None) -> None:
    # Started when a pool had started the fork server.
    with ctx.Pool(1):
        ready = ctx.Event()
        process = ctx.Process(target=unruly.wait_to_be_interrupted, args=(ready,))
        process.start()
        assert ready.wait(LONG)
        wait_until(lambda: _interrupted(process), LONG)
    assert process.exitcode == 9


def _interrupted(process: Any) -> bool:
    os.kill(process.pid, signal.SIGINT)
    process.join(0.2)
    return process.exitcode is not None
