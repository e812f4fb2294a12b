"""Heat that spreads over a plate: a pool works on one shared grid in place, and nothing is copied to or from it.

Only the row numbers travel with each task; the grid itself goes as a handle, however large it is. With numpy,
`numpy.asarray(grid)` would be the same memory.
"""

from __future__ import annotations

import manyhands

ROWS, COLUMNS, STEPS, PARTS = 66, 64, 20, 4


def spread(old: manyhands.SharedArray, new: manyhands.SharedArray, first: int, end: int) -> float:
    """One step for some of the rows: each point becomes the mean of its neighbours. The largest change."""
    before, after = memoryview(old), memoryview(new)
    largest = 0.0
    for row in range(first, end):
        for column in range(1, COLUMNS - 1):
            sides = before[row, column - 1] + before[row, column + 1]
            after[row, column] = (sides + before[row - 1, column] + before[row + 1, column]) / 4
            largest = max(largest, abs(after[row, column] - before[row, column]))
    return largest


def main() -> None:
    grids = [manyhands.SharedArray((ROWS, COLUMNS), "float64") for _ in range(2)]
    for grid in grids:
        view = memoryview(grid)
        for column in range(COLUMNS):
            view[0, column] = 100.0
    rows = (ROWS - 2) // PARTS
    with manyhands.Pool(2) as pool:
        for step in range(STEPS):
            old, new = grids[step % 2], grids[1 - step % 2]
            parts = [(old, new, 1 + part * rows, 1 + (part + 1) * rows) for part in range(PARTS)]
            largest = max(pool.starmap(spread, parts, chunksize=1))
    warm = sum(value > 1 for value in memoryview(new).cast("B").cast("d"))
    print(
        f"after {STEPS} steps {warm} of {ROWS * COLUMNS} points are warm; the last changed {largest:.2f} at most"
    )
    assert memoryview(new)[1, 30] > memoryview(new)[5, 30] > memoryview(new)[20, 30]


if __name__ == "__main__":
    main()
