"""The exception of a queue that was shut; a module of its own because the standard library's ``queue`` costs time."""

import queue
import sys

__all__ = ["ShutDown"]

if sys.version_info >= (3, 13):
    _Base = queue.ShutDown
else:
    _Base = Exception


class ShutDown(_Base):
    """The queue was shut by ``shutdown``: nothing can be put, and there is nothing left to get.

    A subclass of ``queue.ShutDown`` from Python 3.13 on.
    """


# Where its users find it, and pickles too.
ShutDown.__module__ = "manyhands.queues"
