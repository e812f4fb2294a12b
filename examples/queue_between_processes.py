"""Processes in a row, with queues between them: one reads log lines, two parse them, one adds up.

Each queue ends with one `None` for each process that takes from it.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import manyhands

LINES = 3_000
PARSERS = 2


def read_log(lines: Any) -> None:
    """Stands for a file that grows, or a socket."""
    for number in range(LINES):
        status = 500 if number % 100 == 7 else 404 if number % 10 == 3 else 200
        lines.put(f"10.0.0.{number % 250} GET /page/{number % 17} {status} {number % 90}ms")
    for _ in range(PARSERS):
        lines.put(None)


def parse(lines: Any, requests: Any) -> None:
    """From text to what is of interest in it."""
    while (line := lines.get()) is not None:
        address, _method, path, status, duration = line.split()
        requests.put({"from": address, "path": path, "status": int(status), "ms": int(duration[:-2])})
    requests.put(None)


def main() -> None:
    # A bound: a reader that is faster than the parsers waits for them, and does not fill the memory.
    lines = manyhands.Queue(maxsize=500)
    requests = manyhands.Queue()
    processes = [manyhands.Process(target=read_log, args=(lines,), name="reader")]
    processes += [
        manyhands.Process(target=parse, args=(lines, requests), name=f"parser {number}")
        for number in range(PARSERS)
    ]
    for process in processes:
        process.start()

    by_status: Counter[int] = Counter()
    slowest = {"ms": -1}
    running = PARSERS
    while running:
        request = requests.get()
        if request is None:
            running -= 1
            continue
        by_status[request["status"]] += 1
        slowest = max(slowest, request, key=lambda each: each["ms"])

    for process in processes:
        process.join()
        print(f"{process.name}: exit code {process.exitcode}")
    for status, count in sorted(by_status.items()):
        print(f"{status}: {count}")
    print(f"slowest: {slowest['ms']} ms")
    assert sum(by_status.values()) == LINES
    assert by_status[500] == LINES // 100


if __name__ == "__main__":
    main()
