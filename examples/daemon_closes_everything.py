"""A daemon closes every descriptor that it inherited, opens its log file, and goes on with the queues it was given.

That is how daemons have begun for forty years. It closes the descriptors of libraries as well, and what is opened next
gets their numbers. manyhands writes to nothing by a number that may be somebody else's by now: the log holds what was
written to it, and the orders arrive.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import manyhands


def serve(orders: Any, done: Any, log_path: str) -> None:
    """The daemon: takes orders until there is a `None`, and keeps a log."""
    os.setsid()
    os.closerange(3, 1024)
    with open(log_path, "w") as log:
        for name, picture in iter(orders.get, None):
            # Large messages use fresh shared memory, small ones the memory that is there.
            log.write(f"{name}: {len(picture)} bytes\n")
            done.put((name, bytes(reversed(picture))))


def main() -> None:
    pictures = {f"picture {n}": os.urandom(10 ** (n % 7)) for n in range(14)}
    orders, done = manyhands.Queue(), manyhands.Queue()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "daemon.log"
        daemon = manyhands.Process(target=serve, args=(orders, done, str(log)))
        daemon.start()
        for order in pictures.items():
            orders.put(order)
        orders.put(None)
        for name, picture in pictures.items():
            assert done.get() == (name, bytes(reversed(picture)))
        daemon.join()
        lines = log.read_text().splitlines()
    assert daemon.exitcode == 0
    assert lines == [f"{name}: {len(picture)} bytes" for name, picture in pictures.items()]
    print(f"{len(lines)} orders served, and the log is what was written to it")


if __name__ == "__main__":
    main()
