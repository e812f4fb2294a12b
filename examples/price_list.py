"""A data script: prices are converted, filtered and counted in worker processes by lambdas and closures.

Run it: ``python examples/price_list.py``. The workers are fresh interpreters ("spawn"): nothing of this process is
copied into them, and what has no name of its own travels by value. With the standard library's multiprocessing the
first call of `map` raises "Can't pickle".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import manyhands


@dataclass
class Item:
    name: str
    euros: float


ITEMS = [Item(f"item {number}", number * 2.5) for number in range(1, 101)]


def converter(rate: float, currency: str) -> Callable[[Item], str]:
    """A closure: a function that remembers a rate and a currency."""

    def convert(item: Item) -> str:
        return f"{item.name}: {item.euros * rate:.2f} {currency}"

    return convert


def main() -> None:
    limit = 200
    with manyhands.get_context("spawn").Pool(2) as pool:
        lines = pool.map(converter(1.25, "dollars"), ITEMS)
        print("the first:", lines[0])

        dear = pool.map(lambda item: item.euros > limit, ITEMS)
        print(f"dearer than {limit} euros:", sum(dear))

        # A result may be a function, too.
        discount = pool.apply(lambda percent: lambda item: item.euros * (1 - percent / 100), (10,))
        print("the last, 10 % off:", discount(ITEMS[-1]))

        # Classes of a script keep their identity: what comes back is an Item.
        half = pool.map(lambda item: Item(item.name, item.euros / 2), ITEMS[:3])
        print("halved:", half, all(isinstance(item, Item) for item in half))


if __name__ == "__main__":
    main()
