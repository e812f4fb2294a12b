"""How fast connections and queues are, beside the standard library's, size by size.

    python benches/channels.py                      # everything; a few minutes
    python benches/channels.py pipe --sizes 65536,262144 --ways send_bytes
    python benches/channels.py queue --crowds 1,8

Each implementation has a driver, a process of its own, so that neither lives with the other's memory. The drivers
take turns, one short round each, and what is shown are the medians of the rounds: messages a second, and their ratio
(above 1 ours is faster). Nothing is asserted: on a machine that does other work meanwhile the figures mean little.
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

IMPLEMENTATIONS = ("manyhands", "multiprocessing")
SIZES = [8 << step for step in range(0, 24, 2)] + [131_072, 262_144, 64 << 20]
WAYS = ("send_bytes", "send", "array", "into")
ROUND_SECONDS = 0.04


# --- what is measured ---


def made(way: str, size: int) -> Any:
    if way == "array":
        import numpy

        return numpy.ones(max(1, size // 8))
    return b"x" * size


def sender(connection: Any, way: str) -> Callable[[Any], None]:
    give: Callable[[Any], None] = connection.send_bytes if way in ("send_bytes", "into") else connection.send
    return give


def receiver(connection: Any, way: str, size: int) -> Callable[[], Any]:
    if way == "into":
        room = bytearray(size)
        return lambda: connection.recv_bytes_into(room)
    take: Callable[[], Any] = connection.recv_bytes if way == "send_bytes" else connection.recv
    return take


def serve(connection: Any, orders: Any) -> None:
    """The other end: sends so many messages, or sends back so many."""
    while (order := orders.recv()) is not None:
        way, size, count, answers = order
        give, take, message = sender(connection, way), receiver(connection, way, size), made(way, size)
        orders.send("ready")
        if answers:
            for _ in range(count):
                take()
                give(message)
        else:
            for _ in range(count):
                give(message)


class Pipes:
    """A connection of each kind, with a process at its other end."""

    def __init__(self, context: Any) -> None:
        self.context = context
        self.ends: dict[bool, tuple[Any, Any]] = {}

    def ends_of(self, duplex: bool) -> tuple[Any, Any]:
        if duplex not in self.ends:
            (near, far), (orders, taken) = self.context.Pipe(duplex), self.context.Pipe()
            self.context.Process(target=serve, args=(far, taken), daemon=True).start()
            self.ends[duplex] = near, orders
        return self.ends[duplex]

    def seconds(self, duplex: bool, way: str, size: int, count: int, answers: bool) -> float:
        connection, orders = self.ends_of(duplex)
        orders.send((way, size, count, answers))
        give, take, message = sender(connection, way), receiver(connection, way, size), made(way, size)
        orders.recv()
        began = time.perf_counter()
        for _ in range(count):
            if answers:
                give(message)
            take()
        return time.perf_counter() - began


def put_many(queue: Any, message: Any, count: int, gate: Any, report: Any) -> None:
    report.send("ready")
    gate.acquire()
    for _ in range(count):
        queue.put(message)


def get_many(queue: Any, count: int, gate: Any, report: Any) -> None:
    report.send("ready")
    gate.acquire()
    for _ in range(count):
        queue.get()
    report.send(time.monotonic())


class Queues:
    """A queue for each round, with so many processes that put and as many that get."""

    def __init__(self, context: Any) -> None:
        self.context = context

    def seconds(self, kind: str, size: int, crowd: int, count: int) -> float:
        queue, gate = getattr(self.context, kind)(), self.context.Semaphore(0)
        message = made("send_bytes", size) if size else 7
        processes, reports = [], []
        for target, arguments in ((get_many, ()), (put_many, (message,))):
            for _ in range(crowd):
                near, far = self.context.Pipe(False)
                reports.append(near)
                whole = (queue, *arguments, count // crowd, gate, far)
                processes.append(self.context.Process(target=target, args=whole, daemon=True))
                processes[-1].start()
        for report in reports:
            report.recv()
        began = time.monotonic()
        for _ in processes:
            gate.release()
        ended = max(report.recv() for report in reports[:crowd])
        for process in processes:
            process.join()
        return float(ended - began)


def drive(name: str) -> None:
    """A driver: does the rounds that it is told to, and says how long each took."""
    context = importlib.import_module(name).get_context("fork")
    benches = {"pipe": Pipes(context), "queue": Queues(context)}
    for line in sys.stdin:
        what, arguments = json.loads(line)
        print(benches[what].seconds(*arguments), flush=True)


# --- who drives the drivers ---


class Driver:
    """A process that measures one implementation."""

    def __init__(self, name: str) -> None:
        command = [sys.executable, __file__, "--drive", name]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def seconds(self, what: str, *arguments: object) -> float:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps((what, arguments)) + "\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())


def rates(drivers: list[Driver], rounds: int, least: int, one: Callable[[Driver, int], float]) -> list[float]:
    """Messages a second of each: medians of rounds in turns, long enough for the slowest."""
    count = least
    while (took := max(one(driver, count) for driver in drivers)) < ROUND_SECONDS and count < 1 << 17:
        count *= max(2, min(8, int(ROUND_SECONDS / took)))
    times: list[list[float]] = [[] for _ in drivers]
    for _ in range(rounds):
        for driver, kept in zip(drivers, times, strict=True):
            kept.append(one(driver, count))
    return [count / statistics.median(kept) for kept in times]


def pipe_rows(drivers: list[Driver], options: argparse.Namespace) -> Iterator[tuple[str, list[float]]]:
    for duplex in (True, False):
        for answers in (False, True) if duplex else (False,):
            for way in options.ways:
                for size in options.sizes:
                    kind = "round trip" if answers else "one way" if duplex else "one way, Pipe(False)"
                    yield (
                        f"{kind:20} {way:10} {size:>9,} B",
                        rates(
                            drivers,
                            options.rounds,
                            max(2, min(16, (64 << 20) // size)),
                            lambda driver, n, s=(duplex, way, size), a=answers: driver.seconds(
                                "pipe", *s, n, a
                            ),
                        ),
                    )


def queue_rows(drivers: list[Driver], options: argparse.Namespace) -> Iterator[tuple[str, list[float]]]:
    for kind in options.kinds:
        for size in options.queue_sizes:
            for crowd in options.crowds:
                what = f"{size:,} B" if size else "a number"
                yield (
                    f"{kind:13} {what:10} {crowd} to {crowd}",
                    [statistics.median(kept) for kept in queue_rounds(drivers, options, kind, size, crowd)],
                )


def queue_rounds(
    drivers: list[Driver], options: argparse.Namespace, kind: str, size: int, crowd: int
) -> list[list[float]]:
    """Messages a second of each, round by round; each driver passes as many as take long enough, starts included."""
    counts, kept = [], [[] for _ in drivers]
    for driver in drivers:
        count = crowd * 64
        while (took := driver.seconds("queue", kind, size, crowd, count)) < options.queue_seconds:
            count = crowd * int(count / crowd * min(8.0, max(1.5, options.queue_seconds / took * 1.1)))
        counts.append(count)
    for _ in range(options.rounds):
        for driver, count, rates_of in zip(drivers, counts, kept, strict=True):
            rates_of.append(count / driver.seconds("queue", kind, size, crowd, count))
    return kept


def numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", nargs="*", default=["pipe", "queue"])
    parser.add_argument("--drive", help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--sizes", type=numbers, default=sorted(set(SIZES)))
    parser.add_argument("--ways", type=lambda text: text.split(","), default=WAYS)
    parser.add_argument("--crowds", type=numbers, default=[1, 2, 4, 8, 16])
    parser.add_argument("--kinds", type=lambda text: text.split(","), default=["Queue", "SimpleQueue"])
    parser.add_argument("--queue-sizes", type=numbers, default=[0, 1024, 65536])
    parser.add_argument("--queue-seconds", type=float, default=0.3)
    options = parser.parse_args()
    if options.drive:
        drive(options.drive)
        return
    drivers = [Driver(name) for name in IMPLEMENTATIONS]
    print(f"{'':52}{'ours/s':>12}{'standard/s':>12}{'ratio':>7}")
    for what in options.what:
        for name, (ours, standard) in (pipe_rows if what == "pipe" else queue_rows)(drivers, options):
            print(f"{what:6}{name:46}{ours:12,.0f}{standard:12,.0f}{ours / standard:7.2f}", flush=True)


if __name__ == "__main__":
    main()
