"""Several processes write one journal of transfers under a lock; one is killed while it writes, and the others go on.

Each entry is two lines, so a writer that is killed between them leaves half an entry. Exactly one of the others is
told, puts the journal right under the lock, and writes on.
"""

from __future__ import annotations

import os
import signal
import tempfile
from pathlib import Path
from typing import Any

import manyhands

WRITERS = 4
ENTRIES = 50


def entry(journal: Path, writer: int, number: int, accident: Any = None) -> None:
    """Under the lock: one entry."""
    with journal.open("a") as file:
        file.write(f"begin {writer}.{number}\n")
        file.flush()
        if accident is not None:
            for _ in range(WRITERS - 1):
                accident.release()
            os.kill(os.getpid(), signal.SIGKILL)  # what the out-of-memory killer does
        file.write(f"end {writer}.{number}\n")


def drop_half_entries(journal: Path) -> list[str]:
    """Under the lock: removes entries that were begun and not ended, wherever they are; which ones."""
    lines = journal.read_text().splitlines()
    ended = {line.removeprefix("end ") for line in lines if line.startswith("end ")}
    half = [line.removeprefix("begin ") for line in lines if line.startswith("begin ")]
    half = [name for name in half if name not in ended]
    journal.write_text("".join(f"{line}\n" for line in lines if line.removeprefix("begin ") not in half))
    return half


def write(journal: Path, lock: Any, writer: int, accident: Any, repaired: Any) -> None:
    for number in range(ENTRIES):
        if number == 20 and writer > 0:
            accident.acquire()  # the others wait for the accident, which is what this program is about
        try:
            with lock:
                entry(journal, writer, number, accident if (writer, number) == (0, 20) else None)
        except manyhands.OwnerDied as death:
            # This process does not hold the lock now: it takes it, as another may have done meanwhile, and looks after
            # what the dead one has left.
            with lock:
                repaired.put((death.pid, drop_half_entries(journal)))
                entry(journal, writer, number)


def main() -> None:
    lock, accident, repaired = manyhands.Lock(), manyhands.Semaphore(0), manyhands.SimpleQueue()
    with tempfile.TemporaryDirectory() as folder:
        journal = Path(folder, "journal")
        journal.touch()
        writers = [
            manyhands.Process(target=write, args=(journal, lock, number, accident, repaired))
            for number in range(WRITERS)
        ]
        for process in writers:
            process.start()
        for process in writers:
            process.join()
        with lock:
            lines = journal.read_text().splitlines()

    pid, half = repaired.get()
    print(f"process {pid} was killed in the middle of entry {half[0]}; one process was told, and removed it")
    assert (pid, half) == (writers[0].pid, ["0.20"])
    assert repaired.empty()
    names = [line.split()[1] for line in lines]
    print(f"{len(names) // 2} entries by {WRITERS} processes, each with its beginning and its end")
    assert names[::2] == names[1::2]
    assert len(names) == 2 * ((WRITERS - 1) * ENTRIES + 20)


if __name__ == "__main__":
    main()
