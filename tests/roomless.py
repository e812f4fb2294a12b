"""A process that has hardly any address space left; see `death/test_no_room.py`."""

from __future__ import annotations

import resource
from typing import Any

#: What it may have beyond what it has.
ROOM_BYTES = 8 << 20


def address_space() -> int:
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmSize"))


def tell(back: Any, call: Any) -> None:
    try:
        back.put(("got", len(call())))
    except BaseException as error:
        back.put((type(error).__name__, str(error)))


def receive(queue: Any, back: Any, begin: Any, many: bool) -> None:
    """Tries to get a message without room for it, twice, then with room."""
    import numpy  # noqa: F401  # so that it is there already

    def get() -> Any:
        return queue.get_many(timeout=20)[0] if many else queue.get(timeout=20)

    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    begin.wait()
    resource.setrlimit(resource.RLIMIT_AS, (address_space() + ROOM_BYTES, hard))
    tell(back, get)
    tell(back, get)
    back.put(queue.qsize())
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
    tell(back, get)


def open_array(pickled: bytes, back: Any, begin: Any) -> None:
    """Tries to open what it was told of without room for it, then with room."""
    import pickle

    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    begin.wait()
    resource.setrlimit(resource.RLIMIT_AS, (address_space() + ROOM_BYTES, hard))
    tell(back, lambda: pickle.loads(pickled))
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
    tell(back, lambda: pickle.loads(pickled))
