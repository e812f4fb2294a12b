"""Objects that have an executor or a pool, to which what they give it leads back; importable by spawned children."""

from __future__ import annotations

import os
import time
from typing import Any


class Holder:
    """Pickled, it is empty: only here does it lead back."""

    def __init__(self) -> None:
        self.has: Any = None
        self.told: list[Any] = []

    def ready(self, *_arguments: Any) -> None:
        os.environ["MADE_READY"] = "yes"

    def tell(self, result: Any) -> None:
        self.told.append(result)

    def __getstate__(self) -> dict[str, Any]:
        return {}


def ready(*_arguments: Any) -> None:
    os.environ["MADE_READY"] = "yes"


def is_ready(_item: object = None) -> bool:
    time.sleep(0.05)
    return "MADE_READY" in os.environ


def dies_first(path: str) -> bool:
    """Once."""
    if not os.path.exists(path):
        open(path, "w").close()
        os._exit(3)
    return is_ready()
