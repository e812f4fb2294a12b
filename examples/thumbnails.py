"""Thumbnails of a folder of pictures, each shown as soon as it is ready; a broken picture costs only itself.

One file is cut short, which the function notices and raises. Another brings its whole process down, as a bug in an
image library does.
"""

from __future__ import annotations

import os
import signal
import tempfile
from concurrent.futures import as_completed
from pathlib import Path

import manyhands

SIDE, THUMB = 64, 8


def thumbnail(path: Path) -> bytes:
    """A grey picture (PGM) of 64 by 64 pixels, made 8 by 8: the mean of each square."""
    header, pixels = path.read_bytes().split(b"\n255\n", 1)
    if len(pixels) != SIDE * SIDE:
        raise ValueError(f"{path.name}: {len(pixels)} pixels of {SIDE * SIDE}")
    if b"bomb" in header:
        os.kill(os.getpid(), signal.SIGSEGV)
    step = SIDE // THUMB
    squares = (
        [pixels[(y + dy) * SIDE + x + dx] for dy in range(step) for dx in range(step)]
        for y in range(0, SIDE, step)
        for x in range(0, SIDE, step)
    )
    return bytes(sum(square) // len(square) for square in squares)


def draw(folder: Path, number: int) -> Path:
    """A picture to begin with."""
    comment = b"# bomb\n" if number == 11 else b""
    pixels = bytes((x * number + y) % 256 for y in range(SIDE) for x in range(SIDE))
    path = folder / f"picture{number:02}.pgm"
    path.write_bytes(b"P5\n" + comment + b"64 64\n255\n" + (pixels[:100] if number == 7 else pixels))
    return path


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        paths = [draw(Path(folder), number) for number in range(20)]
        done, failed = {}, {}
        with manyhands.ProcessPoolExecutor(2) as executor:
            futures = {executor.submit(thumbnail, path): path.name for path in paths}
            for future in as_completed(futures):
                name = futures[future]
                try:
                    done[name] = future.result()
                except manyhands.WorkerDied as death:
                    failed[name] = f"its process was killed by {death.signal}"
                except ValueError as error:
                    failed[name] = str(error)

    for name, why in sorted(failed.items()):
        print(f"no thumbnail of {name}: {why}")
    print(f"{len(done)} thumbnails")
    assert sorted(failed) == ["picture07.pgm", "picture11.pgm"]
    assert all(len(picture) == THUMB * THUMB for picture in done.values())


if __name__ == "__main__":
    main()
