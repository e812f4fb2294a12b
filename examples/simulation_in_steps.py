"""A simulation in steps: workers share a ring of cells, and a barrier keeps them together.

Heat spreads over a ring of cells. Each worker has a part of the ring and needs its neighbours' last cells, so nobody
may begin a step before everybody has finished the last one. Between two steps one of them, any one, runs the barrier's
action: it adds up what is there and counts the step.

Then one worker is killed in the middle, while the others wait. They notice, and get a BrokenBarrierError instead of
waiting for ever.
"""

import os
import signal
from threading import BrokenBarrierError

import manyhands as multiprocessing

CELLS, WORKERS, STEPS = 240, 3, 200


class Ring:
    """Two generations of cells, and how many steps are done."""

    def __init__(self, killed_at):
        self.killed_at = killed_at
        self.cells = [multiprocessing.RawArray("d", CELLS) for _ in range(2)]
        self.cells[0][0] = 1000.0
        self.steps = multiprocessing.RawValue("i", 0)

    def finish_step(self):
        """The barrier's action: one worker runs it while the others wait."""
        heat = sum(self.cells[(self.steps.value + 1) % 2])
        assert abs(heat - 1000.0) < 1e-6, f"{heat} of 1000 left"
        self.steps.value += 1
        if self.steps.value == self.killed_at:
            os.kill(os.getpid(), signal.SIGKILL)


def work(ring, barrier, worker, results):
    size = CELLS // WORKERS
    try:
        while ring.steps.value < STEPS:
            old, new = ring.cells[ring.steps.value % 2], ring.cells[(ring.steps.value + 1) % 2]
            for i in range(worker * size, (worker + 1) * size):
                new[i] = old[i] / 2 + (old[i - 1] + old[(i + 1) % CELLS]) / 4
            barrier.wait()
        results.put(f"worker {worker}: {ring.steps.value} steps")
    except BrokenBarrierError:
        results.put(f"worker {worker}: stopped at step {ring.steps.value}, somebody is missing")


def run(killed_at=None):
    ring, results = Ring(killed_at), multiprocessing.Queue()
    barrier = multiprocessing.Barrier(WORKERS, ring.finish_step)
    workers = [multiprocessing.Process(target=work, args=(ring, barrier, n, results)) for n in range(WORKERS)]
    for process in workers:
        process.start()
    for process in workers:
        process.join()
    told = [results.get() for process in workers if process.exitcode == 0]
    print(*sorted(told), sep="\n")
    return told


if __name__ == "__main__":
    print("All go to the end:")
    assert len(run()) == WORKERS
    print("One is killed:")
    assert len(run(killed_at=50)) == WORKERS - 1
