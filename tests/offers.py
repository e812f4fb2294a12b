"""What the tests of descriptors in messages run in other processes."""

from __future__ import annotations

from typing import Any


def say_hello(q: Any, back: Any) -> None:
    conn = q.get()
    conn.send("hello")
    conn.close()
    back.put("done")


def take(conn: Any, _more: Any = None) -> str:
    conn.send("hello")
    conn.close()
    return "done"


def tell(conn: Any, item: int) -> int:
    conn.send(item)
    return item


class Refuses:
    def __reduce__(self) -> Any:
        raise KeyError("refused")
