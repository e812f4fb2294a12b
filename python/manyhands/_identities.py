"""Which function or class of this process is the one that a message means.

Used by `_by_value`. Each function or class that travels by value has a *token*: some bytes that the process gives it
which sends it first, and that stay with it wherever it goes. So a later message, and the way back, meet it again.
A token that a receiver has not met may yet mean an object that it has, because it ran the same module or is a fork of
the process that has: `Header` says by what it is recognised. There is no lock, because what runs meanwhile may be code
of the user's: each step is one operation on a dictionary, and two threads that make the same class agree on the first.
"""

from __future__ import annotations

import importlib
import os
import sys
import types
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from . import _fingerprints, _pickler, _unguarded

__all__ = [
    "Header",
    "Record",
    "find_class",
    "find_function",
    "header_of",
    "is_another",
    "known_by",
    "note_received",
    "note_variable",
    "record_of",
    "tokens_of",
]


class Header(NamedTuple):
    """What a message says of a function or class before it says what it is made of."""

    #: The object's own, and others that it is known by.
    tokens: tuple[bytes, ...]
    module: str | None
    qualname: str
    #: Whether the sender has it under that name.
    is_named: bool
    #: Other places in which the sender has it: a module, and the steps from there.
    places: tuple[tuple[str, tuple[Any, ...]], ...]
    fingerprint: bytes
    #: Of a function: all that it is. Of a class: which version of it follows.
    state: bytes | None
    #: Of a class: which program's memory it lay in, and where.
    lineage: bytes
    address: int
    #: The process that has sent the message.
    sender: int
    #: Of what is defined again in the sender's main module, or may be in its parent's: all that it is.
    data: bytes | None = None
    #: Whether it is of a run of the main module that ended early: the parent had it at its first start.
    is_early: bool = False
    #: Whether it is of the sender's own program, and did not come to it in a message.
    is_own: bool = True


#: By identity: classes need not be hashable.
_records: dict[int, Record] = {}
_by_token: dict[bytes, Record] = {}
#: Of the last objects to which there are no weak references, what forgets them.
_kept: deque[Callable[[Any], None]] = deque()
_MOST_KEPT = 512


class Record:
    """What is known of one function or class, as long as it lives."""

    __slots__ = (
        "__weakref__",
        "body",
        "header",
        "is_complete",
        "is_like_parents",
        "is_own",
        "is_parents",
        "names",
        "places",
        "ref",
        "shape",
        "tokens",
        "version",
    )

    def __init__(self, obj: Any, token: bytes, is_own: bool) -> None:
        #: In the order in which they became known: one of this process's, and those of others that have it, too.
        self.tokens = {token: None}
        #: Whether it was made by this process's program, and not by a message.
        self.is_own = is_own
        #: Whether it is the parent's too, which this process began as a copy of; and was found to be as it is there.
        self.is_parents = self.is_like_parents = False
        self.is_complete = is_own
        self.header: Header | None = None
        #: Of what was made for a message: which version it is of; of a class, the names that this has set.
        self.version: bytes | None = None
        self.names: frozenset[Any] = frozenset()
        self.places: tuple[tuple[str, tuple[Any, ...]], ...] | None = None
        #: What `_bodies` keeps: how the class looked, and what it was sent as.
        self.shape: Any = None
        self.body: Any = None
        key = id(obj)

        def forget(_ref: object, records: Any = _records, by_token: Any = _by_token) -> None:
            # At the interpreter's end the module's own names may be gone.
            if records.get(key) is self:
                del records[key]
            for each in self.tokens:
                if by_token.get(each) is self:
                    del by_token[each]

        self.ref: Callable[[], Any]
        try:
            self.ref = weakref.ref(obj, forget)
        except TypeError:
            # What ``type X = ...`` makes.
            self.ref = lambda: obj
            _kept.append(forget)
            if len(_kept) > _MOST_KEPT:
                _kept.popleft()(None)

    def follows(self, header: Header) -> bool:
        """Whether what that message says of a class of this process's own is news of its parent's."""
        return self.is_parents and header.sender == os.getppid()


#: An object that many processes had before any has sent it is known by more; these suffice.
_MOST_TOKENS = 4
#: The first half of each token that this process gives.
_origin = os.urandom(8)
_count = iter(range(1 << 62)).__next__


def _become_another() -> None:
    global _origin
    _origin = os.urandom(8)


os.register_at_fork(after_in_child=_become_another)


def record_of(obj: Any) -> Record:
    """Its record; a new one if this process has not sent or received it yet."""
    record = _records.get(id(obj))
    if record is None or record.ref() is not obj:
        record = _records.setdefault(id(obj), _new(obj, _origin + _count().to_bytes(8, "little"), True))
    return record


def _new(obj: Any, token: bytes, is_own: bool) -> Record:
    record = Record(obj, token, is_own)
    # The first, if two threads are at it.
    return _by_token.setdefault(token, record)


def token_if_known(obj: Any) -> bytes | None:
    record = _records.get(id(obj))
    return next(iter(record.tokens)) if record is not None and record.ref() is obj else None


def note_received(obj: Any, header: Header) -> Any:
    """It was made for a message; or the one that another thread has made meanwhile."""
    record = _new(obj, header.tokens[0], False)
    known = record.ref()
    if known is not obj and known is not None:
        return known
    record.header = header
    _records[id(obj)] = record
    _note_tokens(record, header.tokens)
    return obj


def note_copy(function: Any, header: Header) -> Any:
    """It was made for a message, in which the function that the token means has another state than it has here."""
    before = _known(header.tokens)
    if before is None or not before.is_own:
        record = _by_token[header.tokens[0]] = Record(function, header.tokens[0], False)
        record.header = header
    else:
        # Here the token goes on to mean this process's own.
        token = _origin + _count().to_bytes(8, "little")
        record = _by_token[token] = Record(function, token, False)
    _records[id(function)] = record
    return function


def _adopt(obj: Any, header: Header) -> Any:
    """This process's own is what the token means."""
    known = _records.get(id(obj))
    if known is None or known.ref() is not obj:
        # Nobody knows it by a token of this process's so far.
        _records[id(obj)] = _new(obj, header.tokens[0], True)
    record = record_of(obj)
    _note_tokens(record, header.tokens)
    if not header.is_named and _is_named(header, obj):
        # There the name means another one: from here it goes by value, too.
        _pickler.note_came(header.qualname.partition(".")[0])
    if header.sender == os.getppid() and header.address == id(obj) and header.lineage == _lineage():
        record.is_parents = True
        # What goes by no name is only adopted if its data agree.
        record.is_like_parents = not header.is_named or not _unguarded.is_fork_of_prompt()
    return obj


def _note_tokens(record: Record, tokens: tuple[bytes, ...]) -> None:
    for token in tokens:
        if token not in record.tokens and len(record.tokens) < _MOST_TOKENS:
            record.tokens[token] = None
            _by_token[token] = record


def _known(tokens: tuple[bytes, ...]) -> Record | None:
    for token in tokens:
        record = _by_token.get(token)
        if record is not None and record.ref() is not None:
            return record
    return None


# --- what has a name and no code ---


def tokens_of(variable: Any) -> tuple[bytes, ...]:
    """A type variable's and the like."""
    return tuple(record_of(variable).tokens)


def known_by(tokens: tuple[bytes, ...]) -> Any:
    record = _known(tokens)
    return record.ref() if record is not None else None


def note_variable(variable: Any, tokens: tuple[bytes, ...], body: Any = None, is_own: bool = False) -> Any:
    """It was made for a message, or is this process's own and what the tokens mean; or the one that another thread has
    made meanwhile."""
    record = _records.get(id(variable)) if is_own else None
    if record is None or record.ref() is not variable:
        record = _new(variable, tokens[0], is_own)
        known = record.ref()
        if known is not variable and known is not None:
            return known
        record.body, record.is_complete = body, record.is_complete or body is None
        _records[id(variable)] = record
    _note_tokens(record, tokens)
    return variable


# --- in the sender ---


#: The fingerprint of a class that must not be taken for another one.
_LIKE_NONE = b""


def header_of(obj: Any, state: bytes | None, fingerprint: bytes) -> Header:
    """What the receiver is to recognise the object by."""
    record = record_of(obj)
    module = _fingerprints.main_named(obj.__module__)
    is_named = _resolve(module, tuple(obj.__qualname__.split("."))) is obj
    places: tuple[Any, ...] = ()
    if not is_named:
        if record.places is None:
            record.places = tuple(_places(obj, module))
        places = record.places
        if isinstance(obj, type):
            # Its code alone does not tell it from the next one that the same function has made.
            fingerprint = _fingerprints.whole(obj) or _LIKE_NONE
    data, is_early = _of_main(obj, state) if is_named and module == "__main__" else (None, False)
    header = record.header
    if header is None:
        where = (_lineage(), id(obj)) if isinstance(obj, type) else (b"", 0)
        header = Header((), module, obj.__qualname__, is_named, places, fingerprint, state, *where, 0)
    return header._replace(
        tokens=tuple(record.tokens),
        is_named=is_named,
        places=places,
        fingerprint=fingerprint,
        state=state,
        sender=os.getpid(),
        data=data,
        is_early=is_early,
        is_own=record.is_own,
    )


def _of_main(obj: Any, state: bytes | None) -> tuple[bytes | None, bool]:
    """The last two of the header."""
    top = obj.__qualname__.partition(".")[0]
    is_early = _unguarded.has_ended_early() and top in _unguarded.names
    is_early = is_early and _unguarded.names[top] is _resolve("__main__", (top,))
    if not is_early and not _pickler.is_defined_again(top):
        return None, False
    data = _fingerprints.whole(obj) if isinstance(obj, type) else state
    return data or _LIKE_NONE, is_early


def _lineage() -> bytes:
    """The same in processes that are forks of one another and have not run a main module since."""
    return f"{id(sys.modules):x} {id(sys):x} {hash('lineage'):x} {_unguarded.run!r}".encode()


#: A longer list or dictionary is not searched for a class.
_SEARCHED = 100


def _places(obj: Any, module: Any) -> list[tuple[str, tuple[Any, ...]]]:
    """Where modules have it that is not its own name: a receiver that ran the same module has its own there."""
    names = [module, "__main__"] if module != "__main__" else [module]
    found = [(name, steps) for name in names for steps in _steps_to(obj, _contents(name))]
    if not found and "<locals>" not in obj.__qualname__ and isinstance(obj, type):
        # Of `make_dataclass`, the module need not be the one that called it.
        for name, other in list(sys.modules.items()):
            if name not in names and type(other) is types.ModuleType:
                found += [(name, (key,)) for key, value in list(vars(other).items()) if value is obj]
    return found[:4]


def _contents(module: Any) -> dict[str, Any]:
    found = sys.modules.get(module) if isinstance(module, str) else None
    return vars(found) if isinstance(found, types.ModuleType) else {}


def _steps_to(obj: Any, names: dict[str, Any]) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = []
    deeper: list[tuple[Any, ...]] = []
    for name, value in list(names.items()):
        if value is obj:
            found.append((name,))
        elif type(value) in (list, tuple, dict) and len(value) <= _SEARCHED:
            items = value.items() if type(value) is dict else enumerate(value)
            keyed = type(value) is dict
            deeper += [
                (name, (key,))
                for key, each in list(items)
                if each is obj and (not keyed or type(key) in (str, int))
            ]
        elif isinstance(value, type) and _fingerprints.is_made_by_program(value):
            deeper += [(name, key) for key, each in list(vars(value).items()) if each is obj]
    return found or deeper


# --- in the receiver ---


def _resolve(module: Any, steps: tuple[Any, ...]) -> Any:
    """What is there: a step is an attribute's name, or in a tuple of one the key of an item."""
    found: Any = sys.modules.get(module) if isinstance(module, str) else None
    return _below(found, steps)


def _below(found: Any, steps: tuple[Any, ...]) -> Any:
    if found is None:
        return None
    try:
        for step in steps:
            found = found[step[0]] if isinstance(step, tuple) else vars(found)[step]
    except (LookupError, TypeError):
        return None
    return found


def _first_of_main(name: str) -> Any:
    """What a run of the main module that ended early has under that name."""
    if _unguarded.has_ended_early():
        return _unguarded.names.get(name)
    return _pickler.at_the_first_start(name)


def _candidates(header: Header) -> list[Any]:
    """What this process has where the sender has it."""
    if header.is_named:
        steps = tuple(header.qualname.split("."))
        named = _resolve(header.module, steps)
        return [_below(_first_of_main(steps[0]), steps[1:]), named] if header.is_early else [named]
    found = []
    for module, steps in header.places:
        if module not in sys.modules:
            try:
                importlib.import_module(module)
            except Exception:
                continue
        found.append(_resolve(module, steps))
    return found


def _is_named(header: Header, obj: Any) -> bool:
    return _resolve(header.module, tuple(header.qualname.split("."))) is obj


def _fits(obj: Any, header: Header) -> bool:
    named = (_fingerprints.main_named(obj.__module__), obj.__qualname__)
    if named != (header.module, header.qualname):
        return False
    if header.is_named:
        if header.is_early and not _pickler.is_defined_again(obj.__qualname__.partition(".")[0]):
            # By name: here it has meant this one only.
            return True
        if _fingerprints.fingerprint(obj) != header.fingerprint:
            return False
        # As by name: what the receiver's own holds is its own affair, while the name means one thing.
        return header.data is None or header.data == _all_of(obj)
    if header.module != "__main__" and _is_named(header, obj):
        # A module that was loaded again there: the name means another one.
        return False
    if isinstance(obj, type):
        return header.fingerprint != _LIKE_NONE and _fingerprints.whole(obj) == header.fingerprint
    return header.state is not None and _fingerprints.state(obj) == header.state


def _all_of(obj: Any) -> bytes | None:
    return _fingerprints.whole(obj) if isinstance(obj, type) else _fingerprints.state(obj)


def find_class(header: Header, bases: Callable[[], Iterable[Any]]) -> Any:
    """The class of this process's that the message means; ``None`` if it has none. ``bases`` tells its bases."""
    record = _known(header.tokens)
    known = record.ref() if record is not None else None
    if known is not None:
        return known
    is_relative = header.lineage == _lineage()
    for each in _candidates(header):
        # In a relative's memory the same class lies at the same place: another one was defined since the fork.
        if (
            isinstance(each, type)
            and not (is_relative and id(each) != header.address)
            and _may_be(each, header)
        ):
            return _adopt(each, header)
    # One that is found by no name: in a relative the one at that place, else the only one.
    own = [each for each in _like(header, bases()) if _is_own(each) and _may_be(each, header)]
    if not header.is_named or header.is_early:
        own = [each for each in own if not _is_named(header, each)]
    elif not is_relative:
        return None
    if is_relative:
        own = [each for each in own if id(each) == header.address]
    if not header.is_own:
        # The sender's program has none such. One of here that is known by a token is another one to the sender.
        own = [each for each in own if token_if_known(each) is None]
    return _adopt(own[0], header) if len(own) == 1 else None


def _may_be(cls: type, header: Header) -> bool:
    return not is_another(cls, header.tokens) and _fits(cls, header)


def is_another(obj: Any, tokens: tuple[bytes, ...]) -> bool:
    """Whether it is known not to be what the tokens mean: the process that gave both knows that they are two."""
    record = _records.get(id(obj))
    if record is None or record.ref() is not obj:
        return False
    origins = {token[:8] for token in record.tokens}
    return any(token[:8] in origins for token in tokens)


def _is_own(cls: type) -> bool:
    record = _records.get(id(cls))
    return record is None or record.ref() is not cls or record.is_own


def _like(header: Header, bases: Iterable[Any]) -> list[type]:
    """The classes of that module and name that derive from those."""
    families: list[list[type]] = [type.__subclasses__(base) for base in bases if isinstance(base, type)]
    found: list[type] = []
    for each in min(families, key=len, default=[]):
        if type.__dict__["__qualname__"].__get__(each) == header.qualname:
            found.append(each)
    return found


def find_function(header: Header) -> Any:
    """As `find_class`, for a function: a copy that has changed since is not the one that is meant."""
    for each in _candidates(header):
        if type(each) is types.FunctionType and _fits(each, header) and not _is_outdated(each, header):
            return _adopt(each, header)
    record = _known(header.tokens)
    known = record.ref() if record is not None else None
    if record is None or known is None:
        return None
    if not record.is_complete:
        # In the middle of the message that brings it.
        return known
    return known if header.state is not None and _fingerprints.state(known) == header.state else None


def _is_outdated(function: Any, header: Header) -> bool:
    """Whether it is a copy that came by that name, and the sender's has changed since.

    What has changed in the copy is the receiver's own affair, as with a function of its own.
    """
    record = _records.get(id(function))
    if not header.is_named or record is None or record.ref() is not function or record.is_own:
        return False
    return record.is_complete and record.version != header.state


def find_cached(header: Header) -> Any:
    """As `find_class`, for what `functools.lru_cache` makes."""
    for each in _candidates(header):
        if hasattr(each, "cache_parameters") and _fits(each.__wrapped__, header):
            return _adopt(each, header)
    record = _known(header.tokens)
    return record.ref() if record is not None else None
