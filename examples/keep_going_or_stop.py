"""Some inputs are bad. Either keep what the others give, or stop at the first bad one: two arguments of `map`."""

from __future__ import annotations

import time

import manyhands

LINES = [f"{n}" for n in range(300)]
LINES[17] = "seventeen"
LINES[170] = ""


def parse(line: str) -> int:
    time.sleep(0.002)
    return int(line)


def main() -> None:
    with manyhands.Pool(2) as pool:
        # Exceptions take the places of the items that failed: nothing of the rest is lost.
        numbers = pool.map(parse, LINES, return_exceptions=True)
        bad = {place: result for place, result in enumerate(numbers) if isinstance(result, Exception)}
        for place, error in bad.items():
            print(f"line {place}: {error}")
        assert sorted(bad) == [17, 170]
        assert sum(n for n in numbers if isinstance(n, int)) == sum(range(300)) - 17 - 170

        # The first failure ends it: what was not begun by then is not begun any more.
        started = time.monotonic()
        try:
            pool.map(parse, LINES * 20, chunksize=1, fail_fast=True)
        except ValueError as error:
            print(f"stopped after {time.monotonic() - started:.1f} s instead of 6: {error}")
        else:
            raise AssertionError("the bad line was not noticed")


if __name__ == "__main__":
    main()
