"""What objects say when they are pickled outside of any start, copied, shown, used after they were closed, or in the
wrong way: the standard library's outcomes, types of exceptions and texts."""

from __future__ import annotations

import subprocess
import sys

import alike
import pytest

#: What differs on purpose: which use, what the standard library says, and what we say.
DIFFERENT = [
    # All queues are of one kind here.
    (r"(qsize|full) of a (fresh|closed) SimpleQueue", "AttributeError.*", "0|False"),
    # The class that cannot be pickled is another one.
    (
        r".*pickle of (a result|an executor|RawValue)",
        "TypeError: .cannot pickle '.*' object.*",
        "TypeError: .cannot pickle.*",
    ),
]


@pytest.mark.deadline(alike.SECONDS + 60)
@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_every_use_ends_as_in_the_standard_library(method: str) -> None:
    alike.same_outcomes("odd_uses.py", DIFFERENT, 450, method)


def test_what_is_pickled_within_our_own_pickling_may_be_pickled() -> None:
    """A reducer that pickles by itself, as in the standard library while a process is being started."""
    program = """
import manyhands, pickle
class Holder:
    def __init__(self, queue): self.queue = queue
    def __reduce__(self): return pickle.loads, (pickle.dumps(self.queue),)
queue, carrier = manyhands.Queue(), manyhands.SimpleQueue()
carrier.put(Holder(queue))
carrier.get().put(1)
assert queue.get() == 1
class Sender:
    def __reduce__(self):
        # A whole message of another queue's, in the middle of this one.
        carrier.put([queue]); carrier.get()
        return pickle.loads, (pickle.dumps(queue),)
other = manyhands.SimpleQueue()
other.put([Sender(), Sender()])
try: pickle.dumps(queue)
except RuntimeError: print("refused")
class Raises:
    def __reduce__(self): raise KeyError("no")
for what in ([queue, Raises()], Raises()):
    try: other.put(what)
    except KeyError: pass
    try: pickle.dumps(queue)
    except RuntimeError: print("refused")
other.get()[0].put(2)
assert queue.get() == 2
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100)
    assert (done.stdout, done.stderr) == ("refused\n" * 3, "")
