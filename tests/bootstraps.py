"""Process classes that take over their life, importable by spawned children."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import manyhands

METHODS = ["fork", "forkserver", "spawn"]


def classes_of(package: Any) -> dict[tuple[str, str], Any]:
    """For each start method one whose override takes what it gets, and one that takes positional arguments alone."""
    made = {}
    for method in METHODS:
        base = package.get_context(method).Process

        class Any_(base):  # type: ignore[misc, valid-type]
            def __init__(self, said: Path) -> None:
                super().__init__()
                self.said = said

            def _bootstrap(self, *arguments: Any, **named: Any) -> int:
                self.text = f"{len(arguments)} {list(named)}"
                return int(super()._bootstrap(*arguments, **named))

            def run(self) -> None:
                self.said.write_text(f"{self.text} run")

        class Positional(Any_):
            def _bootstrap(self, *arguments: Any) -> int:
                return int(super()._bootstrap(*arguments))

        for kind in (Any_, Positional):
            name = f"{package.__name__}_{method}_{kind.__name__}"
            kind.__name__ = kind.__qualname__ = name
            globals()[name] = kind
        made[method, "Any"] = Any_
        made[method, "Positional"] = Positional
    return made


OURS = classes_of(manyhands)
STANDARD = classes_of(multiprocessing)
