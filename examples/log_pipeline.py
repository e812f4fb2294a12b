"""A log pipeline: lines go to workers a hundred at a time, what they find is summed up, and one worker is killed.

`put_many` and `get_many` move many small items under one lock and with one wake. `join` returns when everything that
was put was dealt with; what the killed worker had taken and not said to be done with is put again. `shutdown` then
sends everybody home: no worker needs a `None` that says so.
"""

import os
import signal
from collections import Counter

import manyhands as multiprocessing
from manyhands.queues import ShutDown

LEVELS = ["INFO", "WARNING", "ERROR", "INFO", "INFO"]
LINES = 20_000
SHARE = 100


def lines():
    for number in range(LINES):
        yield f"12:{number // 60 % 60:02}:{number % 60:02} {LEVELS[number % 5]} request {number} took {number % 97} ms"


def work(todo, found, in_hand, unlucky):
    """Counts levels and slow requests, and says which shares it has taken."""
    while True:
        try:
            shares = todo.get_many(4)
        except ShutDown:
            return
        for number, _ in shares:
            in_hand[number] = os.getpid()
        for number, share in shares:
            if number == unlucky:
                os.kill(os.getpid(), signal.SIGKILL)
            counts = Counter(line.split()[1] for line in share)
            counts["slow"] = sum(int(line.split()[-2]) > 90 for line in share)
            found.put((number, counts))
            todo.task_done()


def main() -> None:
    everything = list(lines())
    shares = [(start // SHARE, everything[start : start + SHARE]) for start in range(0, LINES, SHARE)]
    todo, found = multiprocessing.JoinableQueue(), multiprocessing.Queue()
    in_hand = multiprocessing.Array("i", len(shares), lock=False)

    todo.put_many(shares)
    # The first worker is killed at the tenth share, unless the others are faster.
    unlucky = multiprocessing.Process(target=work, args=(todo, found, in_hand, 10))
    workers = [
        unlucky,
        *(multiprocessing.Process(target=work, args=(todo, found, in_hand, None)) for _ in "ab"),
    ]
    for worker in workers:
        worker.start()

    answers = {}
    while len(answers) < len(shares):
        try:
            answers.update(found.get_many(timeout=0.2))
        except multiprocessing.queues.Empty:
            again = [
                share for share in shares if share[0] not in answers and in_hand[share[0]] == unlucky.pid
            ]
            if unlucky.exitcode is None or not again:
                continue
            print(f"worker {unlucky.pid} was killed: {len(again)} shares that it had taken are put again")
            for _ in again:
                todo.task_done()
            todo.put_many(again)
    todo.join()
    todo.shutdown()
    for worker in workers:
        worker.join()

    total = sum(answers.values(), Counter())
    print(dict(total))
    assert total["INFO"] == LINES * 3 // 5
    assert total["slow"] == sum(number % 97 > 90 for number in range(LINES))


if __name__ == "__main__":
    main()
