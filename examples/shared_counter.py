"""One counter and many processes: with its lock, without one, and what `+=` alone would do.

`counter.value += 1` reads and writes, and both are safe, but between them others may count. So either the lock is held
around both, or the counting is one step: `fetch_add`.
"""

from __future__ import annotations

import manyhands as multiprocessing

TIMES = 5_000


def with_the_lock(counter) -> None:
    for _ in range(TIMES):
        with counter.get_lock():
            counter.value += 1


def in_one_step(counter) -> None:
    for _ in range(TIMES):
        counter.fetch_add(1)


def take_tickets(next_ticket, taken) -> None:
    """Each ticket goes to one process: an array, and a number that says how far it is given out."""
    while (ticket := next_ticket.fetch_add(1)) < len(taken):
        taken[ticket] += 1


def run(target, *args) -> None:
    children = [multiprocessing.Process(target=target, args=args) for _ in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join()


def main() -> None:
    for count in (with_the_lock, in_one_step):
        counter = multiprocessing.Value("q", 0)
        run(count, counter)
        print(f"{count.__name__}: {counter.value}")
        assert counter.value == 3 * TIMES

    next_ticket, taken = multiprocessing.Value("i", 0), multiprocessing.Array("i", 1_000)
    run(take_tickets, next_ticket, taken)
    print(f"{sum(taken[:])} tickets, each taken once: {set(taken[:]) == {1}}")
    assert set(taken[:]) == {1}


if __name__ == "__main__":
    main()
