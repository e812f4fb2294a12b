"""Smooths many images: arrays as items and results of a pool, and rows of one array that all workers write into.

Needs numpy. The images are made here, so that the program runs anywhere.
"""

from __future__ import annotations

import manyhands
import numpy
from numpy.typing import NDArray

Image = NDArray[numpy.float32]

SIDE = 512
COUNT = 24


def make_image(number: int) -> Image:
    """A noisy picture, the same in every run."""
    return numpy.random.default_rng(number).random((SIDE, SIDE), dtype=numpy.float32)


def smooth(image: Image) -> Image:
    """Runs in a worker. The image lies in shared memory that is this worker's alone: it may be written to."""
    for axis in (0, 1):
        image += numpy.roll(image, 1, axis)
        image /= 2
    return image


def smooth_row(job: tuple[Image, Image]) -> None:
    """Runs in a worker, on memory that all processes share: nothing is sent back."""
    source, target = job
    target[:] = (source + numpy.roll(source, 1)) / 2


def main() -> None:
    images = [make_image(number) for number in range(COUNT)]
    with manyhands.Pool(4) as pool:
        # Each image is copied once, into shared memory, and each result once on its way back.
        smoothed = pool.map(smooth, images)
        print(
            f"{COUNT} images of {images[0].nbytes >> 20} MiB: noise {spread(images)} before, {spread(smoothed)} after"
        )
        # What was sent is not what the workers have changed.
        assert all((image == make_image(number)).all() for number, image in enumerate(images))

        # Made in shared memory, these are sent by reference: no row is copied, in neither direction.
        source, target = manyhands.asarray(images[0]), manyhands.empty((SIDE, SIDE), numpy.float32)
        pool.map(smooth_row, zip(source, target, strict=True))
    print(f"{SIDE} rows in place: noise {spread([source])} before, {spread([target])} after")
    assert numpy.allclose(target, (source + numpy.roll(source, 1, axis=1)) / 2)


def spread(images: list[Image]) -> str:
    return f"{numpy.mean([image.std() for image in images]):.3f}"


# A worker that is spawned imports this file: without this line it would start a pool of its own.
if __name__ == "__main__":
    main()
