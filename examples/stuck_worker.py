"""A program is stuck, and `python -m manyhands doctor` says why: a worker waits in a queue that nobody fills.

Whoever meets such a program knows its process id and nothing else. The doctor is another process; it disturbs nothing.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import Any

import manyhands


def pack_orders(orders: Any, parcels: Any) -> None:
    """Takes orders until there is a `None`."""
    for order in iter(orders.get, None):
        parcels.put(f"parcel for {order}")


def look_into(pid: int) -> str:
    """What a colleague would type in another terminal."""
    command = [sys.executable, "-m", "manyhands", "doctor", str(pid), "--once"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def main() -> None:
    orders, parcels = manyhands.Queue(), manyhands.Queue()
    packer = manyhands.Process(target=pack_orders, args=(orders, parcels), name="Packer")
    packer.start()
    orders.put("Ada")
    assert parcels.get() == "parcel for Ada"

    # The mistake: the program forgot the `None`, and waits for the packer to end.
    packer.join(timeout=0.5)
    assert packer.is_alive(), "it is stuck"

    # The packer may be just about to sleep.
    deadline = time.monotonic() + 20
    report = look_into(os.getpid())
    while "s for a message in queue 1, without a time limit" not in report and time.monotonic() < deadline:
        report = look_into(os.getpid())
    print(report)
    assert f"process {packer.pid} waits for a message" in report

    # What was missing.
    orders.put(None)
    packer.join()
    assert packer.exitcode == 0


if __name__ == "__main__":
    main()
