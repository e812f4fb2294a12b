"""Counts the words of many files, one file a task: `Pool.map`.

The files are made here, so that the program runs anywhere; put your own folder in their place.
"""

from __future__ import annotations

import random
import re
import tempfile
from collections import Counter
from pathlib import Path

import manyhands

WORDS = ["many", "hands", "make", "light", "work", "and", "too", "many", "cooks", "spoil", "the", "broth"]


def write_texts(folder: Path, count: int, words_each: int) -> list[Path]:
    """Texts that are the same in every run."""
    chance = random.Random(7)
    paths = []
    for number in range(count):
        path = folder / f"text-{number:03}.txt"
        path.write_text(" ".join(chance.choices(WORDS, k=words_each)))
        paths.append(path)
    return paths


def count_words(path: Path) -> Counter[str]:
    """Runs in a worker: only the counts travel back, not the text."""
    return Counter(re.findall(r"[a-z]+", path.read_text().lower()))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        paths = write_texts(Path(folder), count=60, words_each=5_000)
        with manyhands.Pool() as pool:
            total = sum(pool.map(count_words, paths), Counter[str]())

    for word, count in total.most_common(5):
        print(f"{count:7,} {word}")
    print(f"{sum(total.values()):7,} in all")
    assert sum(total.values()) == 60 * 5_000


# A worker that is spawned imports this file: without this line it would start a pool of its own.
if __name__ == "__main__":
    main()
