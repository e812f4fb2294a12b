"""A worker has a pool of its own: folders side by side, and the files of each folder side by side.

The standard library refuses this, because the inner workers would outlive the outer one if it were killed. Here they
end with it.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import manyhands


def count_lines(file: Path) -> int:
    return len(file.read_text().splitlines())


def survey(folder: Path) -> tuple[str, int]:
    """In a worker of the outer pool."""
    with manyhands.Pool(2) as inner:
        return folder.name, sum(inner.map(count_lines, sorted(folder.iterdir())))


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folders = [Path(name, f"chapter {n}") for n in range(4)]
        for number, folder in enumerate(folders):
            folder.mkdir()
            for page in range(5):
                Path(folder, f"page {page}").write_text("a line\n" * (number + page))

        with manyhands.Pool(2) as outer:
            for title, lines in outer.imap(survey, folders):
                print(f"{title}: {lines} lines")
            assert dict(outer.map(survey, folders)) == {f"chapter {n}": 5 * n + 10 for n in range(4)}


if __name__ == "__main__":
    main()
