"""What raises an exception that is no `Exception`, wherever it is touched; importable by spawned children."""

from __future__ import annotations

from typing import Any


class Ends(BaseException):
    pass


KINDS: dict[str, type[BaseException]] = {
    "interrupt": KeyboardInterrupt,
    "exit": SystemExit,
    "generator": GeneratorExit,
    "own": Ends,
}


def _raise(kind: str) -> Any:
    raise KINDS[kind](f"of a {kind}")


class WhenPickled:
    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __reduce__(self) -> Any:
        _raise(self.kind)


class WhenUnpickled:
    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __reduce__(self) -> Any:
        return _raise, (self.kind,)


class WhenGivenItsState:
    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __setstate__(self, state: dict[str, Any]) -> None:
        _raise(state["kind"])


class ErrorWhenPickled(Exception):
    def __reduce__(self) -> Any:
        _raise(self.args[0])


class ErrorWhenUnpickled(Exception):
    def __reduce__(self) -> Any:
        return _raise, (self.args[0],)


class ErrorWhenShown(Exception):
    def __str__(self) -> str:
        _raise(self.args[0])
        return ""

    __repr__ = __str__


RESULTS: dict[str, Any] = {
    "pickled": WhenPickled,
    "unpickled": WhenUnpickled,
    "state": WhenGivenItsState,
}
ERRORS: dict[str, Any] = {
    "pickled": ErrorWhenPickled,
    "unpickled": ErrorWhenUnpickled,
    "shown": ErrorWhenShown,
}


def returns(when: str, kind: str) -> Any:
    return RESULTS[when](kind)


def raises(when: str, kind: str) -> Any:
    raise ERRORS[when](kind)


def raises_itself(kind: str) -> Any:
    _raise(kind)


class Callback:
    """Notes that it was called, and raises."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.calls = 0

    def __call__(self, _result: object) -> None:
        self.calls += 1
        _raise(self.kind)
