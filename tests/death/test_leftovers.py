"""What members that are killed have held in shared memory comes back.

`MANYHANDS_LEFTOVERS` says how many members are killed (520 in `make proofs`); about 200 queues, pools and messages that
carry queues are made and dropped for each.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

KILLS = int(os.environ.get("MANYHANDS_LEFTOVERS", "12"))

PROGRAM = """
import gc, json, os, random, re, signal, sys, time

import manyhands


def held():
    gc.collect()
    return int(re.search(r"in ([0-9]+) held block", manyhands.doctor()).group(1))


def hoard(home, seed):
    # Until it is killed: queues, queues in queues, long messages, messages in queues that only messages hold.
    rng = random.Random(seed)
    ctx = manyhands.get_context("fork")
    mine = []
    while True:
        queue = ctx.SimpleQueue() if rng.random() < 0.5 else ctx.Queue()
        if mine:
            queue.put((rng.choice(mine), bytes(rng.choice((10, 20_000, 300_000)))))
        if rng.random() < 0.2:
            queue.put(home)
        if rng.random() < 0.1:
            home.put(queue)
        mine.append(queue)
        if len(mine) > 50:
            del mine[rng.randrange(50)]


def wait_long(item):
    time.sleep(100)


def make_and_drop(ctx, rng):
    kept = []
    for _ in range(190):
        queue = ctx.SimpleQueue()
        queue.put([kept[-1], bytes(9_000)] if kept and rng.random() < 0.3 else 1)
        kept.append(queue)
        if len(kept) > 8:
            kept.pop(rng.randrange(8))
    return 190


def main(method, kills):
    ctx, rng = manyhands.get_context(method), random.Random(5)
    # What is there once and stays: the fork server, say.
    ctx.Process(target=int).start()
    before, made, pools = held(), 0, 0
    for number in range(kills):
        home = ctx.Queue()
        child = ctx.Process(target=hoard, args=(home, number))
        child.start()
        made += make_and_drop(ctx, rng)
        time.sleep(rng.random() * 0.01)
        if number % 10 == 0:
            with ctx.Pool(2) as pool:
                pool.apply_async(wait_long, (home,))
                pool.map(bytes, [20_000] * 20)
                os.kill(pool._pool[number // 10 % 2].pid, signal.SIGKILL)
                pool.apply(int)
            pools += 1
        child.kill()
        child.join()
        while not home.empty():
            made += home.get() is not None
        del home, child
    # A sweep follows some deaths, not each: the larger the arena, the fewer.
    for _ in range(8):
        last = ctx.Process(target=hoard, args=(ctx.Queue(), 0))
        last.start()
        last.kill()
        last.join()
        del last
    print(json.dumps({"before": before, "after": held(), "made": made + pools, "killed": kills + pools + 8}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
"""


def test_killed_members_leave_nothing_behind(ctx: Any, tmp_path: Path, figure: Callable[[str], None]) -> None:
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, str(script), ctx.get_start_method(), str(KILLS)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60 + 2 * KILLS,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    figure(f"{found['made']} queues, pools and messages made and dropped, {found['killed']} members killed")
    assert found["after"] == found["before"], found
