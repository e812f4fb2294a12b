"""A worker is killed in the middle of a job, as by the out-of-memory killer; the job goes on.

Exactly the item that was being worked on is lost, and is named.
"""

from __future__ import annotations

import os
import signal

import manyhands

DEADLY = 13


def decode(image: int) -> str:
    """Stands for a call into a C library that one of the inputs brings down."""
    if image == DEADLY:
        os.kill(os.getpid(), signal.SIGKILL)
    return f"image {image}: {image * image} pixels"


def main() -> None:
    images = range(200)
    done, lost = [], []
    with manyhands.Pool(2) as pool:
        results = pool.imap_unordered(decode, images)
        while True:
            try:
                done.append(next(results))
            except StopIteration:
                break
            except manyhands.WorkerDied as death:
                # `item` is the place in `images`: enough to put it aside, or to try it again.
                lost.append(images[death.item])
                print(f"image {lost[-1]} was lost: process {death.pid} died of {death.signal}")
        # The worker was replaced: the pool is as good as before.
        assert pool.map(decode, [1, 2, 3]) == [f"image {n}: {n * n} pixels" for n in (1, 2, 3)]

    print(f"{len(done)} of {len(images)} images done")
    assert lost == [DEADLY]
    assert len(done) == len(images) - 1


if __name__ == "__main__":
    main()
