"""Every call by a descriptor's number is listed, with the reason why it may touch no file of a user's (issue 11).

A number that the engine remembers may have been closed by other code and be a user's file. So what is kept is a
`Remembered`, which looks before each use; and what could destroy something of a file is not done by number at all.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SYS = "crates/manyhands/src/sys/"

# Calls that read, write, change, map, end or close what a number means, or that make a descriptor of one.
CALLS = r"""
    allocate|fallocate|ftruncate|mmap|msync|read|readv|pread|preadv|write|writev|pwrite|pwritev|seek|splice|tee
    |copy_file_range|sendfile|ioctl|fcntl|fcntl_\w+|flock|recv|recvfrom|recvmsg|send|sendto|sendmsg|setsockopt|shutdown
    |waitid|pidfd_send_signal|close|dup|dup2|dup3
""".replace("\n", "").replace(" ", "")
BY_NUMBER = re.compile(rf"\b(?:libc|rustix::\w+)::({CALLS})\(|\b(borrow_raw|from_raw_fd)\(")

RIGHT_AFTER = "a descriptor that this function, or its caller, has just made or been given"
LOOKED_AT = "what `Remembered::get` has just looked at"
USERS_OWN = "a connection's number is its user's, as the standard library's"
PASSED = "a number on the command line of a process that has only begun"

ALLOWED: dict[str, dict[str, tuple[int, str]]] = {
    "alone.rs": {"mmap": (1, "privately, at a place of its own; looked at afterwards, before it is used")},
    "bell.rs": {"read": (2, LOOKED_AT), "write": (1, LOOKED_AT)},
    "descriptor.rs": {
        "borrow_raw": (1, USERS_OWN),
        "close": (1, USERS_OWN),
        "read": (1, USERS_OWN),
        "recv": (2, USERS_OWN),
        "sendmsg": (1, USERS_OWN),
        "writev": (1, USERS_OWN),
    },
    "inherited.rs": {
        "borrow_raw": (1, PASSED),
        "fcntl_setfd": (1, PASSED),
        "from_raw_fd": (1, PASSED),
    },
    "life_pipe.rs": {"fcntl": (3, "the duplicate of what was passed, found to be a pipe's")},
    "memory.rs": {
        "borrow_raw": (1, "for the one call that duplicates it"),
        "fcntl_add_seals": (2, RIGHT_AFTER),
        "fcntl_dupfd_cloexec": (1, "makes another number of the same"),
        "fcntl_get_seals": (2, "changes nothing"),
        "ftruncate": (1, RIGHT_AFTER),
        "mmap": (1, RIGHT_AFTER),
        "seek": (1, RIGHT_AFTER),
        "write": (1, RIGHT_AFTER),
    },
    "namespaces.rs": {
        "from_raw_fd": (1, "opened by the call before"),
        "ioctl": (1, "opened by the line before"),
    },
    "pages.rs": {"fallocate": (1, f"before Linux 5.14; {LOOKED_AT}; keeps a file's length and bytes")},
    "passing.rs": {
        "shutdown": (1, "the fork server's end of a pair that it has made, for a child in reserve"),
        "recvmsg": (1, f"{LOOKED_AT}, or the fork server's own, which runs nobody's code"),
        "sendmsg": (1, f"{LOOKED_AT}, or the fork server's own, which runs nobody's code"),
    },
    "pidfd.rs": {
        "ioctl": (1, f"{LOOKED_AT}; reads; what is no pidfd refuses this one"),
        "pidfd_send_signal": (1, f"{LOOKED_AT}; what is no pidfd is refused"),
        "shutdown": (1, RIGHT_AFTER),
        "waitid": (2, f"{LOOKED_AT}, or {RIGHT_AFTER}; what is no pidfd is refused"),
    },
    "polling.rs": {
        "borrow_raw": (1, "of the borrow that it is polled for"),
        "recv": (1, "only where `ppoll` is refused; peeks, and takes nothing"),
    },
    "remembered.rs": {
        "fcntl": (2, "marks what was given just now; asks for the mark"),
        "fcntl_dupfd_cloexec": (2, f"{RIGHT_AFTER}, or of what is borrowed for the call"),
    },
    "sentinel.rs": {"waitid": (1, RIGHT_AFTER)},
}

PYTHON_CALLS = re.compile(
    r"\bos\.(close|read|write|pread|pwrite|dup2?|ftruncate|lseek|writev|sendfile|fdopen)\("
)
PYTHON_ALLOWED: dict[str, dict[str, tuple[int, str]]] = {
    "_child.py": {
        "close": (4, "passed to this process; before the main module runs"),
        "pread": (1, "found to be a notebook"),
        "pwrite": (1, "found to be a notebook"),
    },
    "_zygote.py": {"close": (3, "passed to this process, or the zygote's, in a child that has only begun")},
    "process.py": {"close": (1, "opened just before")},
}

# What owns a descriptor for longer than a call, and is no `Remembered`.
OWNERS = re.compile(
    r"^ +(?:pub(?:\([\w ]+\))? )?(\w+): [^;(={]*\b(?:OwnedFd|RawFd|File)\b[^;={]*,$", re.MULTILINE
)
ALLOWED_OWNERS = {
    "crates/manyhands/src/launch/zygote/message.rs": "a request, as the fork server has just received it",
    "crates/manyhands/src/launch/zygote/reserve.rs": "the fork server's, as those of server.rs",
    "crates/manyhands/src/launch/zygote/server.rs": "the fork server's: it runs nobody's code once it has them",
    "crates/manyhands/src/sys/passing.rs": "what has just been received",
    "crates/manyhands/src/sys/remembered.rs": "Remembered itself",
    "crates/manyhands-python/src/launch.rs": "the fork server's; and its end of the socket, until it is started",
}

TESTS = re.compile(
    r"^#\[cfg\(test\)\]\n(?:pub(?:\([\w ]+\))? )?(?:mod|fn) \w+.*?^\}$", re.DOTALL | re.MULTILINE
)


def sources(folder: str, ending: str) -> dict[str, str]:
    """The code of each file: without comments, and without the tests in it."""
    found = {}
    for path in sorted((ROOT / folder).rglob(f"*{ending}")):
        code = TESTS.sub("", path.read_text())
        found[str(path.relative_to(ROOT))] = re.sub(r"^\s*(//|#).*", "", code, flags=re.MULTILINE)
    return found


def counted(code: str, pattern: re.Pattern[str]) -> dict[str, int]:
    names = Counter(next(filter(None, match.groups())) for match in pattern.finditer(code))
    return dict(sorted(names.items()))


def expected(allowed: dict[str, tuple[int, str]]) -> dict[str, int]:
    return {call: count for call, (count, _reason) in sorted(allowed.items())}


def test_each_call_by_number_in_rust_is_listed() -> None:
    found = {}
    for folder in ("crates/manyhands/src", "crates/manyhands-python/src", "crates/manyhands-sync/src"):
        for name, code in sources(folder, ".rs").items():
            if not name.endswith("tests.rs") and (calls := counted(code, BY_NUMBER)):
                found[name.removeprefix(SYS)] = calls
    assert found == {name: expected(calls) for name, calls in ALLOWED.items()}


def test_the_memory_is_neither_written_nor_punched_nor_mapped_by_number() -> None:
    """`fallocate` keeps the length and has no other flag; what is shared is mapped in `map_forever`: before the number
    is remembered, and where mapping again is refused (valgrind), looked at afterwards, before it is used."""
    code = "".join(sources(SYS, ".rs").values())
    assert re.findall(r"FallocateFlags::(\w+)", code) == ["KEEP_SIZE"]
    assert len(re.findall(r"\bmmap\(", code)) == 2
    assert "MapFlags::SHARED" not in sources(SYS, ".rs")[f"{SYS}alone.rs"]
    assert len(re.findall(r"\bmap_forever\(", code)) == 3


def test_each_call_by_number_in_python_is_listed() -> None:
    found = {
        name.removeprefix("python/manyhands/"): calls
        for name, code in sources("python/manyhands", ".py").items()
        if not name.startswith("python/manyhands/demo/") and (calls := counted(code, PYTHON_CALLS))
    }
    assert found == {name: expected(calls) for name, calls in PYTHON_ALLOWED.items()}


def test_who_keeps_a_descriptor_looks_at_it_before_each_use() -> None:
    owners = {
        name
        for folder in ("crates/manyhands/src", "crates/manyhands-python/src")
        for name, code in sources(folder, ".rs").items()
        if OWNERS.search(struct_bodies(code))
    }
    assert owners == set(ALLOWED_OWNERS)


def struct_bodies(code: str) -> str:
    return "".join(
        re.findall(r"^(?:pub(?:\([\w ]+\))? )?struct \w+[^;{]*\{(.*?)^\}", code, re.DOTALL | re.MULTILINE)
    )


def test_this_list_sees_what_it_should() -> None:
    assert counted("libc::fallocate(fd, 0, 0, 1)", BY_NUMBER) == {"fallocate": 1}
    assert counted("rustix::io::pwrite(fd, b)", BY_NUMBER) == {"pwrite": 1}
    assert counted("unsafe { OwnedFd::from_raw_fd(number) }", BY_NUMBER) == {"from_raw_fd": 1}
    assert OWNERS.search(struct_bodies("struct Kept {\n    socket: OwnedFd,\n}\n"))
    assert not OWNERS.search(struct_bodies("struct Kept {\n    socket: Remembered,\n}\n"))
